"""What a script of an experiment takes from its command line: `key=value`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from lab_core.errors import ConfigError, Violation


def run_script(main: Callable[[dict[str, str]], object], argv: Sequence[str] | None = None) -> None:
    """Call `main` with the overrides of the command line, each of the form ``key=value``.

    What is wrong with them ends the script with the sentences alone, and exit status 2. They are
    texts: calculate the configs with ``coerce_strings=True``.

    Args:
        main: takes the overrides by key.
        argv: the arguments; those of the process unless given.
    """
    try:
        main(_overrides(sys.argv[1:] if argv is None else argv))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


def _overrides(arguments: Sequence[str]) -> dict[str, str]:
    """Return the overrides by key; the last one of a key counts.

    Raises:
        ConfigError: With all that are of another form.
    """
    pairs = [argument.partition("=") for argument in arguments]
    problems = [
        Violation("", f"{''.join(pair)!r} is no override: write key=value, for example epochs=2")
        for pair in pairs
        if not (pair[0] and pair[1])
    ]
    if problems:
        raise ConfigError(problems)
    return {key: value for key, _, value in pairs}
