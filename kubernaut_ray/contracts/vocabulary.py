"""Every type of audit event there is: who tells it, in which category, under what correlation, and what it holds.

Writers and readers agree here and nowhere else: ``check`` says what is wrong with an event, tests hold all emitters and the
trail of a whole system against it, and who reconstructs an incident calls what does not fit a gap. The order of the list is
the order of causes, which settles what came first where two events bear one instant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.crds.enums import AuditCategory as Category
from kubernaut_ray.crds.enums import AuditOutcome

S, F, P = AuditOutcome.SUCCESS, AuditOutcome.FAILURE, AuditOutcome.PENDING


class Under(StrEnum):
    """What the correlation id names."""

    REMEDIATION = "remediation"
    """The RemediationRequest; all of an incident's own events."""
    SIGNAL = "signal"
    """``signal-`` and the first 12 characters of a fingerprint: nothing was opened for it."""
    SILENCE = "silence"
    WORKFLOW = "workflow"
    ARCHIVE = "archive"
    """A month of the trail, such as ``audit-2026-10``."""


@dataclass(frozen=True, slots=True)
class EventType:
    """``holds`` must be in ``event_data``, ``may`` can be; ``tells`` is what the fact is, in words."""

    name: str
    category: Category
    service: str
    tells: str
    holds: frozenset[str]
    may: frozenset[str]
    outcomes: frozenset[AuditOutcome]
    under: Under
    rank: int


