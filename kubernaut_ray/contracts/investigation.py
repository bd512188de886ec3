"""Investigations (contract of the HolmesGPT-API): what is asked, what is answered, and the durable session between them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.crds.affected import Affected
from kubernaut_ray.crds.base import Timestamp
from kubernaut_ray.crds.enums import HumanReviewReason, RcaSeverity
from kubernaut_ray.crds.remediation_request import Storm
from kubernaut_ray.crds.shared import KubernetesContext, TargetResource


class RootCause(Contract):
    summary: str
    severity: RcaSeverity = RcaSeverity.UNKNOWN
    signal_type: str = ""
    contributing_factors: tuple[str, ...] = ()


class SelectedWorkflowAnswer(Contract):
    workflow_id: str
    workflow_name: str = ""
    version: str = ""
    container_image: str = ""
    container_digest: str = ""
    engine: str = "tekton"
    confidence: Annotated[float, Field(ge=0, le=1)]
    parameters: dict[str, str] = {}
    rationale: str = ""


class FailedExecution(Contract):
    failed_step_index: int = 0
    failed_step_name: str = ""
    reason: str
    message: str = ""
    exit_code: int | None = None
    failed_at: Timestamp
    execution_time: str = ""
    was_execution_failure: bool = False


class PreviousAttempt(Contract):
    workflow_execution_ref: str
    original_rca: RootCause
    selected_workflow: SelectedWorkflowAnswer
    failure: FailedExecution
    natural_language_summary: str = ""


class EarlierRemediation(Contract):
    """Another remediation of the same target: what ran, how that ended, and whether it helped."""

    workflow_id: str
    workflow_name: str = ""
    version: str = ""
    parameters: dict[str, str] = {}
    ended_at: Timestamp
    succeeded: bool
    effective: bool | None = None
    """Unset where nobody could tell."""
    score: float | None = None
    summary: str = ""


class IncidentRequest(Contract):
    """Observable facts only; ``remediation_id`` is for correlation and never reaches the model."""

    incident_id: Annotated[str, Field(min_length=1, max_length=253)]
    remediation_id: Annotated[str, Field(min_length=1, max_length=253)]
    signal_name: str
    signal_type: str
    severity: str
    signal_source: str = ""
    target: TargetResource
    signal_resource: TargetResource | None = None
    error_message: str = ""
    description: str = ""
    environment: str = "unknown"
    priority: str = "P2"
    risk_tolerance: str = "medium"
    business_category: str = ""
    cluster_name: str = ""
    is_duplicate: bool = False
    occurrence_count: int = 1
    first_seen: Timestamp | None = None
    last_seen: Timestamp | None = None
    firing_time: Timestamp | None = None
    received_time: Timestamp | None = None
    is_storm: bool = False
    storm_type: str = ""
    storm_signal_count: int = 0
    storm_window: str = ""
    affected_resources: tuple[str, ...] = ()
    """Where the storm's signals came from."""
    affected: Affected | None = None
    """What was folded into this incident instead of opening one of its own."""
    signal_labels: dict[str, str] = {}
    signal_annotations: dict[str, str] = {}
    enrichment: KubernetesContext = KubernetesContext()
    previous_executions: tuple[PreviousAttempt, ...] = ()
    """Not empty: this is recovery attempt number ``len(previous_executions)``."""

    remediation_history: tuple[EarlierRemediation, ...] = ()
    """Earlier incidents of this target, the newest first; not the attempts of this one."""

    @property
    def is_recovery(self) -> bool:
        return bool(self.previous_executions)


def storm_fields(storm: Storm | None) -> dict[str, Any]:
    """Return a storm as the fields of an ``IncidentRequest``; none without a storm."""
    if storm is None:
        return {}
    return {
        "is_storm": True,
        "storm_type": storm.storm_type.value,
        "storm_signal_count": storm.alert_count,
        "storm_window": storm.window,
        "affected_resources": storm.affected_resources,
    }


class AlternativeAnswer(Contract):
    workflow_id: str
    workflow_name: str = ""
    container_image: str = ""
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    rationale: str = ""


class ValidationAttemptAnswer(Contract):
    attempt: int
    workflow_id: str = ""
    is_valid: bool
    errors: tuple[str, ...] = ()
    timestamp: Timestamp


class RecoveryAnalysis(Contract):
    failure_understood: bool = False
    failure_reason_analysis: str = ""
    state_changed: bool = False
    current_signal_type: str = ""


class IncidentResponse(Contract):
    """The answer. Exactly one of: a workflow selected; nothing to do (``resolved``); ``needs_human_review`` with its reason."""

    incident_id: str
    analysis: str
    root_cause_analysis: RootCause
    confidence: Annotated[float, Field(ge=0, le=1)]
    timestamp: Timestamp
    selected_workflow: SelectedWorkflowAnswer | None = None
    resolved: bool = False
    needs_human_review: bool = False
    human_review_reason: HumanReviewReason | None = None
    target_in_owner_chain: bool = True
    warnings: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    alternative_workflows: tuple[AlternativeAnswer, ...] = ()
    validation_attempts_history: tuple[ValidationAttemptAnswer, ...] = ()
    recovery_analysis: RecoveryAnalysis | None = None
    model: str
    """Who answered: ``evidence`` (deterministic, no LLM) or ``<provider>:<model>``."""
    tool_calls: int = 0
    duration_seconds: float = 0.0


class SessionState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class SessionError(Contract):
    """Why a session failed. ``retryable`` says whether asking again can help."""

    message: str
    status: int
    retryable: bool


class InvestigationSession(Contract):
    """A durable investigation. ``session_id`` is chosen by the caller, so starting twice is starting once."""

    session_id: Annotated[str, Field(min_length=1, max_length=253)]
    state: SessionState
    request: IncidentRequest
    response: IncidentResponse | None = None
    error: SessionError | None = None
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    heartbeat_at: Timestamp | None = None
    attempt: int = 0
    """How many replicas have worked on it."""


class StartInvestigation(Contract):
    """``POST /api/v1/investigations``. The caller chooses the id, so starting twice is starting once."""

    session_id: Annotated[str, Field(min_length=1, max_length=253)]
    request: IncidentRequest
