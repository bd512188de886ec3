"""Is another attempt sensible after a failed execution? Three gates, the first one hit says why not.

Pure. A recovery is a new AIAnalysis that is told every earlier attempt; who must give leave for what it proposes is the
approval policy's business, which sees whether an execution failed half-way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.enums import ExecutionFailureReason
from kubernaut_ray.crds.shared import FailureDetails, PreviousExecution, RootCauseAnalysis, SelectedWorkflow
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.settings import OrchestratorSettings


class NotViable(StrEnum):
    """Why no further attempt is made."""

    ATTEMPTS = "max_recovery_attempts_exceeded"
    PATTERN = "repeated_failure_pattern"
    RATE = "termination_rate_exceeded"
    LEAVE = "approval_invalid"


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: NotViable
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A workflow execution of the whole system that has ended."""

    at: datetime
    failed: bool


def evaluate(
    *,
    attempts: int,
    previous: Sequence[PreviousExecution],
    failure: FailureDetails,
    finished: Sequence[Finished],
    now: datetime,
    settings: OrchestratorSettings,
) -> Refusal | None:
    """Return why not to try again, or ``None`` when recovery is viable.

    ``attempts`` counts recoveries already made, ``previous`` are the failures before this one. A termination rate measured
    on fewer than ``termination_rate_minimum`` executions says nothing and stops nothing.
    """
    if failure.reason == ExecutionFailureReason.APPROVAL_INVALID:
        return Refusal(NotViable.LEAVE, "what would have run is not what a person approved")
    if attempts >= settings.max_recovery_attempts:
        return Refusal(
            NotViable.ATTEMPTS, f"{attempts} of {settings.max_recovery_attempts} recovery attempts are used up"
        )
    mine = signature(failure)
    if any(signature(earlier.failure) == mine for earlier in previous):
        where = failure.failed_step_name or failure.failed_task_name or "the same place"
        return Refusal(NotViable.PATTERN, f"it failed at {where} with {failure.reason}, as an earlier attempt did")
    since = now - timedelta(seconds=settings.termination_rate_window)
    recent = [end for end in finished if end.at >= since]
    failed = sum(end.failed for end in recent)
    if len(recent) >= settings.termination_rate_minimum and failed / len(recent) >= settings.termination_rate_limit:
        return Refusal(
            NotViable.RATE,
            f"{failed} of {len(recent)} workflow executions failed within "
            f"{timedelta(seconds=settings.termination_rate_window)}: something wider is wrong",
        )
    return None


def signature(failure: FailureDetails) -> tuple[str, str, str]:
    """What makes two failures the same: where, and what kind."""
    return failure.failed_task_name, failure.failed_step_name, failure.reason


def failure_of(execution: WorkflowExecution, now: datetime) -> FailureDetails:
    """Return how an execution failed, also where its controller left no details."""
    details = execution.status.failure_details
    if details is not None:
        return FailureDetails.model_validate(details.model_dump())
    return FailureDetails(
        reason=ExecutionFailureReason.UNKNOWN,
        message=execution.status.message or "the execution failed without saying how",
        failed_at=execution.status.completion_time or now,
        was_execution_failure=execution.status.pipeline_run_ref is not None,
    )


def record(execution: WorkflowExecution, analysis: AIAnalysis | None, now: datetime) -> PreviousExecution:
    """Return a failed attempt as the next analysis is told it."""
    failure = failure_of(execution, now)
    spec = execution.spec
    return PreviousExecution(
        workflow_execution_ref=execution.name,
        original_rca=root_cause(analysis),
        selected_workflow=SelectedWorkflow(
            **spec.workflow_ref.model_dump(),
            confidence=spec.confidence or 0.0,
            parameters=spec.parameters,
            rationale=spec.rationale,
        ),
        failure=failure,
        natural_language_summary=failure.natural_language_summary,
    )


def root_cause(analysis: AIAnalysis | None) -> RootCauseAnalysis:
    """Return what the analysis found, or a statement that nothing is known."""
    if analysis is not None and analysis.status.root_cause_analysis is not None:
        return analysis.status.root_cause_analysis
    return RootCauseAnalysis(
        summary=analysis.status.root_cause if analysis and analysis.status.root_cause else "not known"
    )
