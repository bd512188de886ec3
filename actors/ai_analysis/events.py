"""The audit events of an analysis, as effects. Their ids depend on the object and on what happened, never on when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Audit
from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome

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
