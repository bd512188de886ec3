"""The audit events of one investigation. Every fact's id is derived from the run, so a fact told twice is stored once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from kubernaut_ray.clock import Clock
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.investigation import IncidentRequest, IncidentResponse, ValidationAttemptAnswer
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.redact import redact
from serve_apps.holmesgpt.models.model import Completion
from serve_apps.holmesgpt.toolbox import ToolCall

ACTOR = "holmesgpt-api"
PREVIEW = 500


@dataclass(frozen=True, slots=True)
class Trail:
    """``run`` tells apart the runs of one incident (the session and its attempt); ``model`` is who investigates."""

    sink: AuditSink
    request: IncidentRequest
    run: str
    model: str
    clock: Clock

    async def started(self) -> None:
        await self._tell("aiagent.investigation.started", (), {"is_recovery": self.request.is_recovery})

    async def asked(self, attempt: int, text: str) -> None:
        await self._tell(
            "aiagent.llm.request",
            (str(attempt),),
            {
                "attempt": attempt,
                "prompt_length": len(text),
                "prompt_sha256": hashlib.sha256(text.encode()).hexdigest(),
                "prompt_preview": redact(text[:PREVIEW]),
            },
        )

    async def answered(self, attempt: int, completion: Completion, seconds: float) -> None:
        await self._tell(
            "aiagent.llm.response",
            (str(attempt),),
            {
                "attempt": attempt,
                "response_length": len(completion.text),
                "response_preview": redact(completion.text[:PREVIEW]),
                "requests": completion.requests,
                "input_tokens": completion.input_tokens,
                "output_tokens": completion.output_tokens,
            },
            seconds=seconds,
        )

    async def tool_called(self, call: ToolCall) -> None:
        await self._tell(
            "aiagent.llm.tool_call",
            (str(call.number),),
            {
                "number": call.number,
                "tool": call.name,
                "arguments": redact(str(call.arguments))[:PREVIEW],
                "repeated": call.repeated,
                "result_bytes": call.result_bytes,
            },
            ok=call.ok,
            seconds=call.seconds,
        )

    async def validated(self, attempt: ValidationAttemptAnswer) -> None:
        await self._tell(
            "aiagent.workflow.validation_attempt",
            (str(attempt.attempt),),
            {
                "attempt": attempt.attempt,
                "workflow_id": attempt.workflow_id,
                "is_valid": attempt.is_valid,
                "errors": [redact(e) for e in attempt.errors],
            },
            ok=attempt.is_valid,
        )

    async def completed(self, response: IncidentResponse) -> None:
        chosen = response.selected_workflow
        await self._tell(
            "aiagent.investigation.completed",
            (),
            {
                "selected_workflow": chosen.workflow_id if chosen else None,
                "workflow_name": chosen.workflow_name if chosen else None,
                "container_digest": chosen.container_digest if chosen else None,
                "summary": redact(response.root_cause_analysis.summary)[:2000],
                "confidence": response.confidence,
                "resolved": response.resolved,
                "needs_human_review": response.needs_human_review,
                "human_review_reason": response.human_review_reason,
                "signal_type": response.root_cause_analysis.signal_type,
                "tool_calls": response.tool_calls,
            },
            seconds=response.duration_seconds,
        )

    async def failed(self, message: str) -> None:
        await self._tell("aiagent.investigation.failed", (), {"error": redact(message)[:2000]}, ok=False)

    async def _tell(
        self,
        event_type: str,
        key: tuple[str, ...],
        data: dict[str, Any],
        *,
        ok: bool = True,
        seconds: float | None = None,
    ) -> None:
        event = AuditEvent.fact(
            event_type,
            correlation_id=self.request.remediation_id,
            category=AuditCategory.ANALYSIS,
            now=self.clock(),
            outcome=AuditOutcome.SUCCESS if ok else AuditOutcome.FAILURE,
            actor=ACTOR,
            key=(self.request.incident_id, self.run, *key),
            resource_type="AIAnalysis",
            resource_id=self.request.incident_id,
            namespace=self.request.target.namespace,
            severity=self.request.severity[:20],
            event_data={"model": self.model, "incident_id": self.request.incident_id, "run": self.run, **data},
            duration_ms=None if seconds is None else round(seconds * 1000),
        )
        await self.sink.record(event)
