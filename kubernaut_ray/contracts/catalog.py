"""The workflow catalog (contract of Data Storage): what a workflow is, how it is searched, what an answer explains."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import Field, field_validator

from kubernaut_ray.contracts.audit import Pagination
from kubernaut_ray.contracts.base import Contract, StrictContract
from kubernaut_ray.crds.base import Timestamp
from kubernaut_ray.crds.enums import ExecutionEngine, ParameterType, WorkflowStatus

ANY = "*"
SEARCH_COMPLETED = "workflow.catalog.search_completed"
"""The audit event of every search."""
WITHOUT_REMEDIATION = "workflow-search"
"""The correlation id of searches that belong to no remediation."""
LabelValue = str | tuple[str, ...]
"""A scalar, several alternatives, or ``*``."""


class WorkflowDescription(Contract):
    what: str
    when_to_use: str = ""
    when_not_to_use: str = ""
    preconditions: str = ""


class WorkflowParameter(Contract):
    name: Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$")]
    type: ParameterType = ParameterType.STRING
    required: bool = False
    description: str = ""
    enum: tuple[str, ...] = ()
    pattern: str = ""
    minimum: int | None = None
    maximum: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    default: str | None = None
    depends_on: tuple[str, ...] = ()


class WorkflowLabels(Contract):
    """What a workflow is for. ``*`` matches anything; absent custom and detected labels require nothing."""

    signal_type: LabelValue = ANY
    severity: LabelValue = ANY
    component: LabelValue = ANY
    """``deployment``, ``pod``, …; ``apps/v1/Deployment`` is accepted and means its kind."""
    environment: LabelValue = ANY
    priority: LabelValue = ANY
    custom: dict[str, tuple[str, ...]] = {}
    detected: dict[str, str] = {}
    """Detected label (camelCase, as in DetectedLabels) → ``true``, a value such as ``argocd``, or ``*`` (some value)."""


class Workflow(Contract):
    """A catalog record. Everything but ``status``, who changed it and why, and the statistics is immutable."""

    workflow_id: str
    workflow_name: str
    version: str
    title: str = ""
    action_type: str
    description: WorkflowDescription
    owner: str = ""
    labels: WorkflowLabels
    parameters: tuple[WorkflowParameter, ...] = ()
    execution_engine: ExecutionEngine = ExecutionEngine.TEKTON
    container_image: str
    """The bundle without its digest, for example ``localhost:5000/workflows/restart:1.0.0`` or ``oci:restart-rollout:1.0.0``."""
    container_digest: str
    content: str = ""
    """``workflow-schema.yaml`` as it is in the bundle."""
    content_hash: str = ""
    """sha256 hex of ``content``."""
    service_account_name: str = ""
    status: WorkflowStatus = WorkflowStatus.ACTIVE
    is_latest_version: bool = True
    """Whether no registered version is higher by SemVer precedence. Only the latest is offered, and only while it is active."""
    previous_version: str = ""
    """The next lower version that was there when this one was registered."""
    source: str = ""
    """Who asked for the registration first, as it calls itself, for example ``remediationworkflow kubernaut-system/restart``."""
    disabled_at: Timestamp | None = None
    disabled_by: str = ""
    disabled_reason: str = ""
    """These three tell of a status other than active, and are empty when it is active."""
    status_changed_at: Timestamp | None = None
    status_changed_by: str = ""
    status_changed_reason: str = ""
    """The last change of the status, an enabling too."""
    total_executions: int = 0
    successful_executions: int = 0
    actual_success_rate: float | None = None
    """Successful over total, 0 to 1; absent while nothing was executed."""
    last_execution_at: Timestamp | None = None
    average_duration_seconds: float | None = None
    """Over the executions whose duration is known."""
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None

    @property
    def pinned_image(self) -> str:
        """The image reference with its digest: what is executed."""
        return f"{self.container_image}@{self.container_digest}" if self.container_digest else self.container_image


class RegisterWorkflow(StrictContract):
    """Register a workflow from its bundle: the server pulls, validates, and pins the digest."""

    container_image: str
    container_digest: str = ""
    registered_by: str = ""
    source: Annotated[str, Field(max_length=600)] = ""
    """On whose behalf, for example ``remediationworkflow NAMESPACE/NAME``; who calls is established by the token."""
    expected: dict[str, Any] = {}
    """Fields of the envelope form's ``spec`` (camelCase) that the bundle's schema must agree with; a difference is refused."""

    @field_validator("expected")
    @classmethod
    def _writable(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            orjson.dumps(value)
        except TypeError as error:
            raise ValueError(f"cannot be written as JSON: {error}") from None
        return value


class WorkflowPage(Contract):
    workflows: tuple[Workflow, ...]
    pagination: Pagination


class WorkflowPatch(StrictContract):
    """The mutable fields. Another field is refused, not ignored: who sends one believes that it was changed."""

    status: WorkflowStatus
    reason: Annotated[str, Field(max_length=1024)] = ""
    source: Annotated[str, Field(max_length=600)] = ""
    """On whose behalf, as in ``RegisterWorkflow``; the record says it instead of the caller's user."""


