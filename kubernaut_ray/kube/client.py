"""The typed client: the only importer of ``kubernetes``. Every call is one request; retrying is the caller's business.

Objects go in and come out as plain JSON mappings (orjson), because the generated models cost more than the network.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import msgspec
import orjson

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube import connection, discovery
from kubernaut_ray.kube.connection import Connection
from kubernaut_ray.kube.errors import NotFound, Unavailable
from kubernaut_ray.kube.resources import POD, SERVICE_ACCOUNT, SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW, Resource

Object = dict[str, Any]
PatchKind = Literal["merge", "json", "strategic", "apply"]

_PATCH_TYPES: dict[PatchKind, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Version(msgspec.Struct, frozen=True, rename="camel"):
    """Which version of which object: enough to tell whether what one remembers of it is still so."""

    name: str
    uid: str
    resource_version: str
    labels: dict[str, str] = {}


class _Item(msgspec.Struct):
    metadata: Version


class _Versions(msgspec.Struct):
    items: list[_Item] | None = None


_decode_versions = msgspec.json.Decoder(_Versions).decode


@dataclass(frozen=True, slots=True)
class ObjectList:
    items: tuple[Object, ...]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """``type`` is ADDED, MODIFIED, DELETED or BOOKMARK. ERROR is raised (410 as ``Gone``), never yielded."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who a token belongs to, as the TokenReview says."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()


