"""Reads everything the orchestrator needs to judge one RemediationRequest, from the API server, into one frozen value.

Only what the present phase needs is read: children by their deterministic names, and for routing the other requests with
this fingerprint and the executions on this target. A child that another owner controls is not ours and counts as absent.

What an event or our own write has just told is not asked for again (``control/recall.py``), but where something would start:
routing is judged on lists read now, and what it is judged for (the request, its analysis, its approval, whether it has an
execution already) must be in the same version there, or everything is read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import structlog
from pydantic import ValidationError

from actors.remediation import history
from actors.remediation.blocking import Facts
from actors.remediation.recovery import Finished
from actors.remediation.scope import InScope, look_up
from kubernaut_ray import conditions, names
from kubernaut_ray.clock import Clock, utcnow
from kubernaut_ray.contracts import lineage
from kubernaut_ray.contracts.timeline import GapKind, State, Timeline
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.recall import Recall
from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.crds.effectiveness_assessment import EffectivenessAssessment
from kubernaut_ray.crds.enums import AIAnalysisPhase, ApprovalDecision, SignalProcessingPhase, WorkflowExecutionPhase
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.crds.remediation_request import RemediationRequest, RemediationRequestStatus
from kubernaut_ray.crds.shared import PastRemediation
from kubernaut_ray.crds.signal_processing import SignalProcessing
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube import resources, targets
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Forbidden, NotFound
from kubernaut_ray.kube.spec_hash import spec_hash
from kubernaut_ray.settings import Settings

DELIVERED_CONDITION = "NotificationDelivered"

Child = TypeVar("Child", bound=CustomResource)
T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Observed:
    """One request and its world. ``None`` is: not there, not ours, or not needed in this phase."""

    request: RemediationRequest
    processing: SignalProcessing | None = None
    analysis: AIAnalysis | None = None
    approval: RemediationApprovalRequest | None = None
    execution: WorkflowExecution | None = None
    assessment: EffectivenessAssessment | None = None
    ahead: AIAnalysis | None = None
    """The next attempt's analysis, read once somebody has called the request off: it may have been created before the status
    could say so."""
    notifications: tuple[NotificationRequest, ...] = ()
    routing: Facts | None = None
    """Read where something would start next."""
    original: RemediationRequest | None = None
    """The request that this one duplicates."""
    finished: tuple[Finished, ...] = ()
    """Executions of the whole system that have ended; read when one of ours failed."""
    history: tuple[PastRemediation, ...] = ()
    """What was done to this target before, the newest first; read where an analysis would begin."""
    duplicates: tuple[str, ...] = ()
    """Requests that waited for this one; read when it has ended."""
    untold: tuple[str, ...] | None = None
    """What the audit trail does not tell yet of a request that is due to be removed; ``None``: it is not due."""
    lineage: Object | None = None
    """The ConfigMap that is to remember a request that is due to be removed, where there is one."""


async def _read(*begun: object) -> None:
    """Wait for what is being read; what was recalled is there already, and costs no task. Raises what reading raises."""
    if tasks := [one for one in begun if isinstance(one, asyncio.Task)]:
        await asyncio.gather(*tasks)


def _had(begun: T | asyncio.Task[T]) -> T:
    return begun.result() if isinstance(begun, asyncio.Task) else begun


def _all_had(
    begun: Iterable[NotificationRequest | asyncio.Task[NotificationRequest | None] | None],
) -> tuple[NotificationRequest, ...]:
    found = [_had(one) for one in begun]
    return tuple(one for one in found if one is not None)


def settled(status: RemediationRequestStatus) -> bool:
    """Is there nothing left to do for a finished request but to remove it in the end?"""
    return conditions.find(status.conditions, DELIVERED_CONDITION) is not None


class Trail(Protocol):
    """Data Storage, as far as the orchestrator uses it."""

    async def timeline(self, remediation: str) -> Timeline: ...

    async def close(self) -> None: ...


class Reader:
    """Reads ``Observed`` values; holds no state but the clients. Without a ``trail`` nobody is asked before a removal."""

    def __init__(
        self,
        client: KubeClient,
        settings: Settings,
        trail: Trail | None = None,
        *,
        now: Clock = utcnow,
        recall: Recall | None = None,
    ) -> None:
        self._client, self._settings, self._trail, self._now = client, settings, trail, now
        self._recall = Recall() if recall is None else recall
        self._judges = bool(settings.effectiveness.enabled)
        """Whether effects are judged: what they came to is looked up for nobody else."""

    async def observe(self, key: Key) -> Observed | None:
        """Return the request and its world, or ``None`` when it is gone. Raises pydantic's ``ValidationError``."""
        try:
            return await self._observe(key, self._recall.get(key, RemediationRequest, key.name))
        except _Outdated:
            return await self._observe(key, None)

    async def _observe(self, key: Key, recalled: RemediationRequest | None) -> Observed | None:
        try:
            request = recalled or RemediationRequest.from_object(
                await self._client.get(resources.REMEDIATION_REQUEST, key.name, key.namespace)
            )
        except NotFound:
            return None
        phase = request.status.overall_phase
        if phase is None:
            return Observed(request)
        if phase.terminal:
            return await self._ended(request, recalled is not None)
        return await self._running(request, phase, recalled is not None)

    async def _running(self, request: RemediationRequest, phase: Phase, recalled: bool) -> Observed:
        """``recalled``: the request is as it was told last, so what would start is looked at once more."""
        status, name, attempt = request.status, request.name, request.status.recovery_attempts
        stage = status.blocked_from or Phase.PENDING if phase is Phase.BLOCKED else phase
        analysed = stage not in {Phase.PENDING, Phase.PROCESSING} or _ends_early(request)
        processing = self._child(
            request,
            SignalProcessing,
            names.signal_processing(name),
            recalled,
            needed=not (recalled and phase is Phase.PENDING) or _ends_early(request),
        )
        analysing = self._child(request, AIAnalysis, names.ai_analysis(name, attempt), recalled, needed=analysed)
        assessment = self._child(
            request,
            EffectivenessAssessment,
            names.effectiveness_assessment(name),
            recalled,
            needed=phase is Phase.VERIFYING,
        )
        ahead = self._ahead(request, recalled, needed=phase is Phase.EXECUTING and _ends_early(request))
        notices = self._notifications(request, recalled)
        await _read(processing, analysing, assessment, ahead, *notices)
        analysis = _had(analysing)
        starting = (
            recalled
            and phase is Phase.ANALYZING
            and _selected(analysis)
            and status.workflow_execution_ref is None
            and not _ends_early(request)
        )
        approval = self._child(
            request,
            RemediationApprovalRequest,
            names.approval_request(name, attempt),
            recalled,
            needed=analysed and _may_have_asked(status, analysis, phase),
        )
        executing = self._child(
            request,
            WorkflowExecution,
            names.workflow_execution(name, attempt),
            recalled,
            needed=analysed and not starting,
        )
        await _read(approval, executing)
        execution = _had(executing)
        seen = Observed(
            request,
            processing=_had(processing),
            analysis=analysis,
            approval=_had(approval),
            execution=execution,
            assessment=_had(assessment),
            ahead=_had(ahead),
            notifications=_all_had(notices),
            original=await self._original(request, phase),
        )
        failed = execution is not None and _failed(execution)
        starts, analyses = _would_start(seen, phase), self._judges and _would_analyse(seen, phase)
        if not (starts or failed or analyses):
            return seen
        return replace(
            seen,
            routing=await self._routing(seen, stage, recalled) if starts else None,
            finished=await self._finished(request.namespace) if failed else (),
            history=await self._history(request) if analyses else (),
        )

    async def _ended(self, request: RemediationRequest, recalled: bool) -> Observed:
        seen = Observed(request)
        if request.status.overall_phase is Phase.CANCELLED:
            seen = await self._left(request)
        if settled(request.status):
            due = request.status.retention_expiry_time
            if due is None or self._now() < due:
                return seen
            untold, known = await asyncio.gather(self._untold(request), self._lineage(request))
            return replace(seen, untold=untold, lineage=known)
        notices = self._notifications(request, recalled)
        siblings, _ = await asyncio.gather(self._siblings(request), _read(*notices))
        waited = sorted(s.name for s in siblings if s.status.duplicate_of == request.name)
        return replace(seen, notifications=_all_had(notices), duplicates=tuple(waited))

    async def _left(self, request: RemediationRequest) -> Observed:
        """Read what there is of a cancelled request: whoever slept over its end may have created something since."""
        name, attempt = request.name, request.status.recovery_attempts
        processing = self._child(request, SignalProcessing, names.signal_processing(name), recalled=False)
        analysis = self._child(request, AIAnalysis, names.ai_analysis(name, attempt), recalled=False)
        ahead = self._ahead(request, recalled=False)
        asked = names.approval_request(name, attempt)
        approval = self._child(request, RemediationApprovalRequest, asked, recalled=False)
        execution = self._child(request, WorkflowExecution, names.workflow_execution(name, attempt), recalled=False)
        await _read(processing, analysis, ahead, approval, execution)
        return Observed(request, _had(processing), _had(analysis), _had(approval), _had(execution), ahead=_had(ahead))

    def _ahead(
        self, request: RemediationRequest, recalled: bool, *, needed: bool = True
    ) -> AIAnalysis | asyncio.Task[AIAnalysis | None] | None:
        name = names.ai_analysis(request.name, request.status.recovery_attempts + 1)
        return self._child(request, AIAnalysis, name, recalled, needed=needed)

    async def _lineage(self, request: RemediationRequest) -> Object | None:
        """The ConfigMap that remembers requests like this one."""
        name = lineage.named(request.spec.signal_fingerprint)
        try:
            return await self._client.get(resources.CONFIG_MAP, name, request.namespace)
        except NotFound:
            return None

    async def _untold(self, request: RemediationRequest) -> tuple[str, ...]:
        if self._trail is None:
            return ()
        story = (await self._trail.timeline(request.name)).incident
        if story is None or story.state is not State.ENDED:
            return ("that it has ended",)
        return tuple(gap.event_type or gap.message for gap in story.gaps if gap.kind is GapKind.MISSING)

    def _child(
        self, request: RemediationRequest, kind: type[Child], name: str, recalled: bool, *, needed: bool = True
    ) -> Child | asyncio.Task[Child | None] | None:
        """Return a child as it was told last, or begin to read it: ``_read`` waits for it, and then ``_had`` has it."""
        if not needed:
            return None
        child = self._recall.get(Key(request.namespace, request.name), kind, name) if recalled else None
        if child is None:
            return asyncio.create_task(self._fetched(request, kind, name))
        return child if _owned(child, request) else None

    async def _fetched(self, request: RemediationRequest, kind: type[Child], name: str) -> Child | None:
        try:
            child = kind.from_object(await self._client.get(resources.of(kind), name, request.namespace))
        except NotFound:
            return None
        return child if _owned(child, request) else None

    def _notifications(
        self, request: RemediationRequest, recalled: bool
    ) -> list[NotificationRequest | asyncio.Task[NotificationRequest | None] | None]:
        refs = request.status.notification_request_refs
        return [self._child(request, NotificationRequest, ref.name, recalled) for ref in refs]

    async def _original(self, request: RemediationRequest, phase: Phase) -> RemediationRequest | None:
        if phase is not Phase.BLOCKED or not request.status.duplicate_of:
            return None
        try:
            return RemediationRequest.from_object(
                await self._client.get(resources.REMEDIATION_REQUEST, request.status.duplicate_of, request.namespace)
            )
        except NotFound:
            return None

    async def _siblings(self, request: RemediationRequest) -> tuple[RemediationRequest, ...]:
        return _others(request, await self._alike(request))

    async def _alike(self, request: RemediationRequest) -> Sequence[Object]:
        """All requests with this fingerprint, this one too."""
        listed = await self._client.list(
            resources.REMEDIATION_REQUEST,
            request.namespace,
            fields=f"spec.signalFingerprint={request.spec.signal_fingerprint}",
        )
        return listed.items

    async def _routing(self, seen: Observed, stage: Phase, recalled: bool) -> Facts:
        request = seen.request
        effects = self._judges and stage is not Phase.PENDING
        alike, on_target, assessments, found, target, _ = await asyncio.gather(
            self._alike(request),
            self._on_target(request),
            self._assessments(request) if effects else _nothing(),
            self._scope(request),
            self._spec_hash(request) if effects else _unread(),
            self._confirm(seen.analysis, seen.approval) if recalled else _certain(),
        )
        if recalled:
            _confirmed(request, (o for o in alike if o["metadata"]["name"] == request.name))
            own = names.workflow_execution(request.name, request.status.recovery_attempts)
            if any(obj["metadata"]["name"] == own for obj in on_target):
                raise _Outdated
        return Facts(
            _others(request, alike),
            _readable(WorkflowExecution, on_target),
            found.managed,
            scope_problem=found.problem,
            spec_hash=target,
            assessments=assessments,
        )

    async def _confirm(self, *children: CustomResource | None) -> None:
        """Raise ``_Outdated`` unless the children are still in the versions that were told."""
        for child in children:
            if child is not None:
                try:
                    now = await self._client.get(resources.of(type(child)), child.name, child.namespace)
                except NotFound:
                    raise _Outdated from None
                _confirmed(child, (now,))

    async def _assessments(self, request: RemediationRequest) -> tuple[EffectivenessAssessment, ...]:
        """What remediations of this target came to."""
        listed = await self._client.list(
            resources.EFFECTIVENESS_ASSESSMENT,
            request.namespace,
            fields=f"spec.target={request.spec.target_resource}",
        )
        return _readable(EffectivenessAssessment, listed.items)

    async def _history(self, request: RemediationRequest) -> tuple[PastRemediation, ...]:
        executions, assessments = await asyncio.gather(self._executions(request), self._assessments(request))
        return history.of(request, executions, assessments)

    async def _executions(self, request: RemediationRequest) -> tuple[WorkflowExecution, ...]:
        return _readable(WorkflowExecution, await self._on_target(request))

    async def _on_target(self, request: RemediationRequest) -> Sequence[Object]:
        """All executions on this target."""
        listed = await self._client.list(
            resources.WORKFLOW_EXECUTION,
            request.namespace,
            fields=f"spec.targetResource={request.spec.target_resource}",
        )
        return listed.items

    async def _spec_hash(self, request: RemediationRequest) -> str:
        """What the target's spec is now; empty where nobody can tell."""
        try:
            found = await targets.read(self._client, request.spec.target_resource)
        except (NotFound, Forbidden):
            return ""
        return spec_hash(found) if found is not None else ""

    async def _scope(self, request: RemediationRequest) -> InScope:
        target = request.spec.target_resource
        found = await look_up(self._client, self._settings.gateway.scope, target)
        if found.problem:
            _log.warning("scope.unknown", remediation=request.name, target=str(target), error=found.problem)
        return found

    async def _finished(self, namespace: str) -> tuple[Finished, ...]:
        listed = await self._client.list(resources.WORKFLOW_EXECUTION, namespace)
        return tuple(
            Finished(execution.status.completion_time, _failed(execution))
            for execution in _readable(WorkflowExecution, listed.items)
            if execution.status.completion_time is not None and not execution.spec.dry_run
        )


