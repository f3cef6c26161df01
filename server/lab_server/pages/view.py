"""What a page's address asks for: filter, order, columns, groups. The whole view is in it, so a link is a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from lab_rpc.v1 import training_service_pb2
from lab_server.api.errors import Refused
from lab_server.messages.events import STATES as EVENT_STATES
from lab_server.model.run import RunState

pb = training_service_pb2

STATES: Final = tuple(state.value for state in RunState)
MAX_COLUMNS: Final = 12
GROUP_RUNS: Final = 1000
_PAGE_RUNS: Final = 100


@dataclass(frozen=True, slots=True)
class View:
    """The view of the runs page.

    Attributes:
        q: a condition, "learning_rate < 0.1 and state = completed".
        metrics: names of the columns; none for a choice by the server.
        group: configs, split by commas, whose runs are one line: all but those with a minus before.
    """

    q: str = ""
    state: str = ""
    experiment: str = ""
    tag: str = ""
    sort: str = ""
    metrics: tuple[str, ...] = ()
    group: str = ""
    page: str = ""

    def link(self, **changes: object) -> str:
        """Return the address of this view with some changes, on its first page unless they name another."""
        view = replace(self, **{"page": "", **changes})  # type: ignore[arg-type]
        fields = {
            "q": view.q,
            "state": view.state,
            "experiment": view.experiment,
            "tag": view.tag,
            "sort": view.sort,
            "m": ",".join(view.metrics),
            "group": view.group,
            "page": view.page,
        }
        query = urlencode({name: text for name, text in fields.items() if text}, safe=",")
        return f"/?{query}" if query else "/"

    def sorted_by(self, column: str) -> str:
        """Return the view in the order of a column; in the other direction if it is in its order."""
        return self.link(sort=column if self.sort == f"{column} desc" else f"{column} desc")

    def direction(self, column: str) -> str:
        """Return a column's aria-sort."""
        known = {column: "ascending", f"{column} desc": "descending"}
        return known.get(self.sort or "create_time desc", "none")

    def request(self, metrics: Sequence[str] = ()) -> pb.ListRunsRequest:
        """Return the request for the runs of the view, with these metrics of each; empty for all."""
        wanted = pb.ListRunsRequest(
            experiment=self.experiment,
            where=self.q,
            order_by=self.sort,
            tags=[self.tag] if self.tag else [],
            page_size=GROUP_RUNS if self.group else _PAGE_RUNS,
            page_token=self.page,
            metrics=metrics,
        )
        if self.state:
            if self.state not in STATES:
                raise Refused(400, "BAD_STATE", f"{self.state[:100]!r} is not a state of a run")
            wanted.states.append(EVENT_STATES[RunState(self.state)])
        return wanted


def view_of(request: web.Request) -> View:
    """Return the view that a request's address asks for; what is unknown in it is passed over.

    Raises:
        Refused: If it asks for too many columns.
    """
    query = request.query
    metrics = tuple(name.strip() for name in query.get("m", "").split(",") if name.strip())
    if len(metrics) > MAX_COLUMNS:
        raise Refused(
            400, "TOO_MANY", f"at most {MAX_COLUMNS} columns of metrics, got {len(metrics)}"
        )
    return View(
        q=_text(query.get("q", "")),
        state=query.get("state", ""),
        experiment=_text(query.get("experiment", "")),
        tag=_text(query.get("tag", "")),
        sort=_text(query.get("sort", "")),
        metrics=tuple(map(_text, metrics)),
        group=_text(query.get("group", "")),
        page=query.get("page", ""),
    )


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
