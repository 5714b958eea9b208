"""Which names a notebook's cells set: its parameters cell, and the one that papermill injects."""

import ast

INJECTED = "# Parameters\n"  # what papermill's cell begins with
PAPERMILLS_OWN = "PAPERMILL_"  # names that papermill adds to it
PYTHON_MAGICS = ("time", "capture")  # of a whole cell; what it sets stays set


def parameter_names(namespace, known):
    """All names that a notebook's cells set as parameters, in order: two lists.

    The parameters cell is the last of the cells with the most parameters: cells before it are older
    versions. A name that it sets to a constant and that is no parameter is misspelt, so it counts
    as well. A cell behind it can change or add parameters.

    `namespace` is the notebook's `globals()`, with its cells so far in `In`. A script has no such
    record: then every one of the `known` names is a parameter.  The first list has those in the
    parameters cell, and known ones in cells behind it; the second those in the cells that papermill
    injects, known or not, that are not in the first.
    """
    cells = [
        (source.startswith(INJECTED), names)
        for source in namespace.get("In", ())
        for names in [_assigned(source, known)]
        if names
    ]
    sizes = [0 if injected else sum(name in known for name in names) for injected, names in cells]
    if not any(sizes):
        return [name for name in known if name in namespace], []
    main = max(place for place, size in enumerate(sizes) if size > max(sizes) / 2)
    behind = cells[main + 1 :]
    listed = dict.fromkeys(cells[main][1])
    listed.update(
        {name: None for own, names in behind if not own for name in names if name in known}
    )
    injected = {name: None for own, names in behind if own for name in names if name not in listed}
    return tuple(
        [name for name in names if name in namespace and not name.startswith(PAPERMILLS_OWN)]
        for names in (listed, injected)
    )


def changes(namespace, given):
    """What a notebook's parameters are now where they are not as `given`, in words."""
    return [
        f"{name} is {repr(namespace[name])[:80]} now and was {value!r}"
        for name, value in given.items()
        if repr(namespace.get(name, value)) != repr(value)
    ]


def _assigned(source, known):
    """The names that a cell sets to constants; none if it does more than that.

    Yet a cell that sets two parameters or more is taken for one of parameters, whatever else it
    does; then parameters count that it sets to something else, too.
    """
    statements = _statements(source)
    others = [node for node in statements if not _sets_constant(node)]
    names = _targets(node for node in statements if _sets_constant(node))
    names += [name for name in _targets(others) if name in known]
    return names if not others or sum(name in known for name in names) > 1 else []


def _statements(source):
    """A cell's statements, or those under its `%%time`; without texts and lines of `%` and `!`.

    IPython keeps `%%time` as `get_ipython().run_cell_magic('time', '', source)`, and the lines as
    calls of the same kind.
    """
    try:
        found = ast.parse(source).body
    except SyntaxError:
        return []
    kept = []
    for node in found:
        value = node.value if isinstance(node, ast.Expr) else None
        if _is_magic(value):
            texts = [getattr(argument, "value", "") for argument in value.args]
            kept += _statements(texts[2]) if texts[0] in PYTHON_MAGICS and texts[2:] else []
        elif not isinstance(value, ast.Constant):
            kept.append(node)
    return kept


def _is_magic(node):
    """Whether an expression calls a method of `get_ipython()`."""
    called = getattr(getattr(getattr(node, "func", None), "value", None), "func", None)
    return getattr(called, "id", "") == "get_ipython"


def _targets(statements):
    """The names that statements set, in order."""
    targets = [
        target
        for node in statements
        for target in getattr(node, "targets", [getattr(node, "target", None)])
    ]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _sets_constant(node):
    return isinstance(node, (ast.Assign, ast.AnnAssign)) and _is_constant(node.value)


def _is_constant(node):
    """Whether an expression names nothing and calls nothing: `-1`, `2 * 32`, `[1, 2]`, `'text'`."""
    return node is not None and not any(
        isinstance(part, (ast.Name, ast.Call, ast.Attribute)) for part in ast.walk(node)
    )