def _types() -> Iterable[EventType]:
    rank = 0

    def of(
        name: str, category: Category, service: str, tells: str, holds: str, *, may: str = "",
        outcomes: tuple[AuditOutcome, ...] = (S,), under: Under = Under.REMEDIATION,
    ) -> EventType:  # fmt: skip
        nonlocal rank
        rank += 1
        words, more = frozenset(holds.split()), frozenset(may.split())
        return EventType(name, category, service, tells, words, more, frozenset(outcomes), under, rank)

    about = "signal_name fingerprint target_resource"
    gateway = (Category.GATEWAY, "gateway")
    silence = "matchers starts_at ends_at time_intervals created_by comment silenced_count"
    yield of(
        "gateway.crd.failed", *gateway, "a signal opened nothing: the Kubernetes API refused", f"{about} error",
        outcomes=(F,), under=Under.SIGNAL,
    )  # fmt: skip
    yield of("gateway.silence.created", *gateway, "a silence was made", silence, under=Under.SILENCE)
    yield of("gateway.silence.updated", *gateway, "a silence was changed", silence, under=Under.SILENCE)
    yield of("gateway.silence.expired", *gateway, "a silence was ended", silence, under=Under.SILENCE)
    yield of(
        "gateway.signal.silenced", *gateway, "signals were kept quiet", "silence signals count", under=Under.SILENCE
    )
    yield of(
        "gateway.signal.received", *gateway, "a signal was received that opens an incident",
        f"{about} signal_type signal_source severity signal_resource assumed labels annotations",
    )  # fmt: skip
    yield of(
        "gateway.crd.created", *gateway, "the RemediationRequest was created",
        f"{about} signal_type signal_source severity signal_resource assumed uid spec withheld",
    )  # fmt: skip
    yield of(
        "gateway.signal.deduplicated", *gateway, "the signal was seen again",
        "occurrences first_seen last_seen signal_names",
    )  # fmt: skip
    yield of(
        "gateway.storm.detected", *gateway, "the incident is part of a storm",
        "storm_type window alert_count affected_resources detected_at",
    )  # fmt: skip
    yield of("gateway.signal.folded", *gateway, "signals of other resources were taken in", "members count")
    yield of("gateway.signal.resolved", *gateway, "the source said that symptoms are over", "symptoms")

    orchestrator = (Category.ORCHESTRATION, "remediation-orchestrator")
    yield of(
        "orchestrator.lifecycle.started", *orchestrator, "the orchestrator took the request up",
        "signal target fingerprint uid opened_by spec withheld",
    )  # fmt: skip

    processing = (Category.SIGNAL_PROCESSING, "signal-processing")
    yield of(
        "signalprocessing.error.occurred", *processing, "the signal could not be enriched", "error",
        may="reason failures", outcomes=(F,),
    )  # fmt: skip
    yield of(
        "signalprocessing.enrichment.completed", *processing, "the target was looked up",
        "reason degraded owner_chain detected events",
    )  # fmt: skip
    yield of(
        "signalprocessing.classification.decision", *processing, "severity, environment and priority were decided",
        "severity_raw severity environment environment_source priority priority_source policy_name policy_hash flaws notes",
    )  # fmt: skip
    yield of(
        "signalprocessing.business.classified", *processing, "the business classification was decided",
        "business_unit service_owner criticality sla_requirement policy_hash flaws",
    )  # fmt: skip
    yield of(
        "signalprocessing.signal.processed", *processing, "the signal was processed",
        "fingerprint signal_name severity environment priority degraded",
    )  # fmt: skip
    yield of(
        "signalprocessing.phase.transition", *processing, "signal processing went on", "from_phase to_phase reason"
    )

    analysis = (Category.ANALYSIS, "aianalysis-controller")
    yield of("aianalysis.holmesgpt.call", *analysis, "an investigation was asked for", "session_id is_recovery_attempt")
    agent, each = (Category.ANALYSIS, "holmesgpt-api"), "model incident_id run"
    yield of("aiagent.investigation.started", *agent, "the investigation began", f"{each} is_recovery")
    yield of(
        "aiagent.llm.request", *agent, "the model was asked",
        f"{each} attempt prompt_length prompt_sha256 prompt_preview",
    )  # fmt: skip
    yield of(
        "aiagent.llm.tool_call", *agent, "a tool was used", f"{each} number tool arguments repeated result_bytes",
        outcomes=(S, F),
    )  # fmt: skip
    yield of(
        "workflow.catalog.search_completed", Category.WORKFLOW, "data-storage", "the catalog was searched",
        "query filters results total_matched snapshot_version",
    )  # fmt: skip
    yield of(
        "aiagent.llm.response", *agent, "the model answered",
        f"{each} attempt response_length response_preview requests input_tokens output_tokens",
    )  # fmt: skip
    yield of(
        "aiagent.workflow.validation_attempt", *agent, "an answer was checked",
        f"{each} attempt workflow_id is_valid errors", outcomes=(S, F),
    )  # fmt: skip
    yield of("aiagent.investigation.failed", *agent, "the investigation failed", f"{each} error", outcomes=(F,))
    yield of(
        "aiagent.investigation.completed", *agent, "the investigation ended",
        f"{each} selected_workflow workflow_name container_digest confidence resolved needs_human_review "
        "human_review_reason signal_type summary tool_calls",
    )  # fmt: skip
    yield of(
        "aianalysis.error.occurred", *analysis, "the analysis met a failure", "error",
        may="attempt reason sub_reason", outcomes=(F,),
    )  # fmt: skip
    yield of(
        "aianalysis.analysis.completed", *analysis, "the analysis ended",
        "phase reason message evidence warnings alternative_workflows investigation_id",
        may="workflow confidence model sub_reason approval_required root_cause selected_workflow investigation_seconds "
        "target_in_owner_chain",
        outcomes=(S, F),
    )  # fmt: skip
    yield of(
        "aianalysis.rego.evaluation", *analysis, "the approval policy was asked", "policy_hash degraded matched_rules",
        outcomes=(S, F),
    )  # fmt: skip
    yield of(
        "aianalysis.approval.decision", *analysis, "the policy said whether a person must approve",
        "approval_required reason confidence policy_hash environment decision",
    )  # fmt: skip
    yield of("aianalysis.phase.transition", *analysis, "the analysis went on", "old_phase new_phase")

    approval = (Category.APPROVAL, "approval-controller")
    decision = (
        "approval_request decision decided_by decided_via message workflow_id workflow_name container_digest parameters "
        "required_by recorded_by"
    )
    yield of(
        "orchestrator.approval.requested", Category.APPROVAL, "remediation-orchestrator", "a person's leave was asked for",
        "approval_request workflow_id workflow_name container_digest confidence reason required_by", outcomes=(P,),
    )  # fmt: skip
    yield of(
        "orchestrator.approval.refused", *approval, "a decision was written that does not count",
        "approval_request attempted written_by written_via reason", outcomes=(F,),
    )  # fmt: skip
    who = "authenticated approved_by workflow_override"
    yield of("orchestrator.approval.approved", *approval, "a person approved", decision, may=who)
    yield of("orchestrator.approval.rejected", *approval, "a person rejected", decision, may=who, outcomes=(F,))
    yield of("orchestrator.approval.expired", *approval, "nobody decided in time", decision, may=who, outcomes=(F,))

    execution = (Category.EXECUTION, "workflow-execution-controller")
    run, more = "workflow_id workflow_name version container_image target_resource parameters", "pipeline_run"
    yield of(
        "workflow.started",
        *execution,
        "the workflow began",
        f"{run} pipeline_run",
        may="engine signature",
        outcomes=(P,),
    )
    yield of("workflow.completed", *execution, "the workflow succeeded", f"{run} results", may=f"{more} duration")
    yield of(
        "workflow.failed", *execution, "the workflow failed", f"{run} reason was_execution_failure",
        may=f"{more} message summary exit_code failed_task failed_task_index failed_step failed_at time_before_failure",
        outcomes=(F,),
    )  # fmt: skip
    yield of(
        "workflow.rehearsed",
        *execution,
        "what would have run was rendered, and not created",
        f"{run} manifest",
        may=more,
    )
    yield of(
        "workflowexecution.block.cleared", *execution, "a person let workflows run again on the target",
        f"{run} cleared_by cleared_at reason", may=more,
    )  # fmt: skip
    yield of("workflow.cancelled", *execution, "the workflow was called off", f"{run} was", may=more, outcomes=(F,))

    effect = (Category.EFFECTIVENESS, "effectiveness-controller")
    judged = "execution workflow_id workflow_name version target_resource environment"
    yield of(
        "effectiveness.assessment.started", *effect, "the workflow's effect is being judged", f"{judged} valid_until",
        outcomes=(P,),
    )  # fmt: skip
    yield of(
        "effectiveness.assessment.completed", *effect, "the workflow's effect was judged",
        f"{judged} reason message score effective components spec_changed pre_remediation_spec_hash "
        "post_remediation_spec_hash",
        outcomes=(S, F),
    )  # fmt: skip

    yield of(
        "orchestrator.recovery.started", *orchestrator, "another attempt is made after a failed execution",
        "attempt execution failure_reason failure reason message", outcomes=(P,),
    )  # fmt: skip
    yield of(
        "orchestrator.recovery.refused", *orchestrator, "no further attempt is made after a failed execution",
        "attempt execution failure_reason failure reason message", outcomes=(F,),
    )  # fmt: skip
    yield of(
        "orchestrator.routing.blocked", *orchestrator, "the incident must wait",
        "reason message blocked_from blocked_until duplicate_of blocking_execution",
    )  # fmt: skip
    yield of(
        "orchestrator.remediation.manual_review", *orchestrator, "a person must take over", "reason sub_reason",
        outcomes=(P,),
    )  # fmt: skip
    yield of(
        "orchestrator.lifecycle.completed", *orchestrator, "the incident ended",
        "phase outcome_of_remediation reason message duration_seconds", outcomes=(S, F),
    )  # fmt: skip
    yield of(
        "orchestrator.notification.requested", *orchestrator, "people are to be told",
        "notification type priority subject", outcomes=(P,),
    )  # fmt: skip
    yield of(
        "orchestrator.phase.transitioned", *orchestrator, "the incident went on",
        "from_phase to_phase reason message attempt",
    )  # fmt: skip

    notification = (Category.NOTIFICATION, "notification-controller")
    told = "delivery type priority attempts of"
    yield of("notification.message.sent", *notification, "people were told", told)
    yield of("notification.message.failed", *notification, "people were not told", f"{told} error", outcomes=(F,))

    storage = (Category.WORKFLOW, "data-storage")
    workflow = "workflow_name version container_image status reason"
    yield of(
        "datastorage.workflow.created", *storage, "a workflow was registered", f"{workflow} registered_by source",
        under=Under.WORKFLOW,
    )  # fmt: skip
    yield of(
        "datastorage.workflow.updated", *storage, "a workflow was changed", f"{workflow} source", under=Under.WORKFLOW
    )

    run = "first_sequence last_sequence sha256"
    yield of(
        "datastorage.audit.hold_placed", *storage, "a legal hold was placed on the incident",
        "correlation_id reason placed_at", may="placed_by",
    )  # fmt: skip
    yield of("datastorage.audit.hold_released", *storage, "the legal hold was released", "reason released_by hold")
    yield of(
        "datastorage.audit.archived", *storage, "a month of the trail was rolled off", f"name events bytes created_us {run}",
        under=Under.ARCHIVE,
    )  # fmt: skip
    yield of(
        "datastorage.audit.retired", *storage, "an archive was deleted when its retention had ended",
        f"archive key_id signature retired_us {run}", under=Under.ARCHIVE,
    )  # fmt: skip

    declared = (Category.WORKFLOW, "remediation-workflow-controller")
    version = "bundle source workflow_id workflow_name version container_image content_hash"
    yield of(
        "workflow.registration.registered",
        *declared,
        "a declared workflow is in the catalog",
        version,
        under=Under.WORKFLOW,
    )
    yield of(
        "workflow.registration.rejected", *declared, "a declared workflow was refused", "bundle source reason message",
        outcomes=(F,), under=Under.WORKFLOW,
    )  # fmt: skip
    yield of(
        "workflow.registration.suspended", *declared, "a declared workflow is no longer offered", f"{version} by reason",
        under=Under.WORKFLOW,
    )  # fmt: skip
    yield of(
        "workflow.registration.resumed", *declared, "a declared workflow is offered again", f"{version} by reason",
        under=Under.WORKFLOW,
    )  # fmt: skip
    yield of(
        "workflow.registration.withdrawn", *declared, "a declaration was deleted, and what only it declared disabled",
        "bundle source disabled", under=Under.WORKFLOW,
    )  # fmt: skip


