"""The tree of errors: they pickle, they say what to do, and no gRPC error is among them."""

from __future__ import annotations

import inspect
import pickle

import pytest

from lab_client import errors
from lab_client.errors import LabError, Violation

SAMPLES: list[LabError] = [
    errors.ConfigError([Violation("epochs", "epochs must be at least 1, got -3")]),
    errors.InvalidRequest([Violation("a", "one"), Violation("", "two")]),
    errors.RunNotFound("there is no run 'x'", "x"),
    errors.EventGap("r", 5, 8),
    errors.RunFailed("r", "FAILED", "out of memory"),
    errors.SearchFailed("s", "FAILED", "no trial gave a value"),
    errors.ServerError("it broke", "INTERNAL"),
    errors.MissingExtra("pandas", "plot"),
]


def every_error() -> list[LabError]:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    sampled = {type(sample) for sample in SAMPLES}
    others = [k for k in kinds if issubclass(k, LabError) and k not in sampled]
    return SAMPLES + [kind("a sentence") for kind in others if kind is not errors.InvalidRequest]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: LabError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_sentences_say_what_is_missing_and_what_to_do() -> None:
    assert str(errors.EventGap("r", 5, 8)).startswith("events 5 to 7 of run r are missing")
    assert str(SAMPLES[1]) == "one\ntwo"
    assert str(errors.RunFailed("r", "FAILED", "out of memory")) == "run r failed: out of memory"
