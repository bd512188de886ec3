"""A client of the API server in process: each call takes a while, may fail before or after it was done, or be the last one.

One ``SimClient`` is one process's. Once that has died, its calls do nothing any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import orjson

from kubernaut_ray import names
from kubernaut_ray.kube.client import KubeClient, Object, ObjectList, PatchKind, Version, WatchEvent
from kubernaut_ray.kube.connection import failure
from kubernaut_ray.kube.embedded import patches
from kubernaut_ray.kube.embedded.hub import Entry
from kubernaut_ray.kube.embedded.kinds import Kind
from kubernaut_ray.kube.embedded.selectors import selector
from kubernaut_ray.kube.embedded.status import ApiStatus, forbidden
from kubernaut_ray.kube.embedded.watching import _filter, _shown
from kubernaut_ray.kube.errors import Conflict, Gone, Unavailable
from kubernaut_ray.kube.resources import APPROVAL_REQUEST, LEASE, WORKFLOW_EXECUTION, Resource
from serve_apps.admission import approvals, fencing
from serve_apps.admission.approvals import Desk
from serve_apps.admission.review import Allowed, Caller, Denied, Request
from tests.flow.simulation.faults import Crash, Faults
from tests.flow.simulation.server import Server

T = TypeVar("T")


@dataclass
class Life:
    """One process: it ends by a crash, and what it has begun ends with it."""

    name: str
    mortal: bool = True
    leased: bool = False
    """It shares its work with another one, by Leases: it may sleep, and go on as if nothing had happened."""
    dead: bool = False
    asleep_until: float = 0.0

    def check(self) -> None:
        if self.dead:
            raise Crash(self.name)

    def die(self) -> None:
        self.dead = True
        raise Crash(self.name)


class SimClient(KubeClient):
    """``desk`` is the admission webhook's, where one is installed; ``user`` is who asks."""

    def __init__(
        self, server: Server, faults: Faults, life: Life, *, desk: Desk | None = None, user: str = names.PLATFORM_USER
    ) -> None:
        self._server, self._faults, self.life = server, faults, life
        self._desk, self._user = desk, user

    async def close(self) -> None:
        """Nothing is open."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        kind = self._server.kind(resource)
        return _body(await self._read(lambda: self._server.get(kind, _home(kind, namespace), name)))

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
        entries, version = await self._select(resource, namespace, labels, fields)
        return ObjectList(tuple(map(_body, entries)), str(version))

    async def versions(self, resource: Resource, namespace: str | None = None, *, labels: str) -> tuple[Version, ...]:
        entries, _ = await self._select(resource, namespace, labels, "")
        found = (entry.obj["metadata"] for entry in entries)
        return tuple(Version(m["name"], m["uid"], m["resourceVersion"], dict(m.get("labels") or {})) for m in found)

    async def discover(self) -> tuple[Resource, ...]:
        return await self._read(
            lambda: tuple(
                Resource(k.group, k.version, k.plural, k.kind, k.namespaced) for k in self._server.registry.kinds()
            )
        )

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        assert not dry_run
        kind = self._server.kind(resource)
        home = _home(kind, namespace or obj["metadata"].get("namespace") or "default")

        async def review() -> Entry:
            asked = Request(
                uid="", operation="CREATE", user_info=Caller(username=self._user), object=dict(obj),
                name=obj["metadata"]["name"], namespace=home, resource={"group": kind.group, "resource": kind.plural},
            )  # fmt: skip
            verdict = await fencing.judge(asked, self._server.lease)
            if isinstance(verdict, Denied):
                self._faults.note("fenced")
                raise ApiStatus(403, verdict.reason, verdict.why)
            return self._server.create(kind, home, obj)

        runs = self.life.leased and (kind.group, kind.plural) in fencing.RUNS
        write = review if runs else lambda: self._server.create(kind, home, obj)
        execution = "paused_execution" if resource == WORKFLOW_EXECUTION else "paused"
        return _body(await self._write(write, paused="paused_run" if runs else execution))

    async def replace(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> Object:
        assert subresource is None
        kind = self._server.kind(resource)
        home = _home(kind, namespace or obj["metadata"].get("namespace"))
        return _body(
            await self._write(
                lambda: self._server.replace(kind, home, obj["metadata"]["name"], obj), rough=resource != LEASE
            )
        )

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        kind: PatchKind = "merge",
        subresource: str | None = None,
        field_manager: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        assert kind == "merge", kind
        served = self._server.kind(resource)
        home = _home(served, namespace)
        reviewed = self._desk is not None and resource == APPROVAL_REQUEST and subresource == "status"

        async def review() -> Entry:
            draft = self._server.draft(served, home, name, patch, "status")
            self._server.objects.shape(draft)
            for ask in (approvals.stamp, approvals.judge):
                assert self._desk is not None
                asked = Request(
                    uid="", operation="UPDATE", user_info=Caller(username=self._user), object=draft.obj,
                    old_object=draft.old, name=name, namespace=home, resource={"resource": served.plural},
                )  # fmt: skip
                verdict = await ask(asked, self._desk)
                if isinstance(verdict, Denied):
                    raise forbidden(served.plural, served.group, name, verdict.why)
                assert isinstance(verdict, Allowed)
                draft.obj = patches.json_patch(draft.obj, list(verdict.patch))
            return self._server.objects.commit(draft)

        def write() -> Entry:
            return self._server.objects.commit(self._server.draft(served, home, name, patch, subresource or ""))

        return _body(await self._write(review if reviewed else write))

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
        kind = self._server.kind(resource)
        await self._write(lambda: self._server.delete(kind, _home(kind, namespace), name, uid, resource_version))

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
        """One watch, on which events come late, twice, or not at all, and which ends now and then."""
        kind, faults, hub = self._server.kind(resource), self._faults, self._server.store.hub
        self.life.check()
        if faults.hits("watch_gone"):
            raise Gone("too old resource version", status=410, reason="Expired")
        keep = _filter(namespace or "", selector(labels, fields, kind.selectable))
        since = int(resource_version or self._server.store.committed)
        try:
            subscription = hub.subscribe(kind.table, since, keep)
        except ApiStatus as error:
            raise _error(error) from error
        ends = asyncio.get_running_loop().time() + timeout_seconds
        try:
            while (left := ends - asyncio.get_running_loop().time()) > 0:
                try:
                    async with asyncio.timeout(left):
                        await subscription.wait()
                except TimeoutError:
                    return
                for seen, event in subscription.drain():
                    if faults.hits("watch_cut"):
                        raise Unavailable("the connection broke")
                    if seen == "MODIFIED" and faults.hits("event_lost"):
                        continue  # A whole object is never lost: what a list showed, a watch goes on from.
                    await asyncio.sleep(faults.rng.uniform(0.5, 20.0) if faults.hits("event_late") else 0.001)
                    self.life.check()
                    body = _body(_shown(seen, event))
                    yield WatchEvent(seen, body)
                    if faults.hits("event_twice"):
                        yield WatchEvent(seen, body)
                if subscription.closed:
                    return
        finally:
            hub.unsubscribe(kind.table, subscription)

    async def _select(
        self, resource: Resource, namespace: str | None, labels: str, fields: str
    ) -> tuple[list[Entry], int]:
        kind, store = self._server.kind(resource), self._server.store
        home = (namespace or "") if kind.namespaced else ""
        return await self._read(lambda: (self._server.select(kind, home, labels, fields), store.head))

    async def _read(self, work: Callable[[], T]) -> T:
        await self._begin()
        if self._faults.hits("unread"):
            raise Unavailable("the API server does not answer")
        try:
            return work()
        except ApiStatus as error:
            raise _error(error) from error
        finally:
            await self._server.store.settled()

    async def _write(self, work: Callable[[], Any], *, paused: str = "paused", rough: bool = True) -> Any:
        """Most writes of a Lease are left alone: they are many, and say little."""
        await self._begin()
        faults = self._faults
        if not rough and faults.rng.random() < 0.9:
            return await self._arrive(work)
        if self.life.mortal and faults.hits("crash"):
            self.life.die()
        if faults.hits("refused"):
            raise Unavailable("the API server does not answer")
        if faults.hits("conflict"):
            raise Conflict("the object has been modified")
        if self.life.leased and faults.hits(paused):
            nap = faults.nap()
            self.life.asleep_until = asyncio.get_running_loop().time() + nap
            # Whoever waits for the answer may have given up long before the write arrives: it arrives all the same.
            arriving = asyncio.ensure_future(self._arrive(work, nap))
            arriving.add_done_callback(lambda done: done.cancelled() or done.exception())
            result = await asyncio.shield(arriving)
        else:
            result = await self._arrive(work)
        if self.life.mortal and faults.hits("crash"):
            self.life.die()
        if faults.hits("answer_lost"):
            raise Unavailable("the answer was lost")
        return result

    async def _arrive(self, work: Callable[[], Any], after: float = 0.0) -> Any:
        if after:
            await asyncio.sleep(after)
        self._server.writer, self._server.late = self.life.name, after > 0
        try:
            result = work()
            return await result if asyncio.iscoroutine(result) else result
        except ApiStatus as error:
            raise _error(error) from error
        finally:
            self._server.writer, self._server.late = "", False
            await self._server.store.settled()

    async def _begin(self) -> None:
        self.life.check()
        await asyncio.sleep(self._faults.latency())
        while (left := self.life.asleep_until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left)
        self.life.check()


def _home(kind: Kind, namespace: str | None) -> str:
    return (namespace or "default") if kind.namespaced else ""


def _body(entry: Entry) -> Object:
    return entry.obj


def _error(error: ApiStatus) -> Exception:
    return failure(error.code, orjson.dumps(error.body()), error.headers, "the API server")
