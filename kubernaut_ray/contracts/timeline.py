"""An incident as its audit trail tells it (contract of Data Storage): ``GET /api/v1/remediations/{id}/timeline``.

Everything here is read from events alone, so that it can be had when every object is long gone. What the trail does not say
is left out or ``None``, and what it should say and does not is in ``gaps``: the account never pretends.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.contracts.recorded import Withheld
from kubernaut_ray.crds.base import Timestamp
from kubernaut_ray.crds.enums import ExecutionEngine

Seconds = Annotated[float, Field(ge=0)]


class State(StrEnum):
    UNKNOWN = "unknown"
    """Nothing is on record."""
    OPEN = "open"
    ENDED = "ended"


class GapKind(StrEnum):
    NOTHING = "nothing-on-record"
    STILL_OPEN = "still-open"
    MISSING = "missing"
    """Something happened that cannot have happened without a fact that is not there."""
    CONTRADICTION = "contradiction"
    """Two facts cannot both be true."""
    SUPERSEDED = "superseded"
    """A step was told and then not taken: whoever told it ended before it was written down, and another was taken."""
    UNREADABLE = "unreadable"
    """An event that is not what the vocabulary says."""


class Gap(Contract):
    kind: GapKind
    message: str
    at: Timestamp | None = None
    event_type: str = ""
    """What is missing, or what does not fit."""


class Step(Contract):
    """One fact in words."""

    at: Timestamp
    offset: float
    """Seconds after the incident's first fact, below 0 for what happened before. Clocks differ: it may be out by as much."""
    event_id: str
    event_type: str
    what: str
    who: str
    outcome: str
    seconds: Seconds | None = None
    """How long what ended here took."""
    detail: bool = False
    """Of interest only to who looks closely."""


class PhaseSpan(Contract):
    phase: str
    entered: Timestamp
    left: Timestamp | None = None
    seconds: Seconds | None = None
    reason: str = ""
    """Why it was entered."""
    message: str = ""
    attempt: int = 0


class SignalStory(Contract):
    name: str = ""
    type: str = ""
    source: str = ""
    severity: str = ""
    fingerprint: str = ""
    resource: str = ""
    """What the signal named, where that is another than the target."""
    description: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    received: Timestamp | None = None
    refused_before: Annotated[int, Field(ge=0)] = 0
    """How often the Kubernetes API had refused to open an incident for this fingerprint."""


class Occurrences(Contract):
    count: Annotated[int, Field(ge=0)] = 0
    """The first one and every repetition that is on record."""
    last_seen: Timestamp | None = None
    signals: tuple[str, ...] = ()
    folded: Annotated[int, Field(ge=0)] = 0
    """Signals of other resources that were taken in."""
    folded_targets: tuple[str, ...] = ()
    resolved: tuple[str, ...] = ()
    """Symptoms that the source called over, as ``signal on resource``."""
    storm: str = ""


class Classification(Contract):
    severity: str = ""
    severity_raw: str = ""
    environment: str = ""
    environment_source: str = ""
    priority: str = ""
    priority_source: str = ""
    policy: str = ""
    policy_hash: str = ""
    business: dict[str, str] = {}
    owner_chain: tuple[str, ...] = ()
    degraded: bool = False
    """The target itself could not be read."""
    flaws: tuple[str, ...] = ()


class ToolUse(Contract):
    tool: str
    calls: int
    failed: int = 0


class Investigation(Contract):
    """One run of the HolmesGPT-API."""

    run: str
    model: str = ""
    started: Timestamp | None = None
    ended: Timestamp | None = None
    seconds: Seconds | None = None
    outcome: str = ""
    """``completed``, ``failed``; empty while it runs, or where it died."""
    error: str = ""
    tools: tuple[ToolUse, ...] = ()
    llm_requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    answers_refused: int = 0


class Cause(Contract):
    summary: str
    severity: str = ""
    signal_type: str = ""
    contributing_factors: tuple[str, ...] = ()


class Choice(Contract):
    """The workflow that an analysis chose, and why."""

    workflow_id: str
    workflow_name: str = ""
    version: str = ""
    container_image: str = ""
    container_digest: str = ""
    confidence: float | None = None
    parameters: dict[str, str] = {}
    rationale: str = ""


class Alternative(Contract):
    workflow_id: str
    workflow_name: str = ""
    confidence: float | None = None
    rationale: str = ""


