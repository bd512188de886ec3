"""The built-in investigator: deterministic rules over what the cluster shows, no language model. Works offline and free.

It gathers evidence with the same tools as a language model, judges it by rules, searches the catalog with its own signal
type, and answers in the same form, so that one path reads, validates and records both. It says what it is, it is only as
confident as its evidence, and it would rather hand over to a person than guess.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from kubernaut_ray.clock import Clock
from kubernaut_ray.contracts.investigation import IncidentRequest, RecoveryAnalysis
from kubernaut_ray.contracts.signal_words import canonical
from serve_apps.holmesgpt.guidance import failure_guidance
from serve_apps.holmesgpt.models import rules_cluster, rules_pods
from serve_apps.holmesgpt.models.findings import Findings, gather
from serve_apps.holmesgpt.models.hypotheses import Hypothesis
from serve_apps.holmesgpt.models.model import Case, Completion, Feedback
from serve_apps.holmesgpt.models.remedies import Candidate, candidates

WHO = "This analysis was made by the built-in evidence model: fixed rules over what the cluster shows. No language model took part."
_ENOUGH = 0.5
"""Below this weight the best hypothesis is no more than a guess."""
_WORTH = 0.56
"""Hypotheses below this weight do not speak against a healthy target."""
_NAMED = 5
"""Workloads that a factor names."""
_LONGEST = 500
_SECOND = 0.7
"""Other hypotheses from this weight on may offer the workflow when the best one has none."""


class EvidenceModel:
    """Needs no key, no network and no GPU."""

    name = "evidence"
    is_llm = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def converse(self, case: Case) -> EvidenceConversation:
        return EvidenceConversation(case, self._clock)

    async def close(self) -> None:
        """Nothing is open."""


class EvidenceConversation:
    """One investigation. Feedback excludes the refused workflow; the evidence is gathered once."""

    def __init__(self, case: Case, clock: Clock) -> None:
        self._case, self._clock = case, clock
        self._findings: Findings | None = None
        self._excluded: set[str] = set()
        self._refused: list[str] = []

    async def say(self, feedback: Feedback | None) -> Completion:
        if feedback is not None:
            self._excluded.add(feedback.workflow_id)
            self._refused.extend(feedback.problems)
        if self._findings is None:
            self._findings = await gather(self._case, self._clock())
        return Completion(await self._answer(self._findings))

    async def _answer(self, findings: Findings) -> str:
        ranked = hypotheses(findings)
        best = ranked[0]
        over = rules_cluster.health(findings)
        if over and best.weight < _WORTH:
            return _render(
                f"{findings.where} is healthy now; what the alert told of is over.", best, confidence=0.85, outcome="resolved",
                evidence=over, recovery=self._recovery(best),
            )  # fmt: skip
        if best.weight < _ENOUGH:
            found = await candidates(self._case, best, self._excluded)
            return _render(
                best.summary, best, confidence=best.weight, outcome="inconclusive", alternatives=found[:3],
                others=_others(ranked, best), recovery=self._recovery(best), conclusion="The evidence is too thin to act on.",
            )  # fmt: skip
        for hypothesis in (best, *(h for h in ranked[1:] if h.weight >= _SECOND)):
            found = await candidates(self._case, hypothesis, self._excluded)
            usable = [c for c in found if not c.refused]
            if usable:
                return self._selected(hypothesis, ranked, usable, [c for c in found if c.refused])
            self._refused.extend(f"{c.workflow.workflow_name}: {c.refused}" for c in found)
        return _render(
            best.summary, best, confidence=best.weight, outcome="actionable", others=_others(ranked, best),
            warnings=tuple(dict.fromkeys(self._refused)), recovery=self._recovery(best),
            conclusion="The catalog holds no workflow that mends this.",
        )  # fmt: skip

    def _selected(
        self, hypothesis: Hypothesis, ranked: list[Hypothesis], usable: list[Candidate], refused: list[Candidate]
    ) -> str:
        chosen = usable[0]
        return _render(
            hypothesis.summary,
            hypothesis,
            confidence=chosen.confidence,
            outcome="actionable",
            chosen=chosen,
            alternatives=(*usable[1:4], *refused[:3]),
            others=_others(ranked, hypothesis),
            recovery=self._recovery(hypothesis),
            conclusion=f"{chosen.workflow.title or chosen.workflow.workflow_name} is proposed, with confidence {chosen.confidence:.2f}.",
        )

    def _recovery(self, best: Hypothesis) -> RecoveryAnalysis | None:
        attempts = self._case.request.previous_executions
        if not attempts:
            return None
        last = attempts[-1]
        before = canonical(last.original_rca.signal_type)
        return RecoveryAnalysis(
            failure_understood=last.failure.reason not in {"", "Unknown", "Error", "TaskFailed"},
            failure_reason_analysis=f"{last.failure.reason}: {failure_guidance(last.failure.reason)}",
            state_changed=bool(before) and before != best.signal_type,
            current_signal_type=best.signal_type,
        )


def hypotheses(findings: Findings) -> list[Hypothesis]:
    """Return what the rules make of the findings, the best supported first; never empty. Each tells how far it reaches."""
    reach = _reach(findings.request)
    said = [
        replace(h, factors=(*reach, *h.factors))
        for rule in (*rules_pods.RULES, *rules_cluster.RULES)
        if (h := rule(findings)) is not None
    ]
    alerted = {canonical(findings.request.signal_type), canonical(findings.request.signal_name)}
    return sorted(said, key=lambda h: -(h.weight + (0.02 if h.signal_type in alerted else 0.0)))


def _reach(request: IncidentRequest) -> tuple[str, ...]:
    """Say what the incident took with it: one cause is looked for, not one for each of them."""
    told = []
    if request.affected is not None:
        took = request.affected
        hit = ", ".join(f"{workload.target} ({workload.resources})" for workload in took.workloads[:_NAMED])
        more = f" and {took.workload_count - _NAMED} more" if took.workload_count > _NAMED else ""
        told.append(f"One cause, {took} folded into this incident: {hit}{more}")
    if request.is_storm:
        on = f" on {len(request.affected_resources)} resources" if request.affected_resources else ""
        told.append(
            f"A {request.storm_type} storm: {request.storm_signal_count} signals within {request.storm_window}{on}"
        )
    return tuple(text[:_LONGEST] for text in told)


def _others(ranked: list[Hypothesis], chosen: Hypothesis) -> tuple[str, ...]:
    return tuple(f"also seen: {h.summary}" for h in ranked if h is not chosen and h.weight >= _WORTH)[:4]


def _render(
    summary: str,
    hypothesis: Hypothesis,
    *,
    confidence: float,
    outcome: str,
    chosen: Candidate | None = None,
    alternatives: tuple[Candidate, ...] = (),
    evidence: tuple[str, ...] | None = None,
    others: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
    recovery: RecoveryAnalysis | None = None,
    conclusion: str = "",
) -> str:
    """Write the answer as every model does: prose, then one fenced JSON object."""
    evidence = hypothesis.evidence if evidence is None else evidence
    factors = (*hypothesis.factors, *others)
    answer: dict[str, Any] = {
        "root_cause_analysis": {
            "summary": summary,
            "severity": hypothesis.severity,
            "signal_type": hypothesis.signal_type,
            "contributing_factors": list(factors),
            **({"affected_resource": hypothesis.about.to_object()} if hypothesis.about else {}),
        },
        "evidence": list(evidence),
        "confidence": confidence,
        "investigation_outcome": outcome,
        "selected_workflow": None,
        "alternative_workflows": [_alternative(a) for a in alternatives],
        "warnings": list(warnings),
    }
    if chosen is not None:
        answer["selected_workflow"] = {
            "workflow_id": chosen.workflow.workflow_id,
            "version": chosen.workflow.version,
            "confidence": chosen.confidence,
            "rationale": chosen.rationale,
            "parameters": chosen.parameters,
        }
    if recovery is not None:
        answer["recovery_analysis"] = recovery.to_json()
    lines = [WHO, "", summary, *(f"- {e}" for e in evidence), *(f"- {f}" for f in factors)]
    if conclusion:
        lines += ["", conclusion]
    return "\n".join(lines) + f"\n\n```json\n{json.dumps(answer, indent=2, ensure_ascii=False)}\n```\n"


def _alternative(candidate: Candidate) -> dict[str, Any]:
    refused = f" Not usable: {candidate.refused}." if candidate.refused else ""
    return {
        "workflow_id": candidate.workflow.workflow_id,
        "workflow_name": candidate.workflow.workflow_name,
        "container_image": candidate.workflow.pinned_image,
        "confidence": candidate.confidence,
        "rationale": candidate.rationale + refused,
    }
