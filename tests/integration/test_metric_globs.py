"""One definition of metric globs: client, server and tracker agree on every case."""

from __future__ import annotations

import pytest

from lab_client.protocol.folds import PointFold
from lab_core.tracker.indicators import Indicator, Kind, Registry
from lab_rpc.metric_names import matcher
from lab_rpc.v1 import event_pb2
from tests.metric_globs import CASES, CASES_OF_REQUESTS


@pytest.mark.parametrize(("pattern", "name", "is_match"), CASES + CASES_OF_REQUESTS)
def test_a_request_matches_as_the_definition_says(pattern: str, name: str, is_match: bool) -> None:
    assert matcher([pattern])(name) is is_match
    assert matcher(["nothing", pattern])(name) is is_match


@pytest.mark.parametrize(("pattern", "name", "is_match"), CASES + CASES_OF_REQUESTS)
def test_the_client_thins_a_stream_by_the_same_names(
    pattern: str, name: str, is_match: bool
) -> None:
    column = event_pb2.MetricColumn(name=name, values=[1.0])
    event = event_pb2.RunEvent(seq=1, metrics=event_pb2.Metrics(steps=[0], columns=[column]))
    assert bool(list(PointFold([pattern], 1)(event))) is is_match


@pytest.mark.parametrize(("pattern", "name", "is_match"), CASES)
def test_the_tracker_declares_by_the_same_names(pattern: str, name: str, is_match: bool) -> None:
    registry = Registry()
    registry.declare(Indicator(pattern, Kind.QUEUE, window=3))
    assert (registry.resolve(name).kind is Kind.QUEUE) is is_match
