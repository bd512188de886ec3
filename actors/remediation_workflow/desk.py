"""Errands to the catalog, in memory: which are under way for which object, and what came of them.

An errand may take a minute (a bundle is pulled), so it runs beside the reconciles, and its answer is observed like a child.
All errands are idempotent: after a crash they are simply run again. Nothing here decides what is to be done or when.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, assert_never

import structlog

from actors.remediation_workflow import errands
from actors.remediation_workflow.errands import Errand, Register, Withdraw
from kubernaut_ray.clients.data_storage import Conflict, NotFound
from kubernaut_ray.contracts.catalog import RegisterWorkflow, Workflow, WorkflowPage, WorkflowPatch
from kubernaut_ray.control.controller import Wake
from kubernaut_ray.control.decision import Call, Key
from kubernaut_ray.crds.enums import RegistrationReason as Reason
from kubernaut_ray.errors import InvalidInput, Permanent, Retryable

PERFORMER = "remediationworkflow.ask"
AT_A_TIME = 4
PAGE = 500

_REFUSALS = {
    "InvalidSchema": Reason.INVALID_SCHEMA,
    "SpecDiffers": Reason.SPEC_DIFFERS,
    "NotFound": Reason.BUNDLE_NOT_FOUND,
    "NotAWorkflow": Reason.BUNDLE_UNUSABLE,
    "NotABundle": Reason.BUNDLE_UNUSABLE,
    "DigestMismatch": Reason.BUNDLE_UNUSABLE,
}
_FAULTS = {
    "RegistryUnavailable": Reason.REGISTRY_UNAVAILABLE,
    "RegistryDenied": Reason.REGISTRY_DENIED,
    "RegistryRefused": Reason.REGISTRY_DENIED,
    "RegistryTls": Reason.REGISTRY_UNAVAILABLE,
}

_REQUEST = re.compile(r"^Data Storage: [A-Z]+ \S+: \d{3} ")

_log = structlog.get_logger(__name__)


class Catalog(Protocol):
    """Data Storage, as far as errands need it."""

    async def register(self, request: RegisterWorkflow) -> Workflow: ...

    async def workflow(self, workflow_id: str) -> Workflow | None: ...

    async def workflows(
        self, *, limit: int = 100, offset: int = 0, status: str = "", name: str = ""
    ) -> WorkflowPage: ...

    async def patch_workflow(self, workflow_id: str, patch: WorkflowPatch) -> Workflow: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class NotAsked:
    """No errand for the present state of the object is known to this process."""


NOT_ASKED = NotAsked()


@dataclass(frozen=True, slots=True)
class Asking:
    """It is under way."""


@dataclass(frozen=True, slots=True)
class Found:
    """The catalog holds it; the record as it stands now."""

    record: Workflow


@dataclass(frozen=True, slots=True)
class Refused:
    """Asking again changes nothing until somebody changes something."""

    reason: Reason
    message: str
    problems: tuple[tuple[str, str], ...] = ()
    standing: Workflow | None = None
    """The record of the earlier registration, where the errand touched it."""


@dataclass(frozen=True, slots=True)
class Away:
    """A passing fault; ``after`` is in seconds when the other side said so."""

    reason: Reason
    message: str
    after: float | None = None
    standing: Workflow | None = None


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nothing of the object is offered any more, but what others declare. Names what was disabled just now."""

    disabled: tuple[str, ...] = ()


Answer = NotAsked | Asking | Found | Refused | Away | Withdrawn


