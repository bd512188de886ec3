"""The investigation loop: ask the model, read its answer, check it, and ask again with every error until it holds.

Called by sessions (and the synchronous routes). An answer ends in exactly one of: one workflow, validated and resolved to
its pinned image; nothing to do; or a person's hands with the reason. It never executes anything, and it never lets the
model name the target. A model that does not end is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from kubernaut_ray import names
from kubernaut_ray.clock import Clock
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.catalog_tools import SEARCH
from kubernaut_ray.contracts.investigation import (
    AlternativeAnswer,
    IncidentRequest,
    IncidentResponse,
    RecoveryAnalysis,
    RootCause,
    SelectedWorkflowAnswer,
    ValidationAttemptAnswer,
)
from kubernaut_ray.control.controller import AuditSink
from kubernaut_ray.crds.enums import HumanReviewReason, WorkflowStatus
from kubernaut_ray.errors import KubernautError, Retryable
from kubernaut_ray.redact import redact
from kubernaut_ray.settings import AnalysisSettings, LlmSettings
from serve_apps.holmesgpt.cluster import Cluster
from serve_apps.holmesgpt.metrics import Metrics
from serve_apps.holmesgpt.models.model import Case, Completion, Conversation, Feedback, InvestigationModel, NoAnswer
from serve_apps.holmesgpt.parameters import prepare, repeats, schema_text
from serve_apps.holmesgpt.parse import Answer, InvestigationOutcome, Selection, Unparseable, parse_answer
from serve_apps.holmesgpt.prompt import build_prompt, correction
from serve_apps.holmesgpt.reach import Reach
from serve_apps.holmesgpt.target import accepted_kinds, belongs, resolve_target
from serve_apps.holmesgpt.toolbox import Toolbox, ToolCall
from serve_apps.holmesgpt.toolsets import Catalog, CatalogTools, cluster_tools
from serve_apps.holmesgpt.trail import Trail

log = structlog.get_logger(__name__)
T = TypeVar("T")
Reason = HumanReviewReason


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check of one answer found. Without ``errors`` the workflow may be executed with ``parameters``."""

    workflow: Workflow | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    reason: Reason | None = None
    """What a person is told when no better answer comes."""
    warnings: tuple[str, ...] = ()
    belongs: bool = True
    """Whether the resource that the answer blames belongs to the target."""


