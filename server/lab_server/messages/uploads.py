"""What an upload consists of, between the wire and our own class."""

from __future__ import annotations

from lab_rpc.v1 import upload_pb2
from lab_server.model.upload_manifest import Manifest, ManifestFile


def manifest_from_proto(message: upload_pb2.UploadManifest) -> Manifest:
    """Return a manifest, which may be wrong."""
    files = (ManifestFile(f.path, f.size_bytes, f.sha256) for f in message.files)
    return Manifest(message.module, tuple(files))


def manifest_to_proto(manifest: Manifest) -> upload_pb2.UploadManifest:
    """Return the message of a manifest."""
    files = (
        upload_pb2.UploadFile(path=f.path, size_bytes=f.size_bytes, sha256=f.sha256)
        for f in manifest.files
    )
    return upload_pb2.UploadManifest(module=manifest.module, files=files)
