"""A client that knows several servers of one store asks the next one when one does not answer."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable

import pytest

from lab_client import AsyncClient, Client
from lab_client.errors import ConnectionSettingsError, DeadlineExceeded, Unavailable
from lab_client.protocol.retry import Attempts, Timeouts
from lab_client.transport.rotation import Rotation
from lab_client.transport.target import make_target, token_warning
from tests.servers import RealServer


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


def test_addresses_are_separated_by_commas_and_each_gets_its_port() -> None:
    target = make_target(" a , b:1,a:50051,[::1] ,", token="t")

    assert target.address == "a:50051,b:1,[::1]:50051"
    assert [server.address for server in target.servers()] == ["a:50051", "b:1", "[::1]:50051"]
    assert {server.token for server in target.servers()} == {"t"}


def test_one_wrong_address_among_several_is_an_error() -> None:
    with pytest.raises(ConnectionSettingsError, match="'b:x' is not an address"):
        make_target("a,b:x")


def test_the_warning_names_the_servers_to_which_the_token_goes_unencrypted() -> None:
    warning = token_warning(make_target("localhost,far:1,127.0.0.1:2,away", token="t"))

    assert "sent to far:1, away:50051 unencrypted" in warning


def test_the_server_that_failed_is_left_once_however_many_calls_failed_on_it() -> None:
    rotation = Rotation(make_target("a,b,c"))
    failed = rotation.current
    for _ in range(3):
        rotation.note_failure(failed)

    assert rotation.current.address == "b:50051"
    for address in ("c:50051", "a:50051"):
        rotation.note_failure(rotation.current)
        assert rotation.current.address == address


def test_one_server_has_the_usual_limits_and_several_give_a_silent_one_up_sooner() -> None:
    timeouts = Timeouts()

    assert timeouts.among(1) == timeouts
    several = timeouts.among(2)
    assert several.idle_timeout_s < timeouts.idle_timeout_s
    assert several.retry_timeout_s > timeouts.retry_timeout_s
    assert several.try_s < math.inf


@pytest.mark.parametrize(("is_safe", "try_s"), [(True, math.inf), (False, 2.0), (True, 2.0)])
def test_a_try_without_an_answer_is_repeated_if_it_is_safe_and_there_are_several(
    is_safe: bool, try_s: float
) -> None:
    attempts = Attempts(is_safe, 30.0, 25.0, lambda: 0.0, try_s)

    if is_safe and try_s < math.inf:
        assert attempts.timeout_s() == try_s
        assert attempts.delay_before_retry(DeadlineExceeded("late")) > 0
    else:
        assert attempts.timeout_s() == 30.0
        with pytest.raises(DeadlineExceeded):
            attempts.delay_before_retry(DeadlineExceeded("late"))


@pytest.mark.slow
def test_calls_and_streams_go_to_the_server_that_answers(
    server: RealServer, closed_port: int
) -> None:
    with Client(f"127.0.0.1:{closed_port},{server.address}") as client:
        assert "mnist" in [experiment.name for experiment in client.experiments()]
        run = client.create("mnist", {"epochs": 1, "train_batch_size": 1000}).start()
        assert run.wait(timeout_s=120).state.name == "COMPLETED"


@pytest.mark.slow
async def test_the_asyncio_client_does_the_same(server: RealServer, closed_port: int) -> None:
    async with AsyncClient(f"127.0.0.1:{closed_port},{server.address}") as client:
        assert "mnist" in [experiment.name for experiment in await client.experiments()]


@pytest.mark.slow
@pytest.mark.parametrize("make", [Client])
def test_no_server_that_answers_is_an_error_with_all_addresses(
    closed_port: int, make: Callable[..., Client]
) -> None:
    addresses = f"127.0.0.1:{closed_port},localhost:{closed_port}"
    client = make(addresses, timeout_s=1)

    with pytest.raises(Unavailable, match=addresses):
        client.experiments()
