"""Every public class has an example in its docstring, and the examples run."""

from __future__ import annotations

import doctest
import inspect
import sys
from types import ModuleType
from typing import Any

import pytest

import lab_client
from lab_client import experiment
from tests.servers import RealServer

PUBLIC: dict[str, Any] = {
    name: value
    for name in lab_client.__all__
    if inspect.isclass(value := getattr(lab_client, name)) or isinstance(value, ModuleType)
}


def examples(name: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(PUBLIC[name]) or "")


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_of_the_docstring_runs(
    name: str, server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examples(name)
    assert found, f"{name} has no example"
    monkeypatch.setenv("LAB_SERVER", server.address)
    monkeypatch.setattr(experiment, "_connection", None)
    namespace: dict[str, Any] = {}
    if any(doctest.SKIP in example.options for example in found):
        for example in found:  # what it prints depends on the server
            code = example.source.replace("localhost:50051", server.address)
            exec(compile(code, f"<docstring of {name}>", "exec"), namespace)
    else:
        test = doctest.DocTest(found, namespace, name, None, 0, None)
        results = doctest.DocTestRunner().run(test, out=sys.stderr.write)
        assert results.failed == 0


def test_every_public_method_says_what_it_does() -> None:
    for name, kind in PUBLIC.items():
        for method, value in vars(kind).items():
            if not method.startswith("_") and (
                inspect.isroutine(value) or isinstance(value, property)
            ):
                assert inspect.getdoc(value), f"{name}.{method} has no docstring"
