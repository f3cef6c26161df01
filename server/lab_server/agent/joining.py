"""How an agent becomes one of its servers'."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace

import grpc
import grpc.aio

import lab_server
from lab_core.errors import SettingsError
from lab_rpc.v1 import agent_service_pb2 as pb
from lab_server.agent.home import AgentHome, Identity
from lab_server.agent.link import Refused, Tls, open_channel, refusal, stub_of
from lab_server.agent.options import Options

_JOIN_S = 30.0
_LOOK_S = 5.0
_PATIENCE_S = 60.0
_PAUSE_S = 0.5


async def joined(options: Options, home: AgentHome, tls: Tls | None) -> Identity:
    """Return who the agent is to its servers, which it joins if it has not.

    Raises:
        Refused: If a server does not take it.
        SettingsError: If no server is there.
    """
    if options.is_host:
        return await _joined_by_host(options, home, tls)
    identity = home.identity(options.name, options.pool)
    if identity.credential_id:
        return identity
    reason = ""
    for address in options.servers.addresses():
        try:
            return await _join(address, identity, options, home, tls)
        except grpc.aio.AioRpcError:
            reason = f"{address}: {await _obstacle(address, tls)}"
    raise SettingsError(f"no server to join: {reason}")


async def _obstacle(address: str, tls: Tls | None) -> str:
    """Return why there is no connection to a server: what waited for one knows only that it waited in vain."""
    async with open_channel(address, tls) as channel:
        try:
            await stub_of(channel).Join(pb.JoinRequest(), timeout=_LOOK_S)
            reason = "it answers now"
        except grpc.aio.AioRpcError as error:
            reason = error.details() or error.code().name
    hint = "" if tls else "; if the server has TLS, as it has beyond loopback, give --ca or --tls"
    return f"{reason}{hint}"


async def _joined_by_host(options: Options, home: AgentHome, tls: Tls | None) -> Identity:
    """Join at each start, as the store may be another one now; wait until a server can take the agent.

    Where the agent of another home on this host has its name, it gets one that tells the homes apart.
    """
    names = (options.name, options.other_name)
    name = home.known_name() if home.known_name() in names else options.name
    reason = "the server that started the agent has ended"
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        for address in options.servers.addresses():
            try:
                identity = home.identity(name, options.pool)
                return await _join(address, identity, options, home, tls)
            except Refused as error:
                if error.code is not grpc.StatusCode.ALREADY_EXISTS or name == options.other_name:
                    raise
                name = options.other_name
            except grpc.aio.AioRpcError as error:
                reason = f"{address}: {error.details()}"
        await asyncio.sleep(_PAUSE_S)
    raise SettingsError(f"no server to join: {reason}")


async def _join(
    address: str, identity: Identity, options: Options, home: AgentHome, tls: Tls | None
) -> Identity:
    request = pb.JoinRequest(
        version=lab_server.__version__,
        name=identity.name,
        pool=options.pool,
        secret_sha256=hashlib.sha256(identity.secret.encode()).hexdigest(),
    )
    metadata = (("authorization", f"Bearer {options.token}"),) if options.token else ()
    async with open_channel(address, tls) as channel:
        try:
            answer = await stub_of(channel).Join(
                request, metadata=metadata, timeout=_JOIN_S, wait_for_ready=not options.is_host
            )
        except grpc.aio.AioRpcError as error:
            raise (refusal(error) or error) from None
    joined = replace(identity, pool=answer.pool, credential_id=answer.credential_id)
    home.keep_identity(joined)
    return joined