EVENT_TYPES: MappingProxyType[str, EventType] = MappingProxyType({one.name: one for one in _types()})
UNKNOWN_RANK = len(EVENT_TYPES) + 1


def rank(event: AuditEvent) -> int:
    """Return the place of an event's type in the order of causes."""
    known = EVENT_TYPES.get(event.event_type)
    return known.rank if known else UNKNOWN_RANK


def check(event: AuditEvent) -> tuple[str, ...]:
    """Return everything that is not as the vocabulary says; nothing for an event that fits."""
    known = EVENT_TYPES.get(event.event_type)
    if known is None:
        return (f"{event.event_type} is no event type",)
    problems = []
    if event.event_category is not known.category:
        problems.append(f"its category is {event.event_category}, not {known.category}")
    if event.event_outcome not in known.outcomes:
        problems.append(f"its outcome is {event.event_outcome}")
    if missing := known.holds - event.event_data.keys():
        problems.append(f"its event_data lacks {', '.join(sorted(missing))}")
    return tuple(f"{event.event_type}: {problem}" for problem in problems)


def undeclared(event_type: str, data: dict[str, Any]) -> frozenset[str]:
    """Return the keys of ``event_data`` that the vocabulary does not know for this type."""
    known = EVENT_TYPES.get(event_type)
    return frozenset(data) - known.holds - known.may if known else frozenset(data)
