"""The fleet: one detached, named Ray actor per kind and range of shards, and one that watches the cluster's events.

This is the only place that says how such an actor is made.

``Fleet`` is used by the runtime that brings the system up. It reads what should run from the settings, makes it so
(``ensure``, as often as one likes), watches over it (``supervise``), and ends it in good order (``drain``). Ray restarts an
actor whose process dies; the fleet makes anew what was killed for good, what hangs, and what runs an old configuration.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import ray
import structlog
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from actors.controller_actor import BUILDERS, ControllerActor
from actors.event_watcher.actor import EventWatcherActor
from actors.resident import EVENT_WATCHER, ActorSpec
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control import shards
from kubernaut_ray.settings import Settings

NAMESPACE = "kubernaut"
PREFIX = "controller:"
CONTROL_GROUP = "control"
CALL_TIMEOUT = 5.0
DRAIN_TIMEOUT = 30.0
FAILED_CHECKS = 3
"""An actor that misses this many health checks in a row is replaced."""

log = structlog.get_logger(__name__)

Handle = Any
"""Ray's actor handle, which has no useful static type."""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Which actors should run."""

    actors: tuple[ActorSpec, ...]

    @classmethod
    def of(
        cls,
        settings: Settings,
        endpoints: Endpoints,
        *,
        kubeconfig: Path | None,
        token_file: Path | None,
        builders: Mapping[str, str] = BUILDERS,
    ) -> FleetPlan:
        """Divide each kind's shards among as many actors as the settings name, one where they name none.

        Where there is a gateway, the event watcher is planned too, unless the settings say no.
        """
        common: dict[str, Any] = {
            "settings": settings.without_secrets(),
            "endpoints": endpoints.model_dump(),
            "kubeconfig": str(kubeconfig) if kubeconfig else None,
            "token_file": str(token_file) if token_file else None,
            "data_dir": str(settings.data_dir),
        }
        specs = [
            ActorSpec(plural, part.first, part.last, builder=builder, **common)
            for plural, builder in builders.items()
            for part in shards.ranges(settings.fleet.shards.get(plural, 1))
        ]
        if settings.event_watcher.enabled and endpoints.gateway:
            whole = shards.ShardRange()
            specs.append(ActorSpec("events", whole.first, whole.last, role=EVENT_WATCHER, **common))
        return cls(tuple(replace(spec, digest=digest(spec)) for spec in specs))


