"""Docs of items: the comment above or beside a declaration, or the docstring under it."""

from __future__ import annotations

import ast
import inspect
import textwrap

from lab_core.configs.classes.marker import ConfigsMarker, declares_items
from lab_core.configs.classes.spec import spec_of


def item_docs(cls: type) -> dict[str, str]:
    """Return the docs of the items declared in one class's body; empty if there is no source code."""
    try:
        source = textwrap.dedent("".join(inspect.getsourcelines(cls)[0]))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    body = next((node.body for node in tree.body if isinstance(node, ast.ClassDef)), [])
    lines = source.splitlines()
    docs: dict[str, str] = {}
    for i, node in enumerate(body):
        name = _declared_name(node)
        if name is None:
            continue
        doc = (
            _docstring(body[i + 1] if i + 1 < len(body) else None)
            or _comment_beside(lines, node)
            or _comment_above(lines, node)
        )
        if doc:
            docs[name] = doc
    return docs


def _declared_name(node: ast.stmt) -> str | None:
    if isinstance(node, ast.AnnAssign):
        target: ast.expr = node.target
    elif isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def _docstring(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        value = node.value.value
        if isinstance(value, str):
            return inspect.cleandoc(value)
    return ""


def _comment_beside(lines: list[str], node: ast.stmt) -> str:
    line = lines[(node.end_lineno or node.lineno) - 1].encode()
    rest = line[node.end_col_offset or 0 :].decode(errors="replace").strip()
    return rest.lstrip("#").strip() if rest.startswith("#") and not _is_directive(rest) else ""


def _comment_above(lines: list[str], node: ast.stmt) -> str:
    found: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        text = line.strip()
        if not text.startswith("#"):
            break
        if not _is_directive(text):
            found.append(text.lstrip("#").strip())
    return "\n".join(reversed(found)).strip()


def _is_directive(comment: str) -> bool:
    """Return whether a comment is for a tool such as a linter."""
    return comment.lstrip("# ").startswith(
        ("noqa", "type:", "pyright:", "mypy:", "fmt:", "pragma:")
    )


def all_docs(cls: type[ConfigsMarker]) -> dict[str, str]:
    """Return the docs of all items: from the nearest class that has one, else of the option's function."""
    sources = spec_of(cls).sources
    docs: dict[str, str] = {}
    for base in cls.__mro__:
        for name, doc in item_docs(base).items() if declares_items(base) else ():
            docs.setdefault(name, doc)
    for key, source in sources.items():
        if source.nested is not None and "." not in key:
            inner = all_docs(source.nested)
            docs.update({f"{key}.{k}": doc for k, doc in inner.items() if f"{key}.{k}" in sources})
    for key, source in sources.items():
        if key not in docs and source.options:
            function = next(iter(source.options.values())).option.function
            docs[key] = inspect.cleandoc(getattr(function, "__doc__", None) or "").partition(
                "\n\n"
            )[0]
    return {key: doc for key, doc in docs.items() if doc and key in sources}