@dataclass(frozen=True, slots=True)
class Investigator:
    """Everything that investigations share."""

    model: InvestigationModel
    catalog: Catalog
    cluster: Cluster
    audit: AuditSink
    clock: Clock
    llm: LlmSettings
    analysis: AnalysisSettings
    metrics: Metrics
    namespace: str = names.SYSTEM_NAMESPACE
    """Where the RemediationRequests lie."""

    async def investigate(self, request: IncidentRequest, run: str = "0") -> IncidentResponse:
        """Investigate one incident. ``run`` tells runs of the same incident apart in the audit trail.

        Raises ``Retryable`` when the model, the catalog or the time limit did not allow an answer, ``Permanent`` when
        trying again cannot help (a wrong key, an unknown model).
        """
        trail = Trail(self.audit, request, run, self.model.name, self.clock)
        await trail.started()
        try:
            async with asyncio.timeout(self.llm.investigation_timeout or None):
                response = await self._investigate(request, trail)
        except TimeoutError as error:
            message = f"the investigation did not end within {self.llm.investigation_timeout:g} s and was cut off"
            self.metrics.failed()
            await trail.failed(message)
            raise Retryable(message) from error
        except KubernautError as error:
            self.metrics.failed()
            await trail.failed(str(error))
            raise
        self.metrics.concluded(response)
        await trail.completed(response)
        return response

    async def _investigate(self, request: IncidentRequest, trail: Trail) -> IncidentResponse:
        started = asyncio.get_running_loop().time()
        reach = Reach(self.cluster, self.namespace, request)
        request = await reach.latest()
        catalog = CatalogTools(self.catalog, request)

        async def observe(call: ToolCall) -> None:
            self.metrics.tool_called(ok=call.ok, repeated=call.repeated)
            await trail.tool_called(call)

        toolbox = Toolbox(
            (*cluster_tools(self.cluster), reach.tool(), *catalog.tools()),
            max_calls=self.llm.max_tool_calls,
            max_bytes=self.llm.tool_output_bytes,
            observer=observe,
        )
        case = Case(request, build_prompt(request), toolbox, catalog)
        conversation = self.model.converse(case)
        history: list[ValidationAttemptAnswer] = []
        answer, verdict, feedback = None, Verdict(), None
        for attempt in range(1, self.llm.max_validation_attempts + 1):
            try:
                completion = await self._ask(conversation, feedback, case, trail, attempt)
                answer = parse_answer(completion.text)
                verdict = await self._check(answer, case)
                if answer.blamed is not None:
                    verdict = replace(verdict, belongs=await belongs(request, answer.blamed, self.cluster))
            except Unparseable as error:
                verdict = Verdict(errors=tuple(what for _, what in error.problems), reason=Reason.LLM_PARSING_ERROR)
            except NoAnswer as error:
                verdict = Verdict(errors=(str(error),), reason=Reason.INVESTIGATION_INCONCLUSIVE)
            selected = answer.selection.workflow_id if answer and answer.selection else ""
            record = ValidationAttemptAnswer(
                attempt=attempt,
                workflow_id=verdict.workflow.workflow_id if verdict.workflow else selected,
                is_valid=not verdict.errors,
                errors=tuple(redact(e)[:1000] for e in verdict.errors[:50]),
                timestamp=self.clock(),
            )
            history.append(record)
            await trail.validated(record)
            log.info("answer_checked", attempt=attempt, valid=record.is_valid, errors=record.errors[:5])
            if not verdict.errors or verdict.reason is Reason.INVESTIGATION_INCONCLUSIVE:
                break
            schema = schema_text(verdict.workflow) if verdict.workflow else ""
            feedback = Feedback(correction(verdict.errors, schema), verdict.errors, selected)
        return self._respond(case, answer, verdict, history, seconds=asyncio.get_running_loop().time() - started)

    async def _ask(
        self, conversation: Conversation, feedback: Feedback | None, case: Case, trail: Trail, attempt: int
    ) -> Completion:
        """Ask once; what a language model is asked and answers is put on record."""
        if not self.model.is_llm:
            return await conversation.say(feedback)
        await trail.asked(attempt, feedback.text if feedback else case.prompt.incident)
        started = asyncio.get_running_loop().time()
        try:
            completion = await conversation.say(feedback)
        except KubernautError:
            self.metrics.refused(self.model.name)
            raise
        seconds = asyncio.get_running_loop().time() - started
        self.metrics.answered(self.model.name, completion, seconds)
        await trail.answered(attempt, completion, seconds)
        return completion

    async def _check(self, answer: Answer, case: Case) -> Verdict:
        """Check one parsed answer; every error at once."""
        if answer.outcome is not InvestigationOutcome.NONE:
            return Verdict()
        if answer.selection is None:
            if case.toolbox.used(SEARCH):
                return Verdict()
            return Verdict(
                errors=(
                    f"no workflow is selected, and {SEARCH} was never called; search before you say that none fits",
                ),
                reason=Reason.NO_MATCHING_WORKFLOWS,
            )
        chosen = answer.selection
        workflow, warnings = await self._resolve(chosen, case)
        if workflow is None:
            known = ", ".join(f"{i} ({h.workflow.workflow_name})" for i, h in case.catalog.found.items())
            return Verdict(
                errors=(
                    f"workflow_id {chosen.workflow_id!r} is not in the catalog; the searches returned: {known or 'none'}",
                ),
                reason=Reason.WORKFLOW_NOT_FOUND,
            )
        if workflow.status is not WorkflowStatus.ACTIVE:
            return Verdict(
                workflow,
                errors=(f"workflow {workflow.workflow_name} is {workflow.status}; choose an active one",),
                reason=Reason.WORKFLOW_NOT_FOUND,
            )
        target = await _patiently(lambda: resolve_target(workflow, case.request, answer.blamed, self.cluster))
        prepared = prepare(workflow, chosen.parameters, target or case.request.target)
        errors, reason = list(prepared.errors), Reason.PARAMETER_VALIDATION_FAILED
        if target is None:
            kinds = ", ".join(sorted(accepted_kinds(workflow)))
            errors.insert(
                0,
                f"{workflow.workflow_name} acts on {kinds}, and the incident is about {case.request.target.kind}; "
                "name the affected_resource of that kind, if it belongs to the target, or choose another workflow",
            )
        if (number := repeats(case.request, workflow, prepared.values)) is not None:
            errors.append(
                f"this is the workflow and the parameters of failed attempt {number}; choose another or change them"
            )
            reason = reason if prepared.errors else Reason.NO_MATCHING_WORKFLOWS
        if chosen.container_image and chosen.container_image not in (workflow.container_image, workflow.pinned_image):
            errors.insert(0, f"container_image {chosen.container_image!r} is not this workflow's; leave it out")
            reason = Reason.IMAGE_MISMATCH
        if workflow.workflow_id not in case.catalog.found:
            warnings = (*warnings, f"{workflow.workflow_name} was not among the search results")
        return Verdict(
            workflow, prepared.values, tuple(errors), reason if errors else None, (*warnings, *prepared.warnings)
        )

    async def _resolve(self, chosen: Selection, case: Case) -> tuple[Workflow | None, tuple[str, ...]]:
        """Find the workflow by its id, or by a name that exactly one search result has."""
        workflow = await _patiently(lambda: self.catalog.workflow(chosen.workflow_id))
        if workflow is not None:
            return workflow, ()
        named = [h.workflow for h in case.catalog.found.values() if h.workflow.workflow_name == chosen.workflow_id]
        if len(named) != 1:
            return None, ()
        return named[0], (f"the answer named the workflow {chosen.workflow_id} by its name; its id was looked up",)

    def _respond(
        self,
        case: Case,
        answer: Answer | None,
        verdict: Verdict,
        history: list[ValidationAttemptAnswer],
        *,
        seconds: float,
    ) -> IncidentResponse:
        request = case.request
        base = IncidentResponse(
            incident_id=request.incident_id,
            analysis="The investigation ended without an answer that could be read.",
            root_cause_analysis=RootCause(summary="No root cause was determined."),
            confidence=0.0,
            timestamp=self.clock(),
            validation_attempts_history=tuple(history),
            model=self.model.name,
            tool_calls=len(case.toolbox.calls),
            duration_seconds=round(seconds, 3),
            recovery_analysis=RecoveryAnalysis() if request.is_recovery else None,
        )
        warnings = verdict.warnings
        if answer is not None:
            base = base.model_copy(update={**_told(answer, case), "target_in_owner_chain": verdict.belongs})
            warnings = (*base.warnings, *warnings)
            if answer.blamed is not None and not verdict.belongs:
                blamed = f"{answer.blamed.kind} {answer.blamed.name}"
                warnings = (*warnings, f"the answer blames {blamed}, which is not known to belong to the target")
        base = base.model_copy(update={"warnings": tuple(redact(w)[:1000] for w in warnings[:20])})
        if verdict.errors:
            return _hand_over(base, verdict.reason or Reason.INVESTIGATION_INCONCLUSIVE, verdict.errors[0])
        if answer is None:
            return _hand_over(base, Reason.INVESTIGATION_INCONCLUSIVE, "no answer")
        return self._conclude(base, answer, verdict)

    def _conclude(self, base: IncidentResponse, answer: Answer, verdict: Verdict) -> IncidentResponse:
        threshold = self.analysis.review_threshold
        if answer.outcome is InvestigationOutcome.RESOLVED:
            if base.confidence >= threshold:
                return base.model_copy(
                    update={"resolved": True, "warnings": (*base.warnings, "the problem is gone; nothing to do")}
                )
            return _hand_over(
                base, Reason.INVESTIGATION_INCONCLUSIVE, f"resolved, but only with confidence {base.confidence:.2f}"
            )
        if answer.outcome is InvestigationOutcome.INCONCLUSIVE:
            return _hand_over(base, Reason.INVESTIGATION_INCONCLUSIVE, "the evidence allows no conclusion")
        if answer.selection is None or verdict.workflow is None:
            return _hand_over(base, Reason.NO_MATCHING_WORKFLOWS, "no workflow of the catalog fits the root cause")
        workflow, confidence = verdict.workflow, answer.selection.confidence
        if confidence < threshold:
            kept = AlternativeAnswer(
                workflow_id=workflow.workflow_id,
                workflow_name=workflow.workflow_name,
                container_image=workflow.pinned_image,
                confidence=confidence,
                rationale=f"Selected with too little confidence: {redact(answer.selection.rationale)}",
            )
            base = base.model_copy(update={"alternative_workflows": (kept, *base.alternative_workflows)[:10]})
            return _hand_over(base, Reason.LOW_CONFIDENCE, f"confidence {confidence:.2f} is below {threshold:.2f}")
        return base.model_copy(
            update={
                "selected_workflow": SelectedWorkflowAnswer(
                    workflow_id=workflow.workflow_id,
                    workflow_name=workflow.workflow_name,
                    version=workflow.version,
                    container_image=workflow.container_image,
                    container_digest=workflow.container_digest,
                    engine=workflow.execution_engine,
                    confidence=confidence,
                    parameters=verdict.parameters,
                    rationale=redact(answer.selection.rationale),
                )
            }
        )


