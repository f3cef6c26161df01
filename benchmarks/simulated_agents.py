"""Agents that are simulated: they join and ship events as real ones do, and train nothing."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

from stores import Column

from lab_client import Client, Run, RunOptions

EXPERIMENT = Path(__file__).with_name("idle_experiment.py")
NAME = EXPERIMENT.stem
EVENTS_AT_ONCE = 50
PING_S = 2.0
ON_AGENT = RunOptions(pool="agents")


def a_spool(num_events: int) -> list[bytes]:
    """Return the records of a run's whole spool: events of 2 metrics and 2 steps."""
    from lab_server.files.spool import encode_record
    from lab_server.messages import events
    from lab_server.model.run import RunState

    payloads = [events.encode_state(1, time.time_ns(), RunState.RUNNING).payload]
    for first in range(1, 2 * num_events, 2):
        steps = [first, first + 1]
        columns = [Column(f"metric_{i}", steps, [0.001 * step for step in steps]) for i in range(2)]
        payloads += [e.payload for e in events.encode_metrics(1, time.time_ns(), columns)]
    payloads.append(events.encode_state(1, time.time_ns(), RunState.COMPLETED).payload)
    return [encode_record(payload) for payload in payloads]


async def digest_of(experiment: str) -> str:
    """Return the digest of an experiment's code, as an agent tells it."""
    from lab_server.agent.agent import digests
    from lab_server.executors.local import LocalExecutor

    executor = LocalExecutor([], experiments=(str(EXPERIMENT),), auto_reload=False)
    try:
        return (await digests(executor))[experiment]
    finally:
        await executor.close()


async def simulate(address: str, name: str, digest: str, records: list[bytes]) -> None:
    """Join as an agent, and ship the events of each run that it is given."""
    import lab_server
    from lab_rpc.v1 import agent_service_pb2 as pb
    from lab_server.agent.link import open_channel, stub_of
    from lab_server.messages.agents import key_to_proto, request_to_proto, response_from_proto
    from lab_server.model.agent import Ended, FromAgent, Hello, Launch, Launched, Ping
    from lab_server.model.run import TrainerProcess
    from lab_server.model.slot import Slot
    from lab_server.security.tokens import written

    outgoing: asyncio.Queue[FromAgent] = asyncio.Queue()
    slots = (Slot("cpu:0", "cpu"),)
    outgoing.put_nowait(Hello(lab_server.__version__, slots, {NAME: digest}))

    async def requests() -> AsyncIterator[pb.AttachRequest]:
        for number in itertools.count():
            try:
                told = await asyncio.wait_for(outgoing.get(), PING_S)
            except TimeoutError:
                told = Ping(number)
            yield request_to_proto(told)

    async with open_channel(address, None) as channel:
        stub = stub_of(channel)
        secret = hashlib.sha256(name.encode()).hexdigest()
        asked = pb.JoinRequest(version=lab_server.__version__, name=name, secret_sha256=secret)
        joined = await stub.Join(asked)
        me = (("authorization", f"Bearer {written(joined.credential_id, name)}"),)
        async for message in stub.Attach(requests(), metadata=me):
            match response_from_proto(message):
                case Launch(key=key):
                    outgoing.put_nowait(Launched(key, TrainerProcess(1, 1)))
                    offset = 0
                    for first in range(0, len(records), EVENTS_AT_ONCE):
                        data = b"".join(records[first : first + EVENTS_AT_ONCE])
                        sent = pb.AppendEventsRequest(
                            key=key_to_proto(key), offset=offset, data=data
                        )
                        offset = (await stub.AppendEvents(sent, metadata=me)).offset
                    outgoing.put_nowait(Ended(key, "", offset))


async def ship_all(
    address: str, client: Client, num_agents: int, num_events: int
) -> tuple[list[Run], float]:
    """Let each of some agents ship the events of a run of its own.

    Returns:
        the runs, and the seconds from the first start to the last end.
    """
    digest = await digest_of(NAME)
    records = a_spool(num_events)
    agents = [
        asyncio.create_task(simulate(address, f"a{number}", digest, records))
        for number in range(num_agents)
    ]
    while len((await asyncio.to_thread(client.server_info)).slots) < num_agents:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    runs = [await asyncio.to_thread(client.create, NAME, {}, options=ON_AGENT) for _ in agents]
    began = time.perf_counter()
    await asyncio.gather(*(asyncio.to_thread(run.start) for run in runs))
    await asyncio.gather(*(asyncio.to_thread(run.wait, check=True) for run in runs))
    seconds = time.perf_counter() - began
    for agent in agents:
        agent.cancel()
    await asyncio.gather(*agents, return_exceptions=True)
    return runs, seconds
