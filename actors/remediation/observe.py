"""Reads everything the orchestrator needs to judge one RemediationRequest, from the API server, into one frozen value.

Only what the present phase needs is read: children by their deterministic names, and for routing the other requests with
this fingerprint and the executions on this target. A child that another owner controls is not ours and counts as absent.
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
from kubernaut_ray.contracts.timeline import GapKind, State, Timeline
from kubernaut_ray.control.decision import Key
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
    """What the audit trail does not tell yet of a request that is due to be removed; ``None``: not asked."""


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
        self, client: KubeClient, settings: Settings, trail: Trail | None = None, *, now: Clock = utcnow
    ) -> None:
        self._client, self._settings, self._trail, self._now = client, settings, trail, now
        self._judges = bool(settings.effectiveness.enabled)
        """Whether effects are judged: what they came to is looked up for nobody else."""

    async def observe(self, key: Key) -> Observed | None:
        """Return the request and its world, or ``None`` when it is gone. Raises pydantic's ``ValidationError``."""
        try:
            request = RemediationRequest.from_object(
                await self._client.get(resources.REMEDIATION_REQUEST, key.name, key.namespace)
            )
        except NotFound:
            return None
        phase = request.status.overall_phase
        if phase is None:
            return Observed(request)
        if phase.terminal:
            return await self._ended(request)
        return await self._running(request, phase)

    async def _running(self, request: RemediationRequest, phase: Phase) -> Observed:
        status, name, attempt = request.status, request.name, request.status.recovery_attempts
        stage = status.blocked_from or Phase.PENDING if phase is Phase.BLOCKED else phase
        analysed = stage not in {Phase.PENDING, Phase.PROCESSING}
        processing, analysis, approval, execution, assessment, notifications = await asyncio.gather(
            self._child(request, SignalProcessing, names.signal_processing(name)),
            self._child(request, AIAnalysis, names.ai_analysis(name, attempt), needed=analysed),
            self._child(request, RemediationApprovalRequest, names.approval_request(name, attempt), needed=analysed),
            self._child(request, WorkflowExecution, names.workflow_execution(name, attempt), needed=analysed),
            self._child(
                request,
                EffectivenessAssessment,
                names.effectiveness_assessment(name),
                needed=phase is Phase.VERIFYING,
            ),
            self._notifications(request),
        )
        seen = Observed(
            request,
            processing=processing,
            analysis=analysis,
            approval=approval,
            execution=execution,
            assessment=assessment,
            notifications=notifications,
            original=await self._original(request, phase),
        )
        failed = execution is not None and _failed(execution)
        return replace(
            seen,
            routing=await self._routing(request, stage) if _would_start(seen, phase) else None,
            finished=await self._finished(request.namespace) if failed else (),
            history=await self._history(request) if self._judges and _would_analyse(seen, phase) else (),
        )

    async def _ended(self, request: RemediationRequest) -> Observed:
        if settled(request.status):
            return Observed(request, untold=await self._untold(request))
        notifications, siblings = await asyncio.gather(self._notifications(request), self._siblings(request))
        waited = sorted(s.name for s in siblings if s.status.duplicate_of == request.name)
        return Observed(request, notifications=notifications, duplicates=tuple(waited))

    async def _untold(self, request: RemediationRequest) -> tuple[str, ...] | None:
        due = request.status.retention_expiry_time
        if self._trail is None or due is None or self._now() < due:
            return None
        story = (await self._trail.timeline(request.name)).incident
        if story is None or story.state is not State.ENDED:
            return ("that it has ended",)
        return tuple(gap.event_type or gap.message for gap in story.gaps if gap.kind is GapKind.MISSING)

    async def _child(
        self, request: RemediationRequest, kind: type[Child], name: str, *, needed: bool = True
    ) -> Child | None:
        if not needed:
            return None
        try:
            child = kind.from_object(await self._client.get(resources.of(kind), name, request.namespace))
        except NotFound:
            return None
        return child if _owned(child, request) else None

    async def _notifications(self, request: RemediationRequest) -> tuple[NotificationRequest, ...]:
        found = await asyncio.gather(
            *(self._child(request, NotificationRequest, ref.name) for ref in request.status.notification_request_refs)
        )
        return tuple(child for child in found if child is not None)

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
        listed = await self._client.list(
            resources.REMEDIATION_REQUEST,
            request.namespace,
            fields=f"spec.signalFingerprint={request.spec.signal_fingerprint}",
        )
        return tuple(s for s in _readable(RemediationRequest, listed.items) if s.uid != request.uid)

    async def _routing(self, request: RemediationRequest, stage: Phase) -> Facts:
        effects = self._judges and stage is not Phase.PENDING
        siblings, executions, assessments, found, target = await asyncio.gather(
            self._siblings(request),
            self._executions(request),
            self._assessments(request) if effects else _nothing(),
            self._scope(request),
            self._spec_hash(request) if effects else _unread(),
        )
        return Facts(
            siblings,
            executions,
            found.managed,
            scope_problem=found.problem,
            spec_hash=target,
            assessments=assessments,
        )

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
        """All executions on this target."""
        listed = await self._client.list(
            resources.WORKFLOW_EXECUTION,
            request.namespace,
            fields=f"spec.targetResource={request.spec.target_resource}",
        )
        return _readable(WorkflowExecution, listed.items)

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
