"""The routes of the HTTP API: which RPC each one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from google.protobuf import message_factory
from google.protobuf.message import Message

from lab_rpc.v1 import search_service_pb2, training_service_pb2

PREFIX: Final = "/api/v1"
Verb = Literal["GET", "POST"]

_METHODS: Final = {
    method.name: method
    for service in (
        training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"],
        search_service_pb2.DESCRIPTOR.services_by_name["SearchService"],
    )
    for method in service.methods
}


def method_of(rpc: str) -> str:
    """Return the full name of an RPC, as the table of roles has it."""
    return f"/{_METHODS[rpc].containing_service.full_name}/{rpc}"


@dataclass(frozen=True, slots=True)
class Route:
    """A path of the API that is an RPC, of TrainingService or SearchService: its role, its request, its answer, its errors.

    What is in braces in the path is a field of the request; a GET has the other fields as its query, a
    POST as its JSON body.

    Attributes:
        fixed: fields that the route itself sets.
        left_out: fields that a caller cannot set.
        has_mask: the fields that the body has are the ones to change.
        unmasked: fields of such a body that say themselves what to change.
    """

    verb: Verb
    path: str
    rpc: str
    summary: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    has_mask: bool = False
    unmasked: frozenset[str] = frozenset()

    @property
    def method(self) -> str:
        """The RPC's full name, as the table of roles has it."""
        return method_of(self.rpc)

    @property
    def path_fields(self) -> tuple[str, ...]:
        """The fields that are in the path."""
        parts = self.path.split("/")
        return tuple(part[1:-1].partition(":")[0] for part in parts if part.startswith("{"))

    @property
    def fields(self) -> tuple[Any, ...]:
        """The fields of the request that are in the query or the body."""
        hidden = {*self.path_fields, *self.fixed, *self.left_out, "update_mask"}
        descriptor = _METHODS[self.rpc].input_type
        return tuple(f for f in descriptor.fields if f.name not in hidden)

    def new_request(self) -> Message:
        """Return an empty request with what the route sets."""
        descriptor = _METHODS[self.rpc].input_type
        return message_factory.GetMessageClass(descriptor)(**self.fixed)

    @property
    def response(self) -> Any:
        """The message of the answer."""
        return _METHODS[self.rpc].output_type


_RUN: Final = f"{PREFIX}/runs/{{run_id}}"
_SEARCH: Final = f"{PREFIX}/searches/{{search_id}}"

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", f"{PREFIX}/server", "GetServerInfo", "The server, its slots, and who you are."),
    Route("GET", f"{PREFIX}/experiments", "ListExperiments", "The experiments that can be run."),
    Route("GET", f"{PREFIX}/experiments/{{name}}", "GetExperiment", "One, with its schema."),
    Route("POST", f"{PREFIX}/plan", "PlanRun", "Validate and resolve configs; run nothing."),
    Route("GET", f"{PREFIX}/runs", "ListRuns", "Runs, the newest first unless asked otherwise."),
    Route("POST", f"{PREFIX}/runs", "CreateRun", "Create a run, which does not start yet."),
    Route("GET", _RUN, "GetRun", "A run as it is now."),
    Route(
        *("POST", f"{_RUN}/start", "StartRun", "Queue a created run."),
        fixed={"resume": False},
    ),
    Route(
        *("POST", f"{_RUN}/resume", "StartRun", "Queue a stopped or failed run again."),
        fixed={"resume": True},
    ),
    Route("POST", f"{_RUN}/checkpoint", "SaveCheckpoint", "Ask a run for a checkpoint now."),
    Route("POST", f"{_RUN}/stop", "StopRun", "Ask a run to stop, with a checkpoint or without."),
    Route(
        *("POST", f"{_RUN}/update", "UpdateRun", "Change the name, tags or notes that are given."),
        has_mask=True,
        unmasked=frozenset({"add_tags", "remove_tags"}),
    ),
    Route("POST", f"{_RUN}/delete", "DeleteRun", "Delete a run that has ended, with its files."),
    Route("GET", f"{_RUN}/files", "ListArtifacts", "The files of a run."),
    Route("GET", f"{_RUN}/metrics", "QueryMetrics", "Points of a run's metrics, thinned."),
    Route(*("GET", f"{_RUN}/media", "QueryMedia", "Images, texts, histograms and indexed values.")),
    Route("GET", f"{PREFIX}/searches", "ListSearches", "Searches, the newest first."),
    Route("POST", f"{PREFIX}/searches", "CreateSearch", "Create a search, which starts at once."),
    Route("GET", _SEARCH, "GetSearch", "A search as it is now."),
    Route("GET", f"{_SEARCH}/trials", "ListTrials", "The trials of a search."),
    Route(
        *(
            "POST",
            f"{_SEARCH}/update",
            "UpdateSearch",
            "Pause a search, go on, or change its budget.",
        ),
        has_mask=True,
    ),
    Route("POST", f"{_SEARCH}/stop", "StopSearch", "Stop a search, with its trials or without."),
    Route("POST", f"{_SEARCH}/enqueue", "EnqueueTrials", "Have a search try some points next."),
    Route("POST", f"{_SEARCH}/delete", "DeleteSearch", "Delete a search that has ended."),
)
