"""Every public class has an example in its docstring, and the examples run."""

from __future__ import annotations

import doctest
import inspect
import re
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


def functions(kind: Any) -> dict[str, Any]:
    return {
        name: value
        for name in dir(kind)
        if not name.startswith("_") and inspect.isfunction(value := getattr(kind, name))
    }


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_tells_all_arguments_or_none(name: str) -> None:
    for method, value in functions(PUBLIC[name]).items():
        section = re.search(r"^Args:\n(( .*|)\n)*", f"{inspect.getdoc(value)}\n", re.MULTILINE)
        if section:
            told = [text.lstrip("*") for text in re.findall(r"(?m)^    (\S+):", section[0])]
            taken = [one for one in inspect.signature(value).parameters if one != "self"]
            assert told == taken, f"{name}.{method}"


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [
        (lab_client.Client, lab_client.AsyncClient),
        (lab_client.Run, lab_client.AsyncRun),
        (lab_client.Search, lab_client.AsyncSearch),
        (lab_client.Experiment, lab_client.AsyncExperiment),
    ],
)
def test_twins_have_the_same_methods_with_the_same_arguments(
    blocking: type, asynchronous: type
) -> None:
    ours, theirs = functions(blocking), functions(asynchronous)
    assert set(ours) == set(theirs)
    for name, method in ours.items():
        ours_, theirs_ = (inspect.signature(one).parameters for one in (method, theirs[name]))
        assert ours_ == theirs_, name


def test_a_wrong_argument_is_told_with_the_name_of_the_method() -> None:
    client: Any = lab_client.Client("127.0.0.1:1")
    with pytest.raises(TypeError, match=r"Client\.search\(\) .*unexpected.* 'maximise'"):
        client.search("mnist", {}, maximise="accuracy")
    with pytest.raises(TypeError, match=r"Client\.search\(\) missing .* 'space'"):
        client.search("mnist")
