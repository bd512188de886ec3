"""The typed client: the only importer of ``kubernetes``. Every call is one request; retrying is the caller's business.

Objects go in and come out as plain JSON mappings (orjson), because the generated models cost more than the network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from kubernaut_ray.kube.resources import Resource

Object = dict[str, Any]
PatchKind = Literal["merge", "json", "strategic", "apply"]


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

    @classmethod
    async def connect(
        cls, kubeconfig: Path | None = None, *, context: str | None = None, timeout: float = 15.0
    ) -> Self:
        """Connect by kubeconfig, or by the pod's service account when ``kubeconfig`` is ``None`` and one is mounted."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Read one object from the source of truth. Raises ``NotFound``."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Create. ``apiVersion`` and ``kind`` are filled in; the namespace defaults to the object's. Raises ``AlreadyExists``."""
        raise NotImplementedError

    async def replace(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> Object:
        """PUT. Raises ``Conflict`` when ``metadata.resourceVersion`` is set and old."""
        raise NotImplementedError

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        kind: PatchKind = "merge",
        subresource: str | None = None,
        field_manager: str = "kubernaut-ray",
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """PATCH. A ``metadata.resourceVersion`` inside a merge patch makes it conditional: ``Conflict`` when old."""
        raise NotImplementedError

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
        raise NotImplementedError

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        timeout_seconds: int = 300,
    ) -> AsyncIterator[WatchEvent]:
        """One watch connection, with bookmarks, until the server ends it. Raises ``Gone`` on 410."""
        raise NotImplementedError

    async def discover(self) -> tuple[Resource, ...]:
        """Every resource that the server's discovery lists (preferred versions)."""
        raise NotImplementedError

    async def version(self) -> str:
        """``gitVersion`` of the server."""
        raise NotImplementedError

    async def review_token(self, token: str, *, audiences: tuple[str, ...] = ()) -> UserInfo | None:
        """TokenReview: who this is, or ``None`` when the token is not accepted."""
        raise NotImplementedError

    async def may(
        self, user: UserInfo, *, verb: str, group: str, resource: str, namespace: str = "", name: str = ""
    ) -> bool:
        """SubjectAccessReview with resource attributes."""
        raise NotImplementedError

    async def service_account_token(self, namespace: str, name: str, *, expiration_seconds: int = 3600) -> str:
        """TokenRequest: a bearer token of this ServiceAccount."""
        raise NotImplementedError
