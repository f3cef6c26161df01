"""The modules that a source file imports from the folder that it is run from; nothing is imported for it."""

from __future__ import annotations

import ast


def imported_roots(source: bytes) -> frozenset[str]:
    """Return the first parts of the absolute names that a source file imports, wherever the statements stand.

    Empty if the file is not Python: the server says what is wrong with it.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module)
    return frozenset(name.partition(".")[0] for name in names)
