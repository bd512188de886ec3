"""The audit events of an analysis, as effects. Their ids depend on the object and on what happened, never on when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Audit
from kubernaut_ray.crds.ai_analysis import AIAnalysis, AIAnalysisStatus
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.redact import redact_values

ACTOR = "aianalysis-controller"


def fact(
    analysis: AIAnalysis,
    event_type: str,
    now: datetime,
    *key: str,
    outcome: AuditOutcome = AuditOutcome.SUCCESS,
    seconds: float | None = None,
    **data: Any,
) -> Audit:
    signal = analysis.spec.analysis_request.signal_context
    return Audit(
        AuditEvent.fact(
            f"aianalysis.{event_type}",
            correlation_id=analysis.spec.remediation_id,
            category=AuditCategory.ANALYSIS,
            now=now,
            outcome=outcome,
            actor=ACTOR,
            key=(analysis.uid, *key),
            resource_type="AIAnalysis",
            resource_id=analysis.name,
            namespace=signal.target_resource.namespace,
            severity=signal.severity.value,
            duration_ms=None if seconds is None else max(0, round(seconds * 1000)),
            event_data={k: v for k, v in data.items() if v is not None},
        )
    )


def found(status: AIAnalysisStatus) -> dict[str, Any]:
    """Return what an analysis found, as ``event_data``: cause, evidence, the choice and what it was chosen over.

    Its texts were redacted where they were made; parameters were not.
    """
    chosen, cause = status.selected_workflow, status.root_cause_analysis
    return {
        "investigation_id": status.investigation_id,
        "investigation_seconds": status.investigation_time,
        "root_cause": cause.model_dump(mode="json") if cause else None,
        "evidence": list(status.evidence),
        "warnings": list(status.warnings),
        "selected_workflow": {
            **chosen.model_dump(mode="json"),
            "parameters": redact_values(chosen.parameters),
        }
        if chosen
        else None,
        "alternative_workflows": [
            one.model_dump(mode="json", exclude={"container_image"}) for one in status.alternative_workflows
        ],
        "target_in_owner_chain": status.target_in_owner_chain,
    }
