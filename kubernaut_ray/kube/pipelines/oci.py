"""Tekton bundles: an OCI image whose layers are one resource each (Tekton Bundle Contract v0.1).

Each layer is a gzipped tar with one file, and carries the annotations ``dev.tekton.image.name``, ``.kind`` (lower case,
singular) and ``.apiVersion`` of the resource in it; at most 20 layers. Tekton's resolver refuses an image of which any
layer lacks an annotation, and reads only the layer whose kind and name were asked for. Therefore ``workflow-schema.yaml``
travels as a layer of its own, annotated with its own identity (``workflowschema`` or ``remediationworkflow``): Tekton
admits it and never looks inside, and an image unpacked to disk has the file at its root. An ordinary image with that file at
its root is a bundle too, of no resources (``image.py``): the workflow that is one container.

Used by the runner (which resolves ``pipelineRef.resolver: bundles``) and by ``catalog.bundles``. Blocking.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
import yaml

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.pipelines.image import schema_of
from kubernaut_ray.kube.pipelines.layout import Layout
from kubernaut_ray.kube.pipelines.reference import LAYOUT_REGISTRY, Reference, digest_of, verify
from kubernaut_ray.kube.pipelines.registry import Registries
from kubernaut_ray.settings import RegistryAccess

NAME = "dev.tekton.image.name"
KIND = "dev.tekton.image.kind"
API_VERSION = "dev.tekton.image.apiVersion"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
SCHEMA_FILE = "workflow-schema.yaml"
SCHEMA_KINDS = ("workflowschema", "remediationworkflow")
MAX_LAYERS = 20
MAX_DOCUMENT = 32_256
"""Tekton's resolver takes a layer's file with one read of the decompressor, which ends at its 32 KiB window less the tar header."""
MAX_UNPACKED = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """One file of a bundle: its name in the tar, its text, and the resource it holds."""

    file: str
    text: str
    resource: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.resource.get("kind", "")).lower()

    @property
    def name(self) -> str:
        metadata = self.resource.get("metadata") or {}
        return str(metadata.get("workflow_id") or metadata.get("name") or "")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A pulled bundle. ``schema_yaml`` is empty for a Tekton bundle that is no workflow of ours."""

    reference: Reference
    digest: str
    schema_yaml: str
    resources: tuple[dict[str, Any], ...]

    def resource(self, kind: str, name: str) -> dict[str, Any]:
        """Return the Tekton resource of this kind and name. Raises ``InvalidInput`` that lists what there is."""
        for resource in self.resources:
            if str(resource["kind"]).lower() == kind.lower() and resource["metadata"]["name"] == name:
                return resource
        there = ", ".join(f"{r['kind']} {r['metadata']['name']}" for r in self.resources) or "nothing"
        raise InvalidInput(
            f"bundle {self.reference}: could not find object in image with kind: {kind} and name: {name}; it holds {there}",
            reason="NotFound",
        )


class Store(Protocol):
    """Where images lie: a layout directory or a registry."""

    def manifest(self, reference: Reference) -> bytes: ...
    def blob(self, reference: Reference, digest: str) -> bytes: ...
    def put(self, reference: Reference, blobs: tuple[bytes, ...], manifest: bytes, media_type: str) -> str: ...


class Stores:
    """Chooses the store of a reference: the layout directory for ``bundles.kubernaut.local``, a registry otherwise."""

    def __init__(
        self,
        layout_dir: Path | None,
        *,
        access: Mapping[str, RegistryAccess] | None = None,
        registry_config: Path | None = None,
    ) -> None:
        self._layout = Layout(layout_dir) if layout_dir else None
        self._registries = Registries(access, config=registry_config)

    def of(self, reference: Reference) -> Store:
        if reference.registry != LAYOUT_REGISTRY:
            return self._registries
        if self._layout is None:
            raise InvalidInput(
                f"bundle {reference}: {LAYOUT_REGISTRY} means this machine's bundle directory, and none is set"
            )
        return self._layout


