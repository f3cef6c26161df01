"""The settings that hold: flags over environment over file over defaults, each with its origin."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from lab_core.errors import SettingsError
from lab_server.settings.settings import ENV_PREFIX, Settings

# Variables of the same prefix that are not the server's settings.
_OTHER_VARIABLES = frozenset(
    {
        *("LAB_SERVER", "LAB_TOKEN", "LAB_TLS", "LAB_CA", "LAB_CERT", "LAB_KEY"),
        *("LAB_JOIN_TOKEN", "LAB_DATA_PATH", "LAB_CONFIG", "LAB_RUN_ATTEMPT", "LAB_TRAINER"),
    }
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, with for each name its origin: "flag", "environment", "file" or "default"."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def as_written(self, name: str) -> str:
        """Return a setting's name as it was written: "--slots", "LAB_SLOTS" or "slots"."""
        return _as_written(name, self.origins)


def load(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> Loaded:
    """Return the effective settings.

    Args:
        flags: the command line's values; None for flags that were not given.
        file: a TOML file of settings by name; without it the one that LAB_CONFIG names, if any.

    Raises:
        SettingsError: If values are wrong or names unknown, with all of them.
    """
    file = file or (Path(os.environ["LAB_CONFIG"]) if os.environ.get("LAB_CONFIG") else None)
    in_file, unknown = _read_file(file) if file else ({}, [])
    sources = {
        "file": in_file,
        "environment": dict(EnvSettingsSource(Settings)()),
        "flag": {name: value for name, value in (flags or {}).items() if value is not None},
    }
    values: dict[str, Any] = {}
    origins = dict.fromkeys(names(), "default")
    for origin, source in sources.items():
        values |= source
        origins |= dict.fromkeys(source, origin)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError("\n".join([*unknown, *_sentences(error, origins)])) from None
    if unknown:
        raise SettingsError("\n".join(unknown))
    return Loaded(settings, origins, _unknown_variables())


@cache
def names() -> tuple[str, ...]:
    """Return the names of all settings, in the order of their declaration."""
    return tuple(Settings.model_fields)


def _read_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the settings in a file, and a sentence for each unknown name."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not TOML: {error}") from None
    unknown = [name for name in values if name not in names()]
    problems = [f"in the settings file {path}: {_unknown(name, names())}" for name in unknown]
    return {name: values[name] for name in values if name not in unknown}, problems


def _unknown(name: str, choices: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, choices, n=1)
    return f"unknown setting {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def _unknown_variables() -> tuple[str, ...]:
    known = tuple(ENV_PREFIX + name.upper() for name in names())
    return tuple(
        "ignored an " + _unknown(name, known).replace("setting", "environment variable")
        for name in sorted(os.environ)
        if name.startswith(ENV_PREFIX) and name not in known and name not in _OTHER_VARIABLES
    )


def _as_written(name: str, origins: Mapping[str, str]) -> str:
    forms = {"flag": f"--{name.replace('_', '-')}", "environment": f"{ENV_PREFIX}{name.upper()}"}
    return forms.get(origins.get(name, "default"), name)


def _sentences(error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    sentences = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            # our own validators quote the value themselves
            got = "" if problem["type"] == "value_error" else f", got {problem['input']!r}"
            message = f"{message[:1].lower()}{message[1:]}{got}"
            where = ".".join(str(part) for part in problem["loc"][1:])
            name = _as_written(str(problem["loc"][0]), origins)
            message = f"{name}.{where}: {message}" if where else f"{name}: {message}"
        sentences.append(message)
    return sentences