def _told(answer: Answer, case: Case) -> dict[str, object]:
    """Return what an answer says, redacted, as fields of the response."""
    rca = answer.root_cause
    evidence = answer.evidence or tuple(f"looked at {c}" for c in case.toolbox.calls if c.ok and not c.repeated)
    confidence = answer.selection.confidence if answer.selection else answer.confidence or 0.0
    return {
        "analysis": redact(answer.analysis),
        "root_cause_analysis": RootCause(
            summary=redact(rca.summary),
            severity=rca.severity,
            signal_type=redact(rca.signal_type),
            contributing_factors=tuple(redact(f) for f in rca.contributing_factors),
        ),
        "confidence": confidence,
        "warnings": answer.warnings,
        "evidence": tuple(redact(e)[:1000] for e in evidence[:20]),
        "alternative_workflows": tuple(
            a.model_copy(update={"rationale": redact(a.rationale)}) for a in answer.alternatives
        ),
        **({"recovery_analysis": answer.recovery} if answer.recovery and case.request.is_recovery else {}),
    }


def _hand_over(base: IncidentResponse, reason: Reason, why: str) -> IncidentResponse:
    return base.model_copy(
        update={
            "needs_human_review": True,
            "human_review_reason": reason,
            "selected_workflow": None,
            "warnings": (*base.warnings, redact(f"handed over to a person: {why}")[:1000]),
        }
    )


async def _patiently(call: Callable[[], Awaitable[T]], *, tries: int = 4, delay: float = 0.25) -> T:
    """Try again a few times, so that a short absence of the catalog does not cost a whole investigation."""
    for turn in range(tries - 1):
        try:
            return await call()
        except Retryable as error:
            await asyncio.sleep(error.after if error.after is not None else delay * 2**turn)
    return await call()
