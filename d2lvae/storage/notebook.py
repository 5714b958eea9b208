"""Which names a notebook's cells set: its parameters cell, and the one that papermill injects."""

import ast

__all__ = ["changes", "parameter_names"]

INJECTED = "# Parameters\n"  # what papermill's cell begins with
PAPERMILLS_OWN = "PAPERMILL_"  # names that papermill adds to it


def parameter_names(namespace, known):
    """All names that a notebook's cells set as parameters, in order.

    The parameters cell is the last of the cells with the most parameters: cells before it are older
    versions. A name in it that is no parameter is misspelt, so it counts as well. A cell behind it
    can change or add parameters.

    Parameters
    ----------
    namespace : dict
        The notebook's `globals()`, with its cells so far in `In`. A script has no such record: then
        every known name is a parameter.
    known : iterable of str
        The names of all parameters.

    Returns
    -------
    listed : list of str
        Those in the parameters cell, and known ones in cells behind it.
    injected : list of str
        Those in the cells that papermill injects, whether known or not, that are not listed.
    """
    cells = [
        (source.startswith(INJECTED), names)
        for source in namespace.get("In", ())
        for names in [_assigned(source)]
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


def _assigned(source):
    """The names that a cell sets, if it does nothing but set names to constants; else none."""
    lines = ("" if line.startswith(("%", "!")) else line for line in source.splitlines())
    try:
        statements = ast.parse("\n".join(lines)).body
    except SyntaxError:
        return []
    names = []
    for node in statements:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not _is_constant(node.value):
            return []
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def _is_constant(node):
    """Whether an expression names nothing and calls nothing: `-1`, `2 * 32`, `[1, 2]`, `'text'`."""
    return node is not None and not any(
        isinstance(part, (ast.Name, ast.Call, ast.Attribute)) for part in ast.walk(node)
    )
