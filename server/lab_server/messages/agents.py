"""What agents and servers say to each other, between the wire and our own classes."""

from __future__ import annotations

import json

from lab_rpc.v1 import agent_service_pb2 as pb
from lab_server.messages.gpus import gpu_from_proto, gpu_to_proto
from lab_server.model import agent
from lab_server.model.agent import AttemptKey, FromAgent, ToAgent
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import TrainerProcess
from lab_server.model.slot import Slot


def key_to_proto(key: AttemptKey) -> pb.AttemptKey:
    """Return the message of an attempt's key."""
    return pb.AttemptKey(run_id=key.run_id, attempt=key.attempt)


def key_from_proto(message: pb.AttemptKey) -> AttemptKey:
    """Return an attempt's key."""
    return AttemptKey(message.run_id, message.attempt)


def request_to_proto(said: FromAgent) -> pb.AttachRequest:
    """Return the message of what an agent says."""
    match said:
        case agent.Hello():
            hello = pb.AgentHello(
                version=said.version,
                slots=[pb.AgentSlot(name=slot.name, device=slot.device) for slot in said.slots],
                experiments=dict(said.experiments),
                held=map(key_to_proto, said.held),
                is_leaving=said.is_leaving,
                takes_uploads=said.takes_uploads,
            )
            return pb.AttachRequest(hello=hello)
        case agent.Ping(number):
            return pb.AttachRequest(ping=pb.AgentPing(number=number))
        case agent.Launched(key, process, error):
            launched = pb.AttemptLaunched(key=key_to_proto(key), error=error)
            if process is not None:
                launched.pid, launched.start_ticks = process.pid, process.start_ticks
            return pb.AttachRequest(launched=launched)
        case agent.Beat():
            beat = pb.AttemptBeat(
                key=key_to_proto(said.key),
                has_progressed=said.has_progressed,
                cpu_seconds=said.cpu_seconds,
                memory_bytes=said.memory_bytes,
            )
            return pb.AttachRequest(beat=beat)
        case agent.Ended():
            ended = pb.AttemptEnded(
                key=key_to_proto(said.key),
                cause=said.cause,
                spool_bytes=said.spool_bytes,
                is_incomplete=not said.is_complete,
            )
            return pb.AttachRequest(ended=ended)
        case agent.Leaving():
            return pb.AttachRequest(leaving=pb.AgentLeaving())
        case agent.Experiments(experiments):
            told = pb.AgentExperiments(experiments=dict(experiments))
            return pb.AttachRequest(experiments=told)
        case agent.Gpus(gpus):
            readings = map(gpu_to_proto, gpus)
            return pb.AttachRequest(gpus=pb.AgentGpus(gpus=readings))


def request_from_proto(message: pb.AttachRequest) -> FromAgent | None:
    """Return what an agent says; None for what we do not know."""
    match message.WhichOneof("kind"):
        case "hello":
            hello = message.hello
            return agent.Hello(
                hello.version,
                tuple(Slot(slot.name, slot.device) for slot in hello.slots),
                dict(hello.experiments),
                tuple(map(key_from_proto, hello.held)),
                hello.is_leaving,
                hello.takes_uploads,
            )
        case "ping":
            return agent.Ping(message.ping.number)
        case "launched":
            launched = message.launched
            process = TrainerProcess(launched.pid, launched.start_ticks) if launched.pid else None
            return agent.Launched(key_from_proto(launched.key), process, launched.error)
        case "beat":
            beat = message.beat
            return agent.Beat(
                key_from_proto(beat.key), beat.has_progressed, beat.cpu_seconds, beat.memory_bytes
            )
        case "ended":
            ended = message.ended
            return agent.Ended(
                key_from_proto(ended.key),
                ended.cause,
                ended.spool_bytes,
                is_complete=not ended.is_incomplete,
            )
        case "leaving":
            return agent.Leaving()
        case "experiments":
            return agent.Experiments(dict(message.experiments.experiments))
        case "gpus":
            return agent.Gpus(tuple(map(gpu_from_proto, message.gpus.gpus)))
        case _:
            return None


def response_to_proto(said: ToAgent) -> pb.AttachResponse:
    """Return the message of what a server says."""
    match said:
        case agent.Welcome(lease_s, held, home):
            welcome = pb.AgentWelcome(lease_s=lease_s, home=home)
            for key, offset in held.items():
                welcome.held.add(key=key_to_proto(key), offset=offset)
            return pb.AttachResponse(welcome=welcome)
        case agent.Ping(number):
            return pb.AttachResponse(renewed=pb.AgentPing(number=number))
        case agent.Launch() | agent.Command() | agent.Kill() | agent.Release():
            return _order_to_proto(said)
        case agent.Stop():
            return pb.AttachResponse(stop=pb.AgentStop())
        case agent.Reload():
            return pb.AttachResponse(reload=pb.AgentReload())
        case agent.Servers(addresses):
            return pb.AttachResponse(servers=pb.AgentServers(addresses=addresses))


def _order_to_proto(
    said: agent.Launch | agent.Command | agent.Kill | agent.Release,
) -> pb.AttachResponse:
    match said:
        case agent.Launch(key, spec, slot):
            launch = pb.AttemptLaunch(
                key=key_to_proto(key), spec_json=json.dumps(spec.to_json()), slot=slot
            )
            return pb.AttachResponse(launch=launch)
        case agent.Command(key, line):
            return pb.AttachResponse(command=pb.AttemptCommand(key=key_to_proto(key), line=line))
        case agent.Kill(key, grace_s):
            return pb.AttachResponse(kill=pb.AttemptKill(key=key_to_proto(key), grace_s=grace_s))
        case agent.Release(key):
            return pb.AttachResponse(release=key_to_proto(key))


def response_from_proto(message: pb.AttachResponse) -> ToAgent | None:
    """Return what a server says; None for what we do not know."""
    match message.WhichOneof("kind"):
        case "welcome":
            held = {key_from_proto(each.key): each.offset for each in message.welcome.held}
            return agent.Welcome(message.welcome.lease_s, held, message.welcome.home)
        case "renewed":
            return agent.Ping(message.renewed.number)
        case "launch":
            launch = message.launch
            spec = LaunchSpec.from_json(json.loads(launch.spec_json))
            return agent.Launch(key_from_proto(launch.key), spec, launch.slot)
        case "command":
            return agent.Command(key_from_proto(message.command.key), message.command.line)
        case "kill":
            return agent.Kill(key_from_proto(message.kill.key), message.kill.grace_s)
        case "release":
            return agent.Release(key_from_proto(message.release))
        case "stop":
            return agent.Stop()
        case "reload":
            return agent.Reload()
        case "servers":
            return agent.Servers(tuple(message.servers.addresses))
        case _:
            return None
