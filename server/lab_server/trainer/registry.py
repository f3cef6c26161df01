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
from lab_server.trainer.snapshot import Snapshot

_IMPORTERS = ("<frozen importlib", importlib.__file__, str(Path(__file__).parent))

ENTRY_POINTS = "lab.experiments"
NAMING_RULE = (
    "A module names its experiments in EXPERIMENTS = {'name': ConfigsClass}; without that, a class called "
    "Configs is an experiment named as the module, and otherwise every public config class is one, in "
    "snake case: SmallNetConfigs is small_net"
)


@dataclass(frozen=True, slots=True)
class Registered:
    """An experiment, or why there is none of this name.

    Attributes:
        configs: its config class, None when error says why.
        schema: what the class's schema is as JSON, None when error says why.
        error: one sentence, with the last line of the traceback.
        traceback: where it was raised, without what imports it; empty when nothing was.
        failure: what was raised, None when nothing was.
        code: its files, as they were when it was imported.
        folder: where its modules are imported from, beside `sys.path`; "" for nowhere.
    """

    name: str
    configs: type[BaseConfigs] | None
    schema: dict[str, Any] | None
    error: str = ""
    traceback: str = ""
    failure: BaseException | None = None
    code: Code | None = None
    folder: str = ""

    def enter(self) -> type[BaseConfigs]:
        """Return the config class, in a process that is to use it.

        Raises:
            BaseException: What its import raised.
        """
        if self.configs is None:
            raise self.failure or LookupError(self.error)
        if self.folder:  # for modules that it imports later
            sys.path.insert(0, self.folder)
        return self.configs

    def to_json(self) -> dict[str, Any]:
        """Return what the server needs to know, as plain data."""
        return {
            "name": self.name,
            "schema": self.schema,
            "error": self.error,
            "traceback": self.traceback,
            "code_digest": "" if self.code is None else self.code.digest,
        }


def find(
    sources: Sequence[str], snapshot: Snapshot, has_entry_points: bool = True, folder: str = ""
) -> dict[str, Registered]:
    """Import every experiment of installed packages and of the sources.

    Args:
        sources: modules or files, "package.module" or "path/to/file.py". Such a module names its
            experiments in `EXPERIMENTS = {"name": ConfigsClass}`; without that, a class called
            `Configs` is an experiment named as the module, and otherwise every public config class
            of the module is one, named as the class.
        snapshot: reads the files.
        has_entry_points: whether those of installed packages are wanted, too.
        folder: what a client sent, which has the modules; "" for none.
    """
    found: dict[str, Registered] = {}
    if has_entry_points:
        for entry_point in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS)):
            _add(found, snapshot, entry_point.name, entry_point.load)
    for source in sources:
        place = str(Path(source).absolute().parent) if is_file(source) else folder
        for name, load in _of_source(source, snapshot, folder):
            _add(found, snapshot, name, load, place)
    return found


def _add(
    found: dict[str, Registered], snapshot: Snapshot, name: str, load: Any, folder: str = ""
) -> None:
    if name in found:
        error = f"two experiments are named {name!r}; rename one"
        found[name] = Registered(name, None, None, error)
        return
    try:
        configs = _checked(load())
        code = code_of(configs, read=snapshot.read, folders=[folder] if folder else ())
        found[name] = Registered(name, configs, schema(configs).to_json(), code=code, folder=folder)
    except BaseException as error:  # a module may even call sys.exit
        error_line = f"experiment {name!r} cannot be loaded: {type(error).__name__}: {error}"
        trace = _traceback_of(error)
        found[name] = Registered(name, None, None, error_line, trace, failure=error)


def _of_source(source: str, snapshot: Snapshot, folder: str) -> Iterator[tuple[str, Any]]:
    is_path = is_file(source)
    stem = Path(source).stem if is_path else source.rpartition(".")[2]
    try:
        if is_path:
            module = _import_file(Path(source), snapshot)
        else:
            module = _import_sent(source) if folder else importlib.import_module(source)
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


def _import_file(path: Path, snapshot: Snapshot) -> ModuleType:
    # Under a name of its own, so that it shadows nothing; beside it, so that its imports work.
    name = path.stem
    if name in sys.modules:
        raise ImportError(f"{path} has the name of a module that is loaded already: {name}")
    where = str(path.absolute())
    spec = importlib.util.spec_from_file_location(name, where, loader=snapshot.loader(name, where))
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


def _import_sent(name: str) -> ModuleType:
    root = name.partition(".")[0]
    if root in sys.modules:
        raise ImportError(f"{root} has the name of a module that is loaded already; rename it")
    return importlib.import_module(name)


def _traceback_of(error: BaseException) -> str:
    found = traceback.TracebackException.from_exception(error)
    own = [frame for frame in found.stack if not frame.filename.startswith(_IMPORTERS)]
    if not own and not isinstance(error, SyntaxError):
        return ""  # nothing but the sentence itself
    found.stack[:] = own
    return "".join(found.format())


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _checked(value: object) -> type[BaseConfigs]:
    if isinstance(value, type) and issubclass(value, BaseConfigs):
        return value
    if value is None:
        raise TypeError(f"the module has no experiment. {NAMING_RULE}")
    raise TypeError(f"an experiment is a class derived from BaseConfigs, got {value!r}")