def pull(reference: Reference, store: Store) -> Bundle:
    """Fetch and verify a bundle. Raises ``InvalidInput`` when it is missing, changed, or no Tekton bundle."""
    raw = store.manifest(reference)
    digest = reference.digest or digest_of(raw)
    verify(raw, digest, f"bundle {reference}")
    # An index stays the pin: what runs the bundle makes the same choice from it.
    if image := _chosen(raw, reference):
        raw = verify(store.manifest(reference.pinned(image)), image, f"bundle {reference}")
    if schema := schema_of(_unannotated(raw), lambda layer: store.blob(reference, layer)):
        return Bundle(reference.pinned(digest), digest, schema, ())
    layers = _layers(raw, reference)
    schema, resources = "", []
    for index, layer in enumerate(layers):
        text = _unpack(store.blob(reference, layer["digest"]), f"bundle {reference}, layer {index}")
        if layer["annotations"][KIND] in SCHEMA_KINDS:
            schema = text
        else:
            resources.append(_resource(text, layer["annotations"], f"bundle {reference}, layer {index}"))
    return Bundle(reference.pinned(digest), digest, schema, tuple(resources))


def push(documents: Sequence[Document], reference: Reference, store: Store, annotations: dict[str, str]) -> str:
    """Pack documents as a bundle and store it; equal documents give an equal digest. Returns the manifest's digest."""
    if len(documents) > MAX_LAYERS:
        raise InvalidInput(f"bundle {reference}: {len(documents)} resources, Tekton takes at most {MAX_LAYERS}")
    blobs = [_pack(d) for d in documents]
    diff_ids = [digest_of(gzip.decompress(b)) for b in blobs]
    config = _canonical(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    )
    manifest = _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
            "layers": [
                {
                    "mediaType": LAYER_TYPE,
                    "digest": digest_of(blob),
                    "size": len(blob),
                    "annotations": {NAME: d.name, KIND: d.kind, API_VERSION: str(d.resource["apiVersion"])},
                }
                for d, blob in zip(documents, blobs, strict=True)
            ],
            "annotations": annotations,
        }
    )
    return store.put(reference, (*blobs, config), manifest, MANIFEST_TYPE)


def _canonical(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _pack(document: Document) -> bytes:
    content = document.text.encode()
    if len(content) > MAX_DOCUMENT:
        raise InvalidInput(
            f"{document.file} with its script is {len(content)} bytes; Tekton's bundle resolver reads at most {MAX_DOCUMENT} "
            "bytes of a resource: shorten the script or move a part of it into another task",
            reason="TooLarge",
        )
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info = tarfile.TarInfo(document.file)
        info.size, info.mode, info.mtime = len(content), 0o644, 0
        archive.addfile(info, io.BytesIO(content))
    return _gzip_stored(raw.getvalue())


def _gzip_stored(content: bytes) -> bytes:
    """Wrap as gzip without compressing (RFC 1952 and 1951 section 3.2.4).

    Compressors differ between zlib builds; stored blocks do not, so a folder has one digest on every machine.
    """
    pieces = [content[i : i + 65_535] for i in range(0, len(content), 65_535)] or [b""]
    blocks = b"".join(
        struct.pack("<BHH", i == len(pieces) - 1, len(p), len(p) ^ 0xFFFF) + p for i, p in enumerate(pieces)
    )
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return header + blocks + struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)


def _chosen(raw: bytes, reference: Reference) -> str:
    """Return the digest of an index's linux/amd64 image, which is the one that Tekton takes; nothing if it is no index."""
    try:
        document = orjson.loads(raw)
        if not isinstance(document, dict) or "manifests" not in document:
            return ""
        listed = [(str(d["digest"]), dict(d.get("platform") or {})) for d in document["manifests"]]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"bundle {reference}: not a Tekton bundle: its index cannot be read", reason="NotABundle"
        ) from error
    for digest, platform in listed:
        # A descriptor without a platform is taken for that one too, as go-containerregistry does.
        if (platform.get("os", "linux"), platform.get("architecture", "amd64")) == ("linux", "amd64"):
            return Reference.parse(f"{reference.image}@{digest}").digest
    there = ", ".join(f"{p.get('os')}/{p.get('architecture')}" for _, p in listed) or "nothing"
    raise InvalidInput(
        f"bundle {reference}: not a Tekton bundle: Tekton takes linux/amd64 of an index, and there is {there}",
        reason="NotABundle",
    )