class Leave(Contract):
    """Whether a person had to approve, was asked, and what was said."""

    required: bool | None = None
    why: str = ""
    policy_hash: str = ""
    request: str = ""
    asked: Timestamp | None = None
    required_by: Timestamp | None = None
    decision: str = ""
    """``Approved``, ``Rejected``, ``Expired``; empty where nobody decided (yet)."""
    decided: Timestamp | None = None
    by: str = ""
    via: str = ""
    said: str = ""
    waited: Seconds | None = None
    refused: tuple[str, ...] = ()
    """Decisions that were written and did not count."""


class Failure(Contract):
    reason: str = ""
    message: str = ""
    task: str = ""
    step: str = ""
    exit_code: int | None = None
    executed: bool = False
    """It may have changed something before it failed."""


def run_kind(engine: str) -> str:
    """Return the kind of object that an engine runs a workflow as."""
    return "Job" if engine == ExecutionEngine.JOB else "PipelineRun"


class ExecutionStory(Contract):
    name: str
    workflow_id: str = ""
    workflow_name: str = ""
    version: str = ""
    container_image: str = ""
    target: str = ""
    parameters: dict[str, str] = {}
    engine: str = ""
    pipeline_run: str = ""
    """The run's name, of whatever kind the engine makes."""
    started: Timestamp | None = None
    ended: Timestamp | None = None
    seconds: Seconds | None = None
    outcome: str = ""
    """``completed``, ``failed``, ``cancelled``; empty while it runs."""
    results: dict[str, str] = {}
    failure: Failure | None = None

    @property
    def run(self) -> str:
        """The run by its kind and name."""
        return f"{run_kind(self.engine)} {self.pipeline_run or '(none)'}"


class Recovery(Contract):
    """What was decided after a failed execution."""

    started: bool
    at: Timestamp
    reason: str = ""
    message: str = ""


class Attempt(Contract):
    """One way from investigation to execution. Number 0 is the first, n the n-th recovery."""

    number: int
    analysis: str = ""
    model: str = ""
    conclusion: str = ""
    """What the analysis ended with: its reason, and its sub-reason where it has one."""
    message: str = ""
    started: Timestamp | None = None
    ended: Timestamp | None = None
    seconds: Seconds | None = None
    cause: Cause | None = None
    evidence: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    investigations: tuple[Investigation, ...] = ()
    searches: int = 0
    chosen: Choice | None = None
    alternatives: tuple[Alternative, ...] = ()
    approval: Leave = Leave()
    execution: ExecutionStory | None = None
    recovery: Recovery | None = None


class Pause(Contract):
    """A time in which the incident had to wait."""

    reason: str
    message: str = ""
    since: Timestamp
    until: Timestamp | None = None
    duplicate_of: str = ""
    execution: str = ""


class DeliveryStory(Contract):
    delivery: str
    sent: bool
    at: Timestamp
    attempts: int = 0
    error: str = ""


class NotificationStory(Contract):
    name: str
    type: str = ""
    priority: str = ""
    subject: str = ""
    requested: Timestamp | None = None
    deliveries: tuple[DeliveryStory, ...] = ()


class Ending(Contract):
    phase: str
    outcome: str = ""
    reason: str = ""
    message: str = ""
    at: Timestamp
    seconds: Seconds | None = None
    """From the creation of the request, as the orchestrator measured it."""
    manual_review: str = ""
    """Why a person must take over; empty where nobody must."""


class RecoveredSpec(Contract):
    """The RemediationRequest's spec in its JSON form; ``withheld`` names what is not there as it was."""

    spec: dict[str, Any]
    withheld: tuple[Withheld, ...] = ()
    told_by: str = ""
    """The event type that holds it."""


class IncidentStory(Contract):
    """One incident, reconstructed."""

    remediation_id: str
    state: State
    opened: Timestamp | None = None
    target: str = ""
    signal: SignalStory = SignalStory()
    occurrences: Occurrences = Occurrences()
    classification: Classification | None = None
    phases: tuple[PhaseSpan, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    pauses: tuple[Pause, ...] = ()
    verification: PhaseSpan | None = None
    notifications: tuple[NotificationStory, ...] = ()
    ending: Ending | None = None
    request: RecoveredSpec | None = None
    steps: tuple[Step, ...] = ()
    gaps: tuple[Gap, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it ended and the trail lacks nothing."""
        return self.state is State.ENDED and not self.gaps


class Timeline(Contract):
    """Every fact about one remediation in the order of their instants, and the incident that they tell."""

    remediation_id: str
    incident: IncidentStory | None = None
    """``None`` only from a Data Storage older than this client."""
    events: tuple[AuditEvent, ...]
    related: tuple[AuditEvent, ...] = ()
    """Facts under other correlations that the account needs: earlier refusals of the same fingerprint, and changes of the
    workflows that it chose."""
