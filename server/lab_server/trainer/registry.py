"""The experiments that can be run: found by entry points and by what `--experiments` names."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lab_core.configs import BaseConfigs, schema
from lab_core.provenance import Code, code_of
from lab_server.model.sources import is_file

ENTRY_POINTS = "lab.experiments"


@dataclass(frozen=True, slots=True)
class Registered:
    """An experiment, or why there is none of this name.

    Attributes:
        configs: its config class, None when error says why.
        schema: what the class's schema is as JSON, None when error says why.
        error: one sentence, with the last line of the traceback.
        traceback: where it was raised, empty when nothing was.
        code: its files, as they were when it was imported.
    """

    name: str
    configs: type[BaseConfigs] | None
    schema: dict[str, Any] | None
    error: str = ""
    traceback: str = ""
    code: Code | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the server needs to know, as plain data."""
        return {
            "name": self.name,
            "schema": self.schema,
            "error": self.error,
            "traceback": self.traceback,
        }


def find(sources: Sequence[str]) -> dict[str, Registered]:
    """Import every experiment of installed packages and of the sources.

    Args:
        sources: modules or files, "package.module" or "path/to/file.py". Such a module names its
            experiments in `EXPERIMENTS = {"name": ConfigsClass}`; without that, a class called
            `Configs` is an experiment named as the module, and otherwise every public config class
            of the module is one, named as the class.
    """
    found: dict[str, Registered] = {}
    for entry_point in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS)):
        _add(found, entry_point.name, entry_point.load)
    for source in sources:
        for name, load in _of_source(source):
            _add(found, name, load)
    return found


def _add(found: dict[str, Registered], name: str, load: Any) -> None:
    if name in found:
        error = f"two experiments are named {name!r}; rename one"
        found[name] = Registered(name, None, None, error)
        return
    try:
        configs = _checked(load())
        code = code_of(configs)
        found[name] = Registered(name, configs, schema(configs).to_json(), code=code)
    except BaseException as error:  # a module may even call sys.exit
        error_line = f"experiment {name!r} cannot be loaded: {type(error).__name__}: {error}"
        found[name] = Registered(name, None, None, error_line, traceback.format_exc())


def _of_source(source: str) -> Iterator[tuple[str, Any]]:
    is_path = is_file(source)
    stem = Path(source).stem if is_path else source.rpartition(".")[2]
    try:
        module = _import_file(Path(source)) if is_path else importlib.import_module(source)
    except BaseException as error:
        failure = error

        def fail() -> None:
            raise failure

        yield stem, fail
        return
    for name, configs in _of_module(module, stem).items():
        yield name, lambda configs=configs: configs


def _of_module(module: ModuleType, stem: str) -> dict[str, object]:
    named = getattr(module, "EXPERIMENTS", None)
    if named is not None:
        return dict(named)
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, BaseConfigs)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    if "Configs" in classes:
        return {stem: classes["Configs"]}
    if classes:
        return {_snake(name.removesuffix("Configs") or name): c for name, c in classes.items()}
    return {stem: None}


def _import_file(path: Path) -> ModuleType:
    # Under a name of its own, so that it shadows nothing; beside it, so that its imports work.
    name = path.stem
    if name in sys.modules:
        raise ImportError(f"{path} has the name of a module that is loaded already: {name}")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.absolute().parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.absolute().parent))
    return module


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _checked(value: object) -> type[BaseConfigs]:
    if isinstance(value, type) and issubclass(value, BaseConfigs):
        return value
    raise TypeError(f"an experiment is a class derived from BaseConfigs, got {value!r}")