class KubeClient:
    """One connection pool to one API server. Errors are ``kubernaut_ray.kube.errors``."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    @classmethod
    async def connect(
        cls, kubeconfig: Path | None = None, *, context: str | None = None, timeout: float = 15.0
    ) -> Self:
        """Connect by kubeconfig, or by the pod's service account when ``kubeconfig`` is ``None`` and one is mounted.

        No request is made yet. Raises ``InvalidInput`` when there are no usable credentials.
        """
        return cls(Connection(await connection.configure(kubeconfig, context), timeout=timeout))

    async def close(self) -> None:
        await self._link.close()

    def bearing(self, token: str) -> KubeClient:
        """Return a client that asks in the name of whoever this token belongs to, over our connections. Not to be closed.

        Only where our own credentials are a token too: an API server heeds a client certificate before any token.
        """
        return KubeClient(self._link.bearing(token))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def host(self) -> str:
        """The API server's base URL."""
        return self._link.host

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Read one object from the source of truth. Raises ``NotFound``."""
        return await self._link.send("GET", _path(resource, namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int | None = None,
        continue_token: str = "",
    ) -> ObjectList:
        """List one page (all, when ``limit`` is ``None``). ``namespace`` ``None`` means all namespaces."""
        query = _query(labelSelector=labels, fieldSelector=fields, limit=limit, **{"continue": continue_token})
        body = await self._link.send("GET", _path(resource, namespace), query=query)
        metadata = body.get("metadata") or {}
        items = tuple(body.get("items") or ())
        for item in items:
            # The items of a list lack what the list says once.
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return ObjectList(items, metadata.get("resourceVersion", ""), metadata.get("continue") or "")

    async def versions(self, resource: Resource, namespace: str | None = None, *, labels: str) -> tuple[Version, ...]:
        """List the versions of the objects that a label selector picks, without the objects (PartialObjectMetadata)."""
        path = _path(resource, namespace)
        data = await self._link.fetch(path, query=_query(labelSelector=labels), accept=_METADATA_LIST)
        try:
            return tuple(item.metadata for item in _decode_versions(data).items or ())
        except msgspec.DecodeError as error:
            raise Unavailable(f"GET {path}: the answer is no PartialObjectMetadataList ({error})") from error

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Create. ``apiVersion`` and ``kind`` are filled in; the namespace defaults to the object's. Raises ``AlreadyExists``."""
        path = _path(resource, _home(resource, obj, namespace))
        query = _query(dryRun="All" if dry_run else "", fieldManager=connection.USER_AGENT)
        return await self._link.send("POST", path, query=query, body=_typed(resource, obj))

    async def replace(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> Object:
        """PUT. Raises ``Conflict`` when ``metadata.resourceVersion`` is set and old."""
        name = str((obj.get("metadata") or {}).get("name") or "")
        path = _path(resource, _home(resource, obj, namespace), name, subresource)
        query = _query(fieldManager=connection.USER_AGENT)
        return await self._link.send("PUT", path, query=query, body=_typed(resource, obj))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        kind: PatchKind = "merge",
        subresource: str | None = None,
        field_manager: str = connection.USER_AGENT,
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """PATCH. A ``metadata.resourceVersion`` inside a merge patch makes it conditional: ``Conflict`` when old."""
        body = patch
        if kind == "apply" and isinstance(patch, Mapping):
            body = _typed(resource, patch)
        query = _query(
            fieldManager=field_manager,
            force="true" if force and kind == "apply" else "",
            dryRun="All" if dry_run else "",
        )
        path = _path(resource, namespace, name, subresource)
        return await self._link.send("PATCH", path, query=query, body=body, content_type=_PATCH_TYPES[kind])

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        """DELETE with preconditions. Raises ``NotFound``, and ``Conflict`` when a precondition fails."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
        if preconditions:
            options["preconditions"] = preconditions
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        await self._link.send("DELETE", _path(resource, namespace, name), body=options)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        timeout_seconds: int = 300,
        idle_timeout: float = 90.0,
    ) -> AsyncGenerator[WatchEvent]:
        """One watch connection, with bookmarks, until the server ends it. Raises ``Gone`` on 410.

        ``idle_timeout`` seconds without a byte (a kube-apiserver sends a bookmark every minute) raise ``Unavailable``:
        connections die silently. Leave it early inside ``contextlib.aclosing`` so that the connection goes with it.
        """
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            labelSelector=labels,
            fieldSelector=fields,
            timeoutSeconds=timeout_seconds,
        )
        path = _path(resource, namespace)
        async with self._link.stream(path, query=query, idle_timeout=idle_timeout) as content:
            rest = b""
            async for chunk in content:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield _event(line, path)
            if rest.strip():
                raise Unavailable(f"watch {path}: the connection ended in the middle of an event")

    async def logs(
        self,
        namespace: str,
        name: str,
        *,
        container: str = "",
        previous: bool = False,
        tail_lines: int = 100,
        limit_bytes: int = 262_144,
    ) -> str:
        """The last lines of a container's log; ``previous`` of its run before the last restart. Raises ``NotFound``."""
        query = _query(
            container=container,
            previous="true" if previous else "",
            tailLines=tail_lines,
            limitBytes=limit_bytes,
        )
        path = _path(POD, namespace, name, "log")
        async with self._link.stream(path, query=query, idle_timeout=15.0) as content:
            text = bytearray()
            async for chunk in content:
                text += chunk
                if len(text) >= limit_bytes:
                    break
        return bytes(text[:limit_bytes]).decode(errors="replace")

    async def discover(self) -> tuple[Resource, ...]:
        """Every resource that the server's discovery lists (preferred versions)."""
        return await discovery.discover(self._link)

    async def version(self) -> str:
        """``gitVersion`` of the server."""
        return str((await self._link.send("GET", "/version")).get("gitVersion", ""))

    async def review_token(self, token: str, *, audiences: tuple[str, ...] = ()) -> UserInfo | None:
        """TokenReview: who this is, or ``None`` when the token is not accepted."""
        spec: dict[str, Any] = {"token": token}
        if audiences:
            spec["audiences"] = list(audiences)
        status = (await self.create(TOKEN_REVIEW, {"spec": spec})).get("status") or {}
        user = status.get("user") or {}
        if not status.get("authenticated") or not user.get("username"):
            return None
        return UserInfo(str(user["username"]), str(user.get("uid") or ""), tuple(user.get("groups") or ()))

    async def may(
        self, user: UserInfo, *, verb: str, group: str, resource: str, namespace: str = "", name: str = ""
    ) -> bool:
        """SubjectAccessReview with resource attributes."""
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name}
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": [*user.groups],
            "resourceAttributes": {k: v for k, v in attributes.items() if v},
        }
        status = (await self.create(SUBJECT_ACCESS_REVIEW, {"spec": spec})).get("status") or {}
        return bool(status.get("allowed")) and not status.get("denied")

    async def service_account_token(self, namespace: str, name: str, *, expiration_seconds: int = 3600) -> str:
        """TokenRequest: a bearer token of this ServiceAccount."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": expiration_seconds},
        }
        answer = await self._link.send("POST", _path(SERVICE_ACCOUNT, namespace, name, "token"), body=body)
        token = (answer.get("status") or {}).get("token")
        if not token:
            raise NotFound(f"no token for ServiceAccount {namespace}/{name}", status=404, reason="NotFound")
        return str(token)


def _path(
    resource: Resource, namespace: str | None = None, name: str | None = None, subresource: str | None = None
) -> str:
    """Build the path, each part quoted; a name that would change which resource is meant is refused."""
    for part, text in (("name", name), ("namespace", namespace)):
        if text is not None and (text in {"", ".", ".."} or "/" in text):
            raise InvalidInput(f"{resource.kind}: {text!r} is no {part} of a Kubernetes object")
    if name is not None and resource.namespaced and namespace is None:
        raise InvalidInput(f"{resource.kind} {name}: the namespace is missing")
    return resource.path(_quoted(namespace) if namespace else None, _quoted(name) if name else None, subresource)


@functools.lru_cache(maxsize=4096)
def _quoted(part: str) -> str:
    return quote(part, safe=":")  # RBAC objects have colons in their names


def _query(**parameters: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in parameters.items() if value not in (None, "")}


def _home(resource: Resource, obj: Mapping[str, Any], namespace: str | None) -> str | None:
    """Where an object belongs: what the caller says, else what the object says, else ``default``."""
    if not resource.namespaced:
        return None
    return namespace or (obj.get("metadata") or {}).get("namespace") or "default"


def _typed(resource: Resource, obj: Mapping[str, Any]) -> Object:
    return {**obj, "apiVersion": resource.api_version, "kind": resource.kind}


def _event(line: bytes, path: str) -> WatchEvent:
    try:
        event = orjson.loads(line)
        kind, obj = event["type"], event["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Unavailable(f"watch {path}: a line that is no watch event") from error
    if kind == "ERROR":
        raise connection.failure(int(obj.get("code") or 500), orjson.dumps(obj), {}, f"watch {path}")
    return WatchEvent(kind, obj)