class Desk:
    def __init__(self, catalog: Catalog, wake: Wake) -> None:
        self._catalog, self._wake = catalog, wake
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._known: dict[Key, tuple[str, Answer]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    async def ask(self, call: Call, /) -> None:
        """Start an errand; a second call with its ticket does nothing, another ticket takes its place.

        The errand before it is waited for and never called back: Data Storage may be carrying it out, and a workflow must not
        be registered after it was withdrawn.
        """
        key: Key = call.payload["key"]
        ticket: str = call.payload["ticket"]
        errand: Errand = call.payload["errand"]
        if self._known.get(key, ("", None))[0] == ticket:
            return
        self._known[key] = (ticket, Asking())
        task = asyncio.create_task(self._run(key, ticket, errand, self._tasks.get(key)))
        task.add_done_callback(lambda done: self._ended(done, key, ticket))
        self._tasks[key] = task

    def answer(self, key: Key, ticket: str) -> Answer:
        """What is known of this errand."""
        known, answer = self._known.get(key, ("", NotAsked()))
        return answer if known == ticket else NotAsked()

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._known.pop(key, None)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """Let go of what is under way: it is run again by whoever comes next."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._catalog.close()

    async def _run(self, key: Key, ticket: str, errand: Errand, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        async with self._turns:
            answer = await run(self._catalog, errand)
        log = _log.info if isinstance(answer, Found | Withdrawn) else _log.warning
        log(
            "registration.answered",
            workflow=str(key),
            answer=type(answer).__name__,
            told=getattr(answer, "message", ""),
        )
        if self._known.get(key, ("", None))[0] == ticket:
            self._known[key] = (ticket, answer)

    def _ended(self, task: asyncio.Task[None], key: Key, ticket: str) -> None:
        """Wake the object. A bug here must not leave it waiting for ever."""
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("registration.broke", workflow=str(key), exc_info=error)
            if self._known.get(key, ("", None))[0] == ticket:
                told = f"internal error: {type(error).__name__}"
                self._known[key] = (ticket, Away(Reason.DATA_STORAGE_UNAVAILABLE, told))
        self._wake(key.namespace, key.name)


async def run(catalog: Catalog, errand: Errand) -> Answer:
    """Run one errand to its answer."""
    standing: Workflow | None = None
    try:
        match errand:
            case Register():
                if errand.suspend and errand.known_id:
                    # First, whatever becomes of the bundle: what is suspended must not wait for a registry.
                    standing = await _changed(catalog, await catalog.workflow(errand.known_id), errand)
                return Found(await _register(catalog, errand))
            case Withdraw():
                return Withdrawn(tuple([name async for name in _withdraw(catalog, errand)]))
            case _:
                assert_never(errand)
    except Retryable as error:
        reason = _FAULTS.get(error.reason, Reason.DATA_STORAGE_UNAVAILABLE)
        return Away(reason, _plain(error), error.after, standing)
    except Conflict as error:
        return Refused(Reason.VERSION_CONFLICT, _plain(error), standing=standing)
    except InvalidInput as error:
        return Refused(_REFUSALS.get(error.reason, Reason.REFUSED), _plain(error), error.problems, standing)
    except Permanent as error:
        return Refused(Reason.REFUSED, _plain(error), standing=standing)


def _plain(error: Exception) -> str:
    """Return what went wrong without the request that told us: the status of an object is read by people."""
    return _REQUEST.sub("", str(error))


async def _register(catalog: Catalog, errand: Register) -> Workflow:
    record = await catalog.register(
        RegisterWorkflow(
            container_image=errand.image,
            container_digest=errand.digest,
            registered_by=errand.source,
            source=errand.source,
            expected=dict(errand.expected),
        )
    )
    if errand.known_id and record.workflow_id != errand.known_id:
        before = await catalog.workflow(errand.known_id)
        if before is not None and (change := errands.left(before, errand, record.workflow_name)):
            await catalog.patch_workflow(before.workflow_id, change)
    changed = await _changed(catalog, record, errand)
    return changed or record


async def _changed(catalog: Catalog, record: Workflow | None, errand: Register) -> Workflow | None:
    if record is None or (change := errands.declared(record, errand)) is None:
        return record
    return await catalog.patch_workflow(record.workflow_id, change)


async def _withdraw(catalog: Catalog, errand: Withdraw) -> AsyncIterator[str]:
    """Disable what the object declared, its earlier versions, and what was registered for it before its status could say so.

    An earlier version is not offered, but an approver may name it.
    """
    async for record in _records(catalog):
        if errand.workflow_id != record.workflow_id and errand.source != record.source:
            continue
        if change := errands.withdrawn(record, errand):
            try:
                await catalog.patch_workflow(record.workflow_id, change)
            except NotFound:
                continue
            yield f"{record.workflow_name} {record.version}"


async def _records(catalog: Catalog) -> AsyncIterator[Workflow]:
    offset, more = 0, True
    while more:
        page = await catalog.workflows(limit=PAGE, offset=offset)
        for record in page.workflows:
            yield record
        offset, more = offset + PAGE, page.pagination.has_more
