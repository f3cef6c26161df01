"""GPUs between the wire and the server's own class."""

from __future__ import annotations

from dataclasses import asdict, fields

from lab_rpc.v1 import gpu_pb2
from lab_server.model.gpu import GpuReading


def gpu_to_proto(gpu: GpuReading) -> gpu_pb2.GpuReading:
    """Return the message of what a GPU does."""
    return gpu_pb2.GpuReading(**asdict(gpu))


def gpu_from_proto(message: gpu_pb2.GpuReading) -> GpuReading:
    """Return what a GPU does."""
    told = {field.name: value for field, value in message.ListFields()}
    names = [field.name for field in fields(GpuReading) if field.name != "device"]
    return GpuReading(message.device, **{name: told.get(name) for name in names})
