"""The names that a module's source imports, wherever the statements stand; nothing is imported for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def imported_names(source: bytes, module: str, is_package: bool) -> frozenset[str]:
    """Return the absolute names of all modules that the source may import.

    Of `from a import b` both `a` and `a.b`: only who looks for them can tell whether `b` is a module.
    Empty if the source is not Python.

    Args:
        source: of the module.
        module: its name, which relative imports count from.
        is_package: whether it is a package, that is, an `__init__.py`.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    package = module if is_package else module.rpartition(".")[0]
    return frozenset(name for node in ast.walk(tree) for name in _names(node, package) if name)


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, package)
        if base is not None:
            yield base
            yield from (f"{base}.{a.name}" if base else a.name for a in node.names if a.name != "*")


def _absolute(node: ast.ImportFrom, package: str) -> str | None:
    """Return the absolute name of what a `from` names, None if it lies above all packages."""
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    if node.level > len(parts):
        return None
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)
