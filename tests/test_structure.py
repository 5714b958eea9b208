"""The package stays small, and its imports go one way."""

import ast
import os
import pathlib
import subprocess
import sys

import d2lvae

PACKAGE = pathlib.Path(d2lvae.__file__).parent
ROOT_FILES = (
    """__init__ config data discriminators figures losses runs steps training vae""".split()
)
MOST_LINES, MOST_TOGETHER, WIDTH = 250, 1500, 100

TIERS = [  # a module imports from its own tier and from those above it in this list
    {"engine", "storage", "config"},
    {"losses", "vae", "discriminators", "figures", "sources"},
    {"data", "steps"},
    {"training"},
    {"runs"},
    {"evaluation", "demo", "distributed"},
]
LAZY = ("engine.process_group", "distributed.process_group")  # one process alone never needs it
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"  # the package itself, which may import everything
}


def tier(module):
    [number] = [i for i, parts in enumerate(TIERS) if module.split(".")[0] in parts]
    return number


def targets(module, node):
    """What of the package an import statement names: modules, or names in the package itself."""
    if isinstance(node, ast.Import):
        return [a.name[len("d2lvae.") :] for a in node.names if a.name.split(".")[0] == "d2lvae"]
    source = (node.module or "").split(".") if node.module else []
    if node.level:
        source = module.split(".")[: -node.level] + source
    elif source[0] == "d2lvae":
        source = source[1:]
    else:
        return []
    names = [".".join([*source, alias.name]) for alias in node.names]
    known = {*MODULES, *(name.split(".")[0] for name in MODULES)}
    return [name if name in known or not source else ".".join(source) for name in names]


def imports(module, nodes):
    """Pairs of a module and what it imports of the package, in these nodes."""
    found = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {(module, target) for node in found for target in targets(module, node)}


def all_imports(module):
    return imports(module, ast.walk(ast.parse(MODULES[module].read_text())))


def imports_at_import(module):
    """Those that run when the module is imported: all but what stands in functions."""
    nodes, found = [ast.parse(MODULES[module].read_text())], []
    while nodes:
        node = nodes.pop()
        found.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            nodes += ast.iter_child_nodes(node)
    return imports(module, found)


def test_ten_files_of_a_sittings_length_and_no_other_at_the_root():
    files = {path.stem: path.read_text().splitlines() for path in PACKAGE.glob("*.py")}
    assert sorted(files) == ROOT_FILES
    lengths = {name: len(lines) for name, lines in files.items()}
    assert max(lengths.values()) <= MOST_LINES, lengths
    assert sum(lengths.values()) <= MOST_TOGETHER, lengths
    assert not [line for lines in files.values() for line in lines if len(line) > WIDTH]


def test_every_module_has_its_tier():
    assert {module.split(".")[0] for module in MODULES} == set().union(*TIERS)


def test_imports_go_one_way():
    found = set().union(*map(all_imports, MODULES))
    assert (
        LAZY in found and ("runs", "training") in found and ("storage.records", "config") in found
    )
    of_package = {target for _, target in found if target.split(".")[0] not in set().union(*TIERS)}
    assert of_package == {"__version__"}  # all that the package itself has before its modules
    wrong = {
        (module, target)
        for module, target in found - {LAZY}
        if target != "__version__" and tier(target) > tier(module)
    }
    assert not wrong
    engines = {target for module, target in found - {LAZY} if module.startswith("engine.")}
    assert not {target for target in engines if target.split(".")[0] not in ("engine", "storage")}


def test_no_module_imports_itself_by_way_of_others():
    left = {module: {name for _, name in imports_at_import(module)} for module in MODULES}
    left = {module: names & set(left) for module, names in left.items()}
    while True:
        free = {module for module, names in left.items() if not names & set(left)}
        if not free:
            break
        left = {module: names for module, names in left.items() if module not in free}
    assert not left  # each of these is in a circle or imports one that is


def test_one_process_alone_imports_nothing_for_several():
    code = "import d2lvae, sys; print(*sorted(sys.modules), sep='\\n')"
    env = {name: value for name, value in os.environ.items() if not name.startswith("DMLC_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, check=True, text=True
    )
    found = [name for name in done.stdout.split() if name.startswith("d2lvae.")]
    assert "d2lvae.runs" in found
    assert not [name for name in found if name.startswith("d2lvae.distributed")]
