"""What is put to the proof: a Kubernaut of our own, or any other tool behind a webhook. One face for both.

``OwnSystem`` reads RemediationRequests and their members from the API server. ``OtherTool`` runs commands that the caller
names: one prints what arrived, one kills something.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from benchmarks._alerts import NAMESPACE
from benchmarks._load import Target
from benchmarks._reconcile import Thing
from benchmarks._system import PARTS, System
from kubernaut_ray import clock, names
from kubernaut_ray.crds.enums import Outcome, RemediationPhase
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import REMEDIATION_REQUEST
from serve_apps.gateway.fingerprint import of_target

RECOVERY_SECONDS = 120.0
COMMAND_SECONDS = 120.0
REVIEWS = 3
"""So many finished incidents are looked at, each time that somebody does."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Everything that a tool holds; ``counts`` is how often each holder says that it was seen."""

    things: tuple[Thing, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


class Subject(Protocol):
    parts: Sequence[str]
    """What ``kill`` knows; drawn from as often as it stands here."""
    settle: float
    """Seconds after the last answer within which what was acknowledged must be there."""

    def doors(self) -> Sequence[Target]: ...

    async def kill(self, part: str, dice: random.Random) -> str:
        """Kill something; returns what it was, empty when there was nothing to kill."""
        ...

    async def reopen(self, ids: Sequence[str], dice: random.Random) -> int:
        """Let some incidents that ended be opened again by their next alert; returns how many."""
        ...

    async def recovered(self) -> None:
        """Wait until what was killed is back. Raises ``TimeoutError`` that names what is not."""
        ...

    async def arrived(self) -> Arrived: ...


class OwnSystem:
    """A running Kubernaut. ``close`` when done."""

    parts: Sequence[str] = ("gateway", "gateway", "API server", "API server", "controller", "catalog owner")
    settle = 0.0  # What is not durable is not acknowledged.

    def __init__(self, system: System, client: KubeClient) -> None:
        self._system, self._client = system, client
        self._whole = Counter(process.part for process in system.processes())
        if missing := PARTS.keys() - self._whole.keys():
            raise RuntimeError(f"no process was found of: {', '.join(sorted(missing))}")

    @classmethod
    async def of(cls, system: System) -> OwnSystem:
        return cls(system, await KubeClient.connect(system.kubeconfig))

    async def close(self) -> None:
        await self._client.close()

    def doors(self) -> Sequence[Target]:
        return self._system.doors()

    async def kill(self, part: str, dice: random.Random) -> str:
        pid = self._system.kill(part, dice)
        return f"{part} (process {pid})" if pid else ""

    async def reopen(self, ids: Sequence[str], dice: random.Random) -> int:
        """Do as the person who reviewed an incident that asked for one: annotate it."""
        done = 0
        for one in dice.sample(ids, min(REVIEWS, len(ids))):
            target = TargetResource(api_version="apps/v1", kind="Deployment", name=one, namespace=NAMESPACE)
            name = names.remediation_request(of_target(target))
            note = {"metadata": {"annotations": {names.ANNOTATION_REVIEWED: "true"}}}
            try:
                obj = await self._client.get(REMEDIATION_REQUEST, name, names.SYSTEM_NAMESPACE)
                if (obj.get("status") or {}).get("outcome") != Outcome.MANUAL_REVIEW_REQUIRED:
                    continue
                await self._client.patch(REMEDIATION_REQUEST, name, note, names.SYSTEM_NAMESPACE)
            except NotFound:
                continue  # Folded into another, or not there yet.
            except KubernautError:
                return done  # The API server was killed; the next look comes.
            done += 1
        return done

    async def recovered(self) -> None:
        until = time.monotonic() + RECOVERY_SECONDS
        while missing := self._whole - Counter(process.part for process in self._system.processes()):
            if time.monotonic() > until:
                what = ", ".join(f"{count} × {part}" for part, count in missing.items())
                raise TimeoutError(f"not back after {RECOVERY_SECONDS:.0f} s: {what}")
            await asyncio.sleep(0.2)

    async def arrived(self) -> Arrived:
        """List every RemediationRequest, as soon as the API server answers."""
        until = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                listed = await self._client.list(REMEDIATION_REQUEST, names.SYSTEM_NAMESPACE)
                break
            except KubernautError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)
        counts = {obj["metadata"]["name"]: _count(obj) for obj in listed.items}
        return Arrived(tuple(thing for obj in listed.items for thing in things(obj)), counts)


def things(obj: Object) -> Iterator[Thing]:
    """Yield what a RemediationRequest holds: its own target, and each member that was folded into it."""
    target, status, name = obj["spec"]["targetResource"], obj.get("status") or {}, obj["metadata"]["name"]
    phase = status.get("overallPhase")
    over = phase in set(RemediationPhase) and RemediationPhase(phase).terminal
    ended = _seconds(status["completedAt"]) if over and status.get("completedAt") else None
    own = target["name"] if target.get("namespace") == NAMESPACE else ""
    if own:
        yield Thing(own, name, _seconds(obj["metadata"]["creationTimestamp"]), ended)
    prefix = names.target_resource(NAMESPACE, "Deployment", "")
    for one in {str(member["target"]).removeprefix(prefix): member for member in status.get("members") or ()}.items():
        if one[0] != own:
            yield Thing(one[0], name, _seconds(one[1]["firstSeenAt"]), ended, member=True)


def _count(obj: Object) -> int:
    deduplication = (obj.get("status") or {}).get("deduplication") or {}
    return int(deduplication.get("occurrenceCount") or 0)


def _seconds(text: str) -> float:
    return clock.parse_rfc3339(text).timestamp()


class OtherTool:
    """Any tool that takes Alertmanager webhooks; ``count`` and ``kill`` are command lines for the shell."""

    def __init__(self, target: Target, *, count: str, kill: str = "", settle: float = 5.0) -> None:
        self._target, self._count, self._kill = target, count, kill
        self.settle = settle
        self.parts: Sequence[str] = ("command",) if kill else ()

    def doors(self) -> Sequence[Target]:
        return [self._target]

    async def kill(self, part: str, dice: random.Random) -> str:
        del dice
        await _shell(self._kill)
        return part

    async def reopen(self, ids: Sequence[str], dice: random.Random) -> int:
        del ids, dice
        return 0

    async def recovered(self) -> None:
        return

    async def arrived(self) -> Arrived:
        return Arrived(tuple(thing_of_line(line) for line in (await _shell(self._count)).splitlines() if line.strip()))


def thing_of_line(line: str) -> Thing:
    """Read one line of the count command: an id, or ``{"id": …, "created": …, "ended": …}`` with RFC 3339 times."""
    try:
        said = orjson.loads(line)
        if isinstance(said, str):
            return Thing(said)
        created, ended = said.get("created"), said.get("ended")
        return Thing(
            str(said["id"]),
            created=_seconds(created) if created else None,
            ended=_seconds(ended) if ended else None,
        )
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise SystemExit(
            f"the count command printed {line[:200]!r}; print an id as a JSON string, or an object with id, "
            f"created and ended (RFC 3339), one a line ({error})"
        ) from None


async def _shell(command: str) -> str:
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        text, _ = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise SystemExit(f"{command!r} did not end within {COMMAND_SECONDS:.0f} s") from None
    if process.returncode:
        raise SystemExit(f"{command!r} ended with {process.returncode}; it must end with 0")
    return text.decode(errors="replace")
