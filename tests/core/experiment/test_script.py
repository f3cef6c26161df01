from __future__ import annotations

import pytest

from lab_core import experiment
from lab_core.errors import ConfigError, Violation


def test_overrides_are_texts_by_key_and_the_last_one_counts() -> None:
    found: dict[str, str] = {}
    experiment.run_script(found.update, ["a=1", "name=x=y", "none=", "a=2"])
    assert found == {"a": "2", "name": "x=y", "none": ""}


def test_arguments_of_another_form_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, str] = {}
    with pytest.raises(SystemExit) as ended:
        experiment.run_script(found.update, ["epochs", "a=1", "=3"])
    assert not found
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "'epochs' is no override: write key=value, for example epochs=2",
        "'=3' is no override: write key=value, for example epochs=2",
    ]


def test_a_wrong_config_ends_in_its_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    def main(overrides: dict[str, str]) -> None:
        raise ConfigError([Violation("a", "a is wrong"), Violation("b", "b is wrong")])

    with pytest.raises(SystemExit) as ended:
        experiment.run_script(main, [])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "a is wrong\nb is wrong\n"


def test_other_errors_are_raised() -> None:
    def main(overrides: dict[str, str]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        experiment.run_script(main, [])
