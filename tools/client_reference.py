"""Write docs/api/client.md: the client's reference, built from its docstrings.

python tools/client_reference.py
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TARGET = Path(__file__).parents[1] / "docs" / "api" / "client.md"
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Example):$")
HEAD = """# Client reference

Built from the docstrings by `python tools/client_reference.py`; the [guide](../guide/client.md) tells how the parts
belong together. `AsyncClient`, `AsyncRun`, `AsyncSearch` and `AsyncExperiment` have the methods of their blocking twins, to be
awaited; what is an iterator there is an async iterator here.
"""
GROUPS = {
    "Clients": ("lab_client", ["Client", "AsyncClient"]),
    "Handles": (
        "lab_client",
        ["Run", "AsyncRun", "Search", "AsyncSearch", "Experiment", "AsyncExperiment"],
    ),
    "Values: searches": ("lab_client.searches", None),
    "Values: runs and servers": ("lab_client.runs", None),
    "Values: code and environment": ("lab_client.provenance", None),
    "Values: code to send": ("lab_client.uploads.bundle", None),
    "Values: configs": ("lab_client.configs", None),
    "Values: events and metrics": ("lab_client.events", None),
    "Values: images, texts, histograms": ("lab_client.media", None),
    "History": ("lab_client.history", None),
    "Errors": ("lab_client.errors", None),
}


def markdown(doc: str) -> str:
    """Return a Google-style docstring as Markdown."""
    lines: list[str] = []
    section = ""
    for line in inspect.cleandoc(doc).splitlines():
        if found := SECTION.match(line):
            if section == "Example":
                lines.append("```")
            section = found[1]
            lines.append(f"**{section}**\n" if section != "Example" else "```pycon")
        elif section == "Example":
            lines.append(line.removeprefix("    ").replace("  # doctest: +SKIP", ""))
        elif section and (item := re.match(r"    (\w+): (.*)", line)):
            lines.append(f"- `{item[1]}`: {item[2]}")
        elif section:
            lines.append(line.removeprefix("    ") if line.startswith("     ") else line.strip())
        else:
            lines.append(line)
    if section == "Example":
        while lines and not lines[-1]:
            lines.pop()
        lines.append("```")
    return "\n".join(lines)


def signature(name: str, value: Any) -> str:
    """Return a function's signature, a line for each parameter when it is long."""
    made = inspect.signature(value)
    shown: list[str] = []
    for parameter in made.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        star = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        text = f"{star}{parameter.name}: {parameter.annotation}"
        if parameter.default is not parameter.empty:
            text += f" = {parameter.default!r}"
        shown.append(text)
    if "*" in shown and shown[-1].startswith("**"):
        shown.remove("*")
    prefix = "async " if inspect.iscoroutinefunction(value) else ""
    result = "" if name[0].isupper() else f" -> {made.return_annotation}"
    line = f"{prefix}{name}({', '.join(shown)}){result}"
    if len(line) > 96:
        parameters = "".join(f"    {text},\n" for text in shown)
        line = f"{prefix}{name}(\n{parameters}){result}"
    return f"```text\n{line}\n```\n"


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class and of its private bases."""
    seen = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("lab_client"):
            continue
        for name, value in vars(base).items():
            is_member = inspect.isfunction(value) or isinstance(value, property)
            if is_member and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, value


def class_section(kind: type) -> Iterator[str]:
    """Yield the Markdown of one class."""
    bases = [base.__name__ for base in kind.__bases__ if base.__module__ == kind.__module__]
    yield f"### {kind.__name__}{f' ({bases[0]})' if bases else ''}\n"
    yield markdown(kind.__doc__ or "") + "\n"
    if kind.__name__ in ("Client", "AsyncClient"):
        from lab_client.transport.base import BaseClient

        yield signature(kind.__name__, BaseClient.__init__)
        yield markdown((BaseClient.__doc__ or "").partition("\n\n")[2]) + "\n"
    if kind.__name__.startswith("Async"):
        return
    for name, value in members(kind):
        if isinstance(value, property):
            yield f"#### {kind.__name__}.{name}\n\n{markdown(value.__doc__ or '')}\n"
        elif value.__doc__:
            yield f"#### {kind.__name__}.{name}\n"
            yield signature(name, value)
            yield markdown(value.__doc__) + "\n"


def classes_of(module: ModuleType, names: list[str] | None) -> Iterator[type]:
    """Yield the named classes of a module, or all that it defines, in their order."""
    for name in names or list(vars(module)):
        value = getattr(module, name)
        if names or (
            inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_"
        ):
            yield value


def reference() -> str:
    """Return the whole reference."""
    import importlib

    parts = [HEAD]
    for title, (module_name, names) in GROUPS.items():
        parts.append(f"## {title}\n")
        for kind in classes_of(importlib.import_module(module_name), names):
            parts.extend(class_section(kind))
    facade = importlib.import_module("lab_client.experiment")
    parts.append(f"## The module `lab_client.experiment`\n\n{markdown(facade.__doc__ or '')}\n")
    for name in facade.__all__:
        value = getattr(facade, name)
        parts += [
            f"#### experiment.{name}\n",
            signature(name, value),
            markdown(value.__doc__) + "\n",
        ]
    text = "\n".join(parts)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(reference())
    sys.stdout.write(f"{TARGET.relative_to(TARGET.parents[2])} is written\n")