class StatusReason(StrictContract):
    """Why a workflow is disabled."""

    reason: Annotated[str, Field(max_length=1024)] = ""


class SearchFilters(StrictContract):
    """Facts of the incident. Empty means unknown and filters nothing; a misspelt filter is refused, lest it filters nothing."""

    signal_type: str = ""
    severity: str = ""
    component: str = ""
    """Kind of the target, any case."""
    environment: str = ""
    priority: str = ""
    custom_labels: dict[str, tuple[str, ...]] = {}
    detected_labels: dict[str, bool | str | None] = {}
    """As in DetectedLabels (camelCase); failed detections must already be left out."""


class SearchRequest(Contract):
    query: Annotated[str, Field(max_length=8192)]
    filters: SearchFilters = SearchFilters()
    top_k: Annotated[int, Field(ge=1, le=100)] = 10
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    include_disabled: bool = False
    explain: bool = False
    """Also say of every workflow left out why it is not in the answer (``excluded``)."""
    explain_workflow: Annotated[str, Field(max_length=256)] = ""
    """The id or name of one workflow: ``explanation`` says of exactly this one why it is, or is not, in the answer."""
    remediation_id: str = ""
    """For the audit trail only; never influences the result."""


class ScoreBreakdown(Contract):
    semantic: float
    lexical: float
    labels: float
    detected: float
    custom: float
    penalty: float


class SearchHit(Contract):
    """``score`` orders the answer; it is a relevance, not a probability, and never a confidence."""

    rank: int
    score: float
    score_breakdown: ScoreBreakdown
    workflow: Workflow


class SearchExclusion(Contract):
    """Why a workflow was not offered (with ``explain``)."""

    workflow_id: str
    workflow_name: str
    reason: str


class WorkflowExplanation(Contract):
    """What became of one workflow in a search (with ``explain_workflow``): every reason why it was not offered."""

    asked: str
    workflow_id: str = ""
    """Empty when the catalog holds nothing of this id or name."""
    workflow_name: str = ""
    version: str = ""
    status: WorkflowStatus | None = None
    offered: bool = False
    rank: int | None = None
    """Its place among all that were scored, beyond ``top_k`` too; none when it was ruled out or not scored."""
    score: float | None = None
    """What it scores, or would have scored had nothing ruled it out."""
    score_breakdown: ScoreBreakdown | None = None
    reasons: tuple[str, ...] = ()


class SearchResponse(Contract):
    hits: tuple[SearchHit, ...]
    total_matched: int
    """How many passed the label filter."""
    snapshot_version: int
    embedder: str = ""
    degraded: str = ""
    """Why meaning could not be compared, when the order is by words and labels only. Empty: nothing is missing."""
    took_ms: float = 0.0
    excluded: tuple[SearchExclusion, ...] = ()
    explanation: WorkflowExplanation | None = None