class _Outdated(Exception):
    """What was told last is not so any more."""


def _confirmed(told: CustomResource, found: Iterable[Object]) -> None:
    """Raise ``_Outdated`` unless the object is among those found, as it was told."""
    meta = told.metadata
    for obj in found:
        if (obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]) == (meta.uid, meta.resource_version):
            return
    raise _Outdated


def _others(request: RemediationRequest, alike: Sequence[Object]) -> tuple[RemediationRequest, ...]:
    return _readable(RemediationRequest, [obj for obj in alike if obj["metadata"]["uid"] != request.uid])


def _ends_early(request: RemediationRequest) -> bool:
    """Has somebody called it off, or is it over at its source? Then whatever there is of it is to be stopped."""
    return request.status.resolved is not None or names.ANNOTATION_CANCEL in request.metadata.annotations


def _selected(analysis: AIAnalysis | None) -> bool:
    return (
        analysis is not None
        and analysis.status.phase is AIAnalysisPhase.COMPLETED
        and analysis.status.selected_workflow is not None
    )


def _may_have_asked(status: RemediationRequestStatus, analysis: AIAnalysis | None, phase: Phase) -> bool:
    """May there be an approval request? One is made after an analysis that wants leave, just before the status tells of it."""
    if status.approval_request_ref is not None or phase is Phase.AWAITING_APPROVAL:
        return True
    return not (_selected(analysis) and analysis is not None and analysis.status.approval_required is False)


