"""What Prometheus is told of searches: of those that have not ended, and of no other."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from lab_server.http.search_gauges import SearchGauges
from tests.search.rig import SearchRig, loss, spec


async def test_a_search_has_series_while_it_runs_and_none_after(rig: SearchRig) -> None:
    registry = CollectorRegistry()
    registry.register(SearchGauges(rig.searches.live))
    search_id = await rig.create(spec(max_trials=2, parallel=1, fixed={"steps": 40}))
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: search.num_settled == 1 and len(search.trials) == 2)
    labels = {"search": search_id}
    counts = {
        state: registry.get_sample_value("lab_search_trials", {**labels, "state": state})
        for state in ("RUNNING", "COMPLETED", "FAILED")
    }
    assert counts == {"RUNNING": 1, "COMPLETED": 1, "FAILED": 0}
    best = registry.get_sample_value("lab_search_best", labels)
    assert best == loss({"a": 1, "b": 0.5}, 40)
    await rig.ended(search_id)
    await rig.until(lambda: not rig.searches.live())
    assert registry.get_sample_value("lab_search_best", labels) is None
    assert not [s for family in registry.collect() for s in family.samples]
