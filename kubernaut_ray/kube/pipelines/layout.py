"""An OCI image layout directory (image-spec 1.1, ``image-layout.md``) as a place to keep bundles on one machine.

Readers need no lock: blobs are immutable and ``index.json`` is replaced atomically. Writers take a file lock. Blobs are
written before the index names them and both are synced, so an index never points at what a crash took away.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.pipelines.reference import Reference, digest_of, verify

REF_NAME = "org.opencontainers.image.ref.name"


class Layout:
    """One layout directory; ``repository:tag`` is the reference name inside it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def manifest(self, reference: Reference) -> bytes:
        """Return the manifest's bytes. Raises ``InvalidInput`` (reason ``NotFound``) when there is none."""
        digest = reference.digest
        if not digest:
            name = f"{reference.repository}:{reference.tag or 'latest'}"
            digest = next((d["digest"] for d in self._entries() if d.get("annotations", {}).get(REF_NAME) == name), "")
            if not digest:
                known = sorted(d.get("annotations", {}).get(REF_NAME, "") for d in self._entries())
                raise InvalidInput(
                    f"bundle {reference}: not in {self._directory}; there are {', '.join(filter(None, known)) or 'none'}",
                    reason="NotFound",
                )
        return self.blob(reference, digest)

    def blob(self, reference: Reference, digest: str) -> bytes:
        """Return a blob's bytes, verified."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise InvalidInput(
                f"bundle {reference}: {digest} is not in {self._directory}", reason="NotFound"
            ) from error
        return verify(content, digest, f"bundle {reference}, {path}")

    def put(self, reference: Reference, blobs: tuple[bytes, ...], manifest: bytes, media_type: str) -> str:
        """Store blobs and manifest and point the reference's tag at them; returns the manifest's digest."""
        with self._locked():
            for content in (*blobs, manifest):
                self._write_blob(content)
            digest = digest_of(manifest)
            descriptor: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": len(manifest)}
            name = f"{reference.repository}:{reference.tag or 'latest'}"
            descriptor["annotations"] = {REF_NAME: name}
            others = [d for d in self._entries() if d.get("annotations", {}).get(REF_NAME) != name]
            index = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [*others, descriptor],
            }
            _write(self._directory / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}\n')
            _write(self._directory / "index.json", orjson.dumps(index, option=orjson.OPT_INDENT_2))
        return digest

    def references(self) -> tuple[tuple[str, str], ...]:
        """Return (``repository:tag``, digest) of everything in the layout."""
        return tuple((d.get("annotations", {}).get(REF_NAME, ""), d["digest"]) for d in self._entries())

    def _entries(self) -> list[dict[str, Any]]:
        index = self._directory / "index.json"
        try:
            document = orjson.loads(index.read_bytes())
            entries: list[dict[str, Any]] = [d for d in document["manifests"] if isinstance(d["digest"], str)]
        except FileNotFoundError:
            return []
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InvalidInput(f"{index} is not the index of an OCI image layout: {error}") from error
        return entries

    def _path(self, digest: str) -> Path:
        algorithm, _, encoded = digest.partition(":")
        return self._directory / "blobs" / algorithm / encoded

    def _write_blob(self, content: bytes) -> None:
        path = self._path(digest_of(content))
        if not path.exists() or path.stat().st_size != len(content):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