def _unannotated(raw: bytes) -> list[dict[str, Any]]:
    """Return the layers of an image of which none is Tekton's; nothing otherwise."""
    try:
        layers = [(str(layer["digest"]), layer.get("annotations") or {}) for layer in orjson.loads(raw)["layers"]]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return []
    return [] if any(NAME in said for _, said in layers) else [{"digest": digest} for digest, _ in layers]


def _layers(raw: bytes, reference: Reference) -> list[dict[str, Any]]:
    """Return the layers of a manifest that keeps Tekton's contract."""
    where = f"bundle {reference}"
    try:
        manifest = orjson.loads(raw)
        layers: list[dict[str, Any]] = manifest["layers"]
        shapes = [(str(x["digest"]), dict(x.get("annotations") or {})) for x in layers]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{where}: not a Tekton bundle: its manifest is not that of one OCI image with layers", reason="NotABundle"
        ) from error
    if not 1 <= len(layers) <= MAX_LAYERS:
        raise InvalidInput(
            f"{where}: not a Tekton bundle: it has {len(layers)} layers, 1 to {MAX_LAYERS} are allowed",
            reason="NotABundle",
        )
    seen: set[tuple[str, ...]] = set()
    for index, (_, said) in enumerate(shapes):
        for key in (API_VERSION, NAME, KIND):
            if not isinstance(said.get(key), str):
                raise InvalidInput(
                    f"{where}: not a Tekton bundle: layer {index} has no annotation {key}; "
                    "make it with kubernaut-ray workflow push, or tkn bundle push",
                    reason="NotABundle",
                )
        kind = said[KIND]
        if not kind or kind.lower().removesuffix("s") != kind:
            raise InvalidInput(
                f"{where}: not a Tekton bundle: layer {index} has kind {kind!r}, "
                "which must be in lower case and singular",
                reason="NotABundle",
            )
        identity = tuple(said[key] for key in (API_VERSION, KIND, NAME))
        if identity in seen:
            raise InvalidInput(f"{where}: two layers are {identity[1]} {identity[2]}", reason="NotABundle")
        seen.add(identity)
    return [{"digest": digest, "annotations": said} for digest, said in shapes]


def _unpack(blob: bytes, where: str) -> str:
    """Return the one file of a layer: gzipped or plain tar, or the raw document."""
    try:
        if blob[:2] == b"\x1f\x8b":
            unpacker = zlib.decompressobj(wbits=31)
            blob = unpacker.decompress(blob, MAX_UNPACKED + 1)
        if len(blob) > MAX_UNPACKED:
            raise InvalidInput(f"{where}: unpacks to more than {MAX_UNPACKED} bytes", reason="NotABundle")
        try:
            with tarfile.open(fileobj=io.BytesIO(blob), mode="r:") as archive:
                member = next((m for m in archive if m.isfile()), None)
                file = archive.extractfile(member) if member else None
                content = file.read() if file else b""
        except tarfile.ReadError:
            content = blob
        return content.decode()
    except (zlib.error, tarfile.TarError, UnicodeDecodeError, EOFError) as error:
        raise InvalidInput(
            f"{where}: neither a tar with one document nor a document: {error}", reason="NotABundle"
        ) from error


def _resource(text: str, annotations: dict[str, str], where: str) -> dict[str, Any]:
    try:
        resource = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{where}: not YAML: {error}", reason="NotABundle") from error
    if not isinstance(resource, dict) or not isinstance(resource.get("metadata"), dict):
        raise InvalidInput(f"{where}: not a Kubernetes resource", reason="NotABundle")
    actual = (str(resource.get("apiVersion")), str(resource.get("kind")).lower(), str(resource["metadata"].get("name")))
    said = (annotations[API_VERSION], annotations[KIND], annotations[NAME])
    # The contract wants the whole apiVersion; tkn bundle push writes the version alone.
    short = (actual[0].rpartition("/")[2], *actual[1:])
    if said not in (actual, short):
        raise InvalidInput(
            f"{where}: annotated as {' '.join(said)}, but it holds {' '.join(actual)}", reason="NotABundle"
        )
    return resource