def digest(spec: ActorSpec) -> str:
    """Identify a configuration: equal digests, nothing to redeploy."""
    body = orjson.dumps(asdict(replace(spec, digest="")), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()[:16]


class Fleet:
    """Makes the plan true. Needs an initialised Ray."""

    def __init__(self, plan: FleetPlan, *, env: Mapping[str, str] | None = None) -> None:
        self._plan = plan
        self._env = dict(env or {})
        self._missed: dict[str, int] = {}

    async def ensure(self) -> None:
        """Start what is missing, replace what has another configuration, end what is no longer planned."""
        wanted = {spec.name for spec in self._plan.actors}
        stale = [name for name in running() if name not in wanted]
        if stale:
            log.info("fleet.retiring", actors=stale)
            await self._end(stale)
        await asyncio.gather(*(self._ensure(spec) for spec in self._plan.actors))

    async def ready(self, timeout: float = 60.0) -> None:
        """Wait until every actor's loop runs (or stands by for another owner). Raises ``TimeoutError`` naming the others."""
        pending: dict[str, str] = {}
        try:
            async with asyncio.timeout(timeout):
                while True:
                    healths = await self.health()
                    pending = {
                        name: health.get("error") or str(health.get("state"))
                        for name, health in healths.items()
                        if health.get("state") not in {"running", "standby"}
                    }
                    if not pending:
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            waiting = ", ".join(f"{name} ({why})" for name, why in pending.items())
            raise TimeoutError(f"controllers not ready after {timeout:.0f} s: {waiting}") from None

    async def health(self) -> dict[str, dict[str, Any]]:
        """Ask every planned actor; one that cannot answer has ``ok`` false and says why."""
        return await self._ask("health")

    async def stats(self) -> dict[str, dict[str, Any]]:
        return await self._ask("stats")

    async def wake(self, plural: str, namespace: str, name: str) -> None:
        """Have an object looked at soon, by whoever owns it."""
        for spec in self._plan.actors:
            handle = find(spec.name) if spec.plural == plural else None
            if handle is not None:
                handle.wake.remote(namespace, name)

    async def supervise(self, interval: float = 5.0) -> None:
        """Look after the actors until cancelled."""
        while True:
            await asyncio.sleep(interval)
            await self.check()

    async def check(self) -> None:
        """One round of supervision: make anew what is gone, and what did not answer well several times in a row."""
        healths = await self.health()
        for spec in self._plan.actors:
            health = healths[spec.name]
            if health["ok"]:
                self._missed.pop(spec.name, None)
                continue
            missed = self._missed[spec.name] = self._missed.get(spec.name, 0) + 1
            log.warning("fleet.unhealthy", actor=spec.name, error=health.get("error"), missed=missed)
            if health.get("gone"):
                await self._ensure(spec)
            elif missed >= FAILED_CHECKS:
                await self._replace(spec)
                self._missed.pop(spec.name, None)

    async def drain(self) -> None:
        """End every controller actor of the namespace, planned or not, letting each finish what it has in hand."""
        await self._end(running())

    async def _ensure(self, spec: ActorSpec) -> None:
        handle = find(spec.name)
        if handle is not None:
            try:
                health = await _call(handle, "health")
            except (RayError, TimeoutError) as error:
                log.info("fleet.no_answer", actor=spec.name, error=type(error).__name__)
                if not isinstance(error, RayActorError):
                    return  # busy starting: supervision decides
            else:
                if health["digest"] == spec.digest:
                    return
                log.info("fleet.redeploying", actor=spec.name, old=health["digest"], new=spec.digest)
            await self._end([spec.name])
        start(spec, env=self._env)
        log.info("fleet.started", actor=spec.name)

    async def _replace(self, spec: ActorSpec) -> None:
        handle = find(spec.name)
        if handle is not None:
            ray.kill(handle)
            await _gone(spec.name)
        start(spec, env=self._env)
        log.info("fleet.replaced", actor=spec.name)

    async def _end(self, names: Iterable[str]) -> None:
        async def one(name: str) -> None:
            handle = find(name)
            if handle is None:
                return
            try:
                await _call(handle, "drain", timeout=DRAIN_TIMEOUT, group=None)
            except (RayError, TimeoutError) as error:
                log.warning("fleet.drain_failed", actor=name, error=type(error).__name__)
            ray.kill(handle)
            await _gone(name)

        await asyncio.gather(*(one(name) for name in names))

    async def _ask(self, method: str) -> dict[str, dict[str, Any]]:
        async def one(name: str) -> dict[str, Any]:
            handle = find(name)
            if handle is None:
                return {"ok": False, "gone": True, "error": "no such actor"}
            try:
                answer: dict[str, Any] = await _call(handle, method)
            except RayTaskError as error:
                return {"ok": False, "error": str(error.cause)}
            except (RayError, TimeoutError) as error:
                return {"ok": False, "error": type(error).__name__}
            return answer

        names = [spec.name for spec in self._plan.actors]
        return dict(zip(names, await asyncio.gather(*(one(name) for name in names)), strict=True))


def start(spec: ActorSpec, *, env: Mapping[str, str] | None = None) -> Handle:
    """Make one actor, with every option in view. An actor of that name that exists already is returned as it is."""
    options: dict[str, Any] = {
        "num_cpus": 0,  # it waits, mostly; CPUs are for replicas
        "max_restarts": -1,  # its memory is cache, so any number of times
        "max_task_retries": 0,  # a call with an unknown outcome is the caller's to repeat
        "concurrency_groups": {CONTROL_GROUP: 4},  # health and stats have their own thread and loop
    }
    make: Any = ray.remote(**options)(EventWatcherActor if spec.role == EVENT_WATCHER else ControllerActor)
    return make.options(
        name=spec.name,
        namespace=NAMESPACE,
        lifetime="detached",  # it outlives the driver that made it
        get_if_exists=True,
        runtime_env={"env_vars": dict(env)} if env else None,
    ).remote(asdict(spec))


def find(name: str) -> Handle | None:
    """Return the named actor's handle, or ``None``."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def running() -> list[str]:
    """Return the names of the fleet's actors that Ray knows in our namespace."""
    listed = (a["name"] for a in ray.util.list_named_actors(all_namespaces=True) if a["namespace"] == NAMESPACE)
    return sorted(name for name in listed if name.startswith(PREFIX) or name == EVENT_WATCHER)


async def _call(
    handle: Handle, method: str, *, timeout: float = CALL_TIMEOUT, group: str | None = CONTROL_GROUP
) -> Any:
    """Call an actor's method. Raises ``RayError`` or ``TimeoutError``."""
    bound = getattr(handle, method)
    call = bound.options(concurrency_group=group) if group else bound
    try:
        return await asyncio.wait_for(asyncio.wrap_future(call.remote().future()), timeout)
    except GetTimeoutError as error:
        raise TimeoutError(str(error)) from error


async def _gone(name: str) -> None:
    """Wait until Ray has forgotten a killed actor's name, so that it can be given again."""
    async with asyncio.timeout(10.0):
        while name in running():
            await asyncio.sleep(0.05)
