"""Gauges of the searches that have not ended; they vanish with the search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lab_server.model.search import SearchView, TrialState


class SearchGauges(Collector):
    """Collects the series of searches at each scrape.

    Args:
        live: returns the searches that have not ended.
    """

    def __init__(self, live: Callable[[], Sequence[SearchView]]) -> None:
        self._live = live

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        searches = self._live()
        trials = GaugeMetricFamily(
            "lab_search_trials",
            "Number of trials of a search by state.",
            labels=("search", "state"),
        )
        best = GaugeMetricFamily(
            "lab_search_best", "The best value of a search's objective so far.", labels=("search",)
        )
        for search in searches:
            for state in TrialState:
                trials.add_metric((search.id, state.value), search.counts.get(state, 0))
            if search.best is not None and search.best.value is not None:
                best.add_metric((search.id,), search.best.value)
        yield trials
        yield best
