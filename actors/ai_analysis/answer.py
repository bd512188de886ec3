"""From the HolmesGPT-API's answer to status fields: everything an operator may need, cut to what the CRD holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubernaut_ray.contracts.investigation import AlternativeAnswer, IncidentResponse, SelectedWorkflowAnswer
from kubernaut_ray.crds.ai_analysis import PreviousAttemptAssessment, RecoveryStatus, ValidationAttempt
from kubernaut_ray.crds.enums import AIAnalysisSubReason as Sub
from kubernaut_ray.crds.enums import HumanReviewReason
from kubernaut_ray.crds.shared import AlternativeWorkflow, RootCauseAnalysis, SelectedWorkflow

SHORT, LONG, NAME = 1024, 32768, 253

SUB_REASONS = {
    HumanReviewReason.WORKFLOW_NOT_FOUND: Sub.WORKFLOW_NOT_FOUND,
    HumanReviewReason.IMAGE_MISMATCH: Sub.IMAGE_MISMATCH,
    HumanReviewReason.PARAMETER_VALIDATION_FAILED: Sub.PARAMETER_VALIDATION_FAILED,
    HumanReviewReason.NO_MATCHING_WORKFLOWS: Sub.NO_MATCHING_WORKFLOWS,
    HumanReviewReason.LOW_CONFIDENCE: Sub.LOW_CONFIDENCE,
    HumanReviewReason.LLM_PARSING_ERROR: Sub.LLM_PARSING_ERROR,
    HumanReviewReason.INVESTIGATION_INCONCLUSIVE: Sub.INVESTIGATION_INCONCLUSIVE,
}
"""Why a person takes over, as the status says it."""


def told(response: IncidentResponse) -> dict[str, Any]:
    """Return the status fields that every answer fills, whatever it concludes."""
    cause, recovery = response.root_cause_analysis, response.recovery_analysis
    return {
        "root_cause": clip(cause.summary, LONG),
        "root_cause_analysis": RootCauseAnalysis(
            summary=clip(cause.summary, LONG),
            severity=cause.severity,
            signal_type=clip(cause.signal_type, SHORT),
            contributing_factors=lines(cause.contributing_factors, 20),
        ),
        "alternative_workflows": tuple(map(_alternative, response.alternative_workflows[:10])),
        "confidence": response.confidence,
        "investigation_time": response.duration_seconds,
        "investigated_by": clip(response.model, SHORT),
        "evidence": lines(response.evidence, 30),
        "target_in_owner_chain": response.target_in_owner_chain,
        "warnings": lines(response.warnings, 30),
        "validation_attempts_history": tuple(
            ValidationAttempt(
                attempt=min(max(a.attempt, 1), 10),
                workflow_id=clip(a.workflow_id, NAME),
                is_valid=a.is_valid,
                errors=lines(a.errors, 50),
                timestamp=a.timestamp,
            )
            for a in response.validation_attempts_history[:10]
        ),
        "recovery_status": None
        if recovery is None
        else RecoveryStatus(
            previous_attempt_assessment=PreviousAttemptAssessment(
                failure_understood=recovery.failure_understood,
                failure_reason_analysis=clip(recovery.failure_reason_analysis, LONG),
            ),
            state_changed=recovery.state_changed,
            current_signal_type=clip(recovery.current_signal_type, SHORT),
        ),
    }


def selected(answer: SelectedWorkflowAnswer) -> SelectedWorkflow:
    """Return the workflow as it will be executed. Raises pydantic's ``ValidationError`` when it does not fit the CRD:
    what is executed is never cut to size.
    """
    return SelectedWorkflow(
        workflow_id=answer.workflow_id,
        workflow_name=clip(answer.workflow_name, NAME),
        version=answer.version,
        container_image=answer.container_image,
        container_digest=answer.container_digest,
        engine=answer.engine,
        confidence=answer.confidence,
        parameters=answer.parameters,
        rationale=clip(answer.rationale, LONG),
    )


def _alternative(answer: AlternativeAnswer) -> AlternativeWorkflow:
    return AlternativeWorkflow(
        workflow_id=clip(answer.workflow_id, NAME),
        workflow_name=clip(answer.workflow_name, NAME),
        container_image=clip(answer.container_image, SHORT),
        confidence=answer.confidence,
        rationale=clip(answer.rationale, LONG),
    )


def clip(text: str, most: int) -> str:
    """Cut a text that people read; a cut shows."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def lines(texts: Iterable[str], most: int) -> tuple[str, ...]:
    return tuple(clip(t, SHORT) for t in list(texts)[:most])
