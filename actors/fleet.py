"""The fleet: a controller per kind and range of shards, and one watcher of the cluster's events, in detached, named Ray actors.

In a cluster each lives in an actor of its own. On one machine those with little to do share one (``fleet.together``). This is
the only place that says how such an actor is made.

``Fleet`` is used by the runtime that brings the system up. It reads what should run from the settings, makes it so
(``ensure``, as often as one likes), watches over it (``supervise``), and ends it in good order (``drain``). Ray restarts an
actor whose process dies; the fleet makes anew what was killed for good, what hangs, and what runs an old configuration.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import ray
import structlog
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from actors.controller_actor import BUILDERS
from actors.host import ControllerHost
from actors.resident import EVENT_WATCHER, ActorSpec
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control import shards
from kubernaut_ray.settings import Settings

NAMESPACE = "kubernaut"
PREFIX = "controller:"
SHARED = "controllers"
"""The actor of those that share one."""
ALONE = frozenset({"remediationrequests"})
"""What has the most to do never shares."""
CONTROL_GROUP = "control"
CALL_TIMEOUT = 5.0
DRAIN_TIMEOUT = 30.0
FAILED_CHECKS = 3
"""An actor that misses this many health checks in a row is replaced."""

log = structlog.get_logger(__name__)

Handle = Any
"""Ray's actor handle, which has no useful static type."""


@dataclass(frozen=True, slots=True)
class Host:
    """One Ray actor and who lives in it. Those who share it are started, replaced and ended together."""

    name: str
    residents: tuple[ActorSpec, ...]

    @property
    def digests(self) -> dict[str, str]:
        return {spec.name: spec.digest for spec in self.residents}


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Which actors should run."""

    hosts: tuple[Host, ...]

    @property
    def residents(self) -> tuple[ActorSpec, ...]:
        return tuple(spec for host in self.hosts for spec in host.residents)

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
        together = settings.fleet.together
        return cls(
            housed(
                [replace(spec, digest=digest(spec)) for spec in specs],
                together=settings.kubeconfig is None if together is None else together,
            )
        )


def housed(specs: Sequence[ActorSpec], *, together: bool) -> tuple[Host, ...]:
    """Give each an actor of its own; or one to all that are not divided, but for ``ALONE``. One alone keeps its own name."""
    sharing = [s for s in specs if s.shards == shards.ShardRange() and s.plural not in ALONE] if together else []
    if len(sharing) < 2:
        sharing = []
    own = [Host(spec.name, (spec,)) for spec in specs if spec not in sharing]
    return (*own, Host(SHARED, tuple(sharing))) if sharing else tuple(own)


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
        wanted = {host.name for host in self._plan.hosts}
        stale = [name for name in running() if name not in wanted]
        if stale:
            log.info("fleet.retiring", actors=stale)
            await self._end(stale)
        await asyncio.gather(*(self._ensure(host) for host in self._plan.hosts))

    async def ready(self, timeout: float = 60.0) -> None:
        """Wait until every controller's loop runs (or stands by for another owner). Raises ``TimeoutError`` naming the others."""
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
        """Ask every planned resident, by its name; one that cannot answer has ``ok`` false and says why."""
        return await self._ask("health")

    async def stats(self) -> dict[str, dict[str, Any]]:
        return await self._ask("stats")

    async def wake(self, plural: str, namespace: str, name: str) -> None:
        """Have an object looked at soon, by whoever owns it."""
        for host in self._plan.hosts:
            for spec in host.residents:
                handle = find(host.name) if spec.plural == plural else None
                if handle is not None:
                    handle.wake.remote(spec.name, namespace, name)

    async def supervise(self, interval: float = 5.0) -> None:
        """Look after the actors until cancelled."""
        while True:
            await asyncio.sleep(interval)
            await self.check()

    async def check(self) -> None:
        """One round of supervision: make anew what is gone, and what did not answer well several times in a row."""
        healths = await self.health()
        for host in self._plan.hosts:
            ill = {spec.name: healths[spec.name] for spec in host.residents if not healths[spec.name]["ok"]}
            if not ill:
                self._missed.pop(host.name, None)
                continue
            missed = self._missed[host.name] = self._missed.get(host.name, 0) + 1
            for name, health in ill.items():
                log.warning("fleet.unhealthy", actor=name, error=health.get("error"), missed=missed)
            if any(health.get("gone") for health in ill.values()):
                await self._ensure(host)
            elif missed >= FAILED_CHECKS:
                await self._replace(host)
                self._missed.pop(host.name, None)

    async def drain(self) -> None:
        """End every controller actor of the namespace, planned or not, letting each finish what it has in hand."""
        await self._end(running())

    async def _ensure(self, host: Host) -> None:
        handle = find(host.name)
        if handle is not None:
            try:
                health = await _call(handle, "health")
            except (RayError, TimeoutError) as error:
                log.info("fleet.no_answer", actor=host.name, error=type(error).__name__)
                if not isinstance(error, RayActorError):
                    return  # busy starting: supervision decides
            else:
                old = {name: told["digest"] for name, told in health.items()}
                if old == host.digests:
                    return
                log.info("fleet.redeploying", actor=host.name, old=old, new=host.digests)
            await self._end([host.name])
        start(host, env=self._env)
        log.info("fleet.started", actor=host.name, residents=list(host.digests))

    async def _replace(self, host: Host) -> None:
        handle = find(host.name)
        if handle is not None:
            ray.kill(handle)
            await _gone(host.name)
        start(host, env=self._env)
        log.info("fleet.replaced", actor=host.name)

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
        async def one(host: Host) -> dict[str, dict[str, Any]]:
            handle = find(host.name)
            if handle is None:
                return {name: {"ok": False, "gone": True, "error": "no such actor"} for name in host.digests}
            try:
                told: dict[str, dict[str, Any]] = await _call(handle, method)
            except RayTaskError as error:
                told, why = {}, str(error.cause)
            except (RayError, TimeoutError) as error:
                told, why = {}, type(error).__name__
            else:
                why = "lives there no more"
            return {name: told.get(name, {"ok": False, "error": why}) for name in host.digests}

        answers: dict[str, dict[str, Any]] = {}
        for answer in await asyncio.gather(*(one(host) for host in self._plan.hosts)):
            answers |= answer
        return answers


def start(host: Host, *, env: Mapping[str, str] | None = None) -> Handle:
    """Make one actor, with every option in view. An actor of that name that exists already is returned as it is."""
    options: dict[str, Any] = {
        "num_cpus": 0,  # it waits, mostly; CPUs are for replicas
        "max_restarts": -1,  # its memory is cache, so any number of times
        "max_task_retries": 0,  # a call with an unknown outcome is the caller's to repeat
        "concurrency_groups": {CONTROL_GROUP: 4},  # health and stats have their own thread and loop
    }
    make: Any = ray.remote(**options)(ControllerHost)
    return make.options(
        name=host.name,
        namespace=NAMESPACE,
        lifetime="detached",  # it outlives the driver that made it
        get_if_exists=True,
        runtime_env={"env_vars": dict(env)} if env else None,
    ).remote([asdict(spec) for spec in host.residents])


def find(name: str) -> Handle | None:
    """Return the named actor's handle, or ``None``."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def running() -> list[str]:
    """Return the names of the fleet's actors that Ray knows in our namespace."""
    listed = (a["name"] for a in ray.util.list_named_actors(all_namespaces=True) if a["namespace"] == NAMESPACE)
    return sorted(name for name in listed if name.startswith(PREFIX) or name in {SHARED, EVENT_WATCHER})


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