def _would_start(seen: Observed, phase: Phase) -> bool:
    if seen.execution is not None:
        return False
    match phase:
        case Phase.PENDING | Phase.BLOCKED:
            return True
        case Phase.ANALYZING:
            return seen.analysis is not None and seen.analysis.status.phase is AIAnalysisPhase.COMPLETED
        case Phase.AWAITING_APPROVAL:
            return seen.approval is not None and seen.approval.status.sealed_decision is ApprovalDecision.APPROVED
        case _:
            return False


async def _nothing() -> tuple[EffectivenessAssessment, ...]:
    return ()


async def _certain() -> None:
    """Nothing was told that may have changed."""


async def _unread() -> str:
    return ""


def _would_analyse(seen: Observed, phase: Phase) -> bool:
    match phase:
        case Phase.PROCESSING:
            return seen.processing is not None and seen.processing.status.phase is SignalProcessingPhase.COMPLETED
        case Phase.ANALYZING:
            return seen.analysis is None and seen.execution is None
        case Phase.EXECUTING:
            return seen.execution is not None and _failed(seen.execution)
        case _:
            return False


def _failed(execution: WorkflowExecution) -> bool:
    return execution.status.phase is WorkflowExecutionPhase.FAILED


def _owned(child: CustomResource, request: RemediationRequest) -> bool:
    return any(ref.controller and ref.uid == request.uid for ref in child.metadata.owner_references)


def _readable(kind: type[Child], items: Sequence[Object]) -> tuple[Child, ...]:
    """Read what can be read: somebody else's broken object must not stop this one."""
    return tuple(child for item in items for child in _try(kind, item))


def _try(kind: type[Child], item: Object) -> Iterable[Child]:
    try:
        yield kind.from_object(item)
    except ValidationError as error:
        _log.warning("object.unreadable", kind=kind.kind(), name=item["metadata"]["name"], problems=error.error_count())
