"""What is read of a search's log, and what the handles of both kinds have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from google.protobuf.message import Message

from lab_client.errors import EventGap, SearchFailed
from lab_client.protocol import search_convert
from lab_client.protocol.streams import check_seq
from lab_client.searches import SearchEntry, SearchInfo, SearchState
from lab_rpc.v1 import search_service_pb2 as pb


class SearchStream:
    """A search's log: gap-free, no entry twice, complete only after its end.

    Args:
        search_id: the search.
        after_seq: entries up to this one are known already.
        until_seq: enough after this one; None reads up to the search's end.
        on_waiting: is told why the search does not go on for now, and "" when it does.
    """

    rpc = "WatchSearch"

    def __init__(
        self,
        search_id: str,
        after_seq: int,
        until_seq: int | None = None,
        on_waiting: Callable[[str], None] | None = None,
    ) -> None:
        check_seq(after_seq)
        self._on_waiting, self._waits_for = on_waiting, ""
        self._search_id, self._last_seq, self._until_seq = search_id, after_seq, until_seq
        self._is_ended = False
        self.what = f"watching search {search_id}"

    @property
    def is_enough(self) -> bool:
        """Whether the last entry that was asked for came."""
        return self._until_seq is not None and self._last_seq >= self._until_seq

    @property
    def is_complete(self) -> bool:
        """Whether the last entry was the search's end."""
        return self._is_ended or self.is_enough

    def request(self) -> Message:
        """Ask for the entries after the last one."""
        return pb.WatchSearchRequest(search_id=self._search_id, after_seq=self._last_seq)

    def receive(self, response: pb.WatchSearchResponse) -> Sequence[SearchEntry]:
        """Check the order of the entries and return them.

        Raises:
            EventGap: if the server left some out.
        """
        found = []
        for message in response.entries:
            if message.seq <= self._last_seq:
                continue
            if message.seq != self._last_seq + 1:
                raise EventGap(self._search_id, self._last_seq + 1, message.seq)
            self._last_seq = message.seq
            self._is_ended = message.HasField("ended")
            found.append(search_convert.entry(message))
        if self._on_waiting is not None and response.waits_for != self._waits_for:
            self._waits_for = response.waits_for
            self._on_waiting(response.waits_for)
        return found


class SearchHandle:
    """A search, as the server described it last."""

    def __init__(self, info: SearchInfo) -> None:
        self._info = info

    @property
    def info(self) -> SearchInfo:
        """The search as the server knew it when it was last asked; `refresh` asks again."""
        return self._info

    @property
    def id(self) -> str:
        """The search's id, unique on the server."""
        return self._info.id

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self._info.experiment

    @property
    def name(self) -> str:
        """The search's name, for people."""
        return self._info.name

    def __repr__(self) -> str:
        info = self._info
        best = f" best {info.best.value:.5g}" if info.best and info.best.value is not None else ""
        return (
            f"<{type(self).__name__} {info.id} {info.experiment} {info.state}"
            f" {info.num_trials}/{info.budget.max_trials} trials{best}>"
        )

    def _note(self, info: SearchInfo) -> SearchInfo:
        """Keep how the search is now, with what was warned of when it was created."""
        self._info = replace(info, warnings=info.warnings or self._info.warnings)
        return self._info

    def _stream(self, after_seq: int, follow: bool) -> SearchStream | None:
        """Return what to read; None when there is nothing in it."""
        info = self._info
        is_over = info.state.is_terminal or not follow
        if is_over and info.last_seq <= after_seq:
            return None
        return SearchStream(self.id, after_seq, None if follow else info.last_seq)

    def _ended(self, check: bool) -> SearchInfo:
        info = self._info
        if check and info.state is not SearchState.COMPLETED:
            raise SearchFailed(info.id, info.state, info.reason)
        return info


def point_list(
    points: Sequence[Mapping[str, object]] | Mapping[str, object],
) -> list[Mapping[str, object]]:
    """Return points as a list; one alone need not be in one."""
    return [points] if isinstance(points, Mapping) else list(points)
