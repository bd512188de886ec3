"""From a hypothesis to the workflow that mends it: search the catalog, judge each candidate, fill in its parameters.

A candidate's confidence is a product of probabilities, each with a reason: is the cause right, does this kind of action mend
it, is the workflow that kind of action, is it made for this signal, has it worked. The search's relevance only breaks ties.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from kubernaut_ray.contracts.catalog import ANY, SearchHit, Workflow
from kubernaut_ray.contracts.catalog_tools import SEARCH
from kubernaut_ray.contracts.investigation import IncidentRequest
from kubernaut_ray.contracts.signal_words import canonical, keywords
from serve_apps.holmesgpt.guidance import HOPELESS
from serve_apps.holmesgpt.models.hypotheses import Hypothesis, Remedy
from serve_apps.holmesgpt.models.model import Case
from serve_apps.holmesgpt.models.roles import TURNS, fill
from serve_apps.holmesgpt.parameters import prepare, repeats
from serve_apps.holmesgpt.target import accepted_kinds, choose_target

CEILING = 0.97
_TOP_K = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """A workflow that could be executed, with its confidence and why; ``refused`` says why it cannot be."""

    workflow: Workflow
    confidence: float
    rationale: str
    parameters: dict[str, str]
    refused: str = ""


async def candidates(case: Case, hypothesis: Hypothesis, excluded: Collection[str]) -> tuple[Candidate, ...]:
    """Return what the catalog offers for a hypothesis, the best first; those that cannot be executed come last.

    Searches with the hypothesis's signal type first and, when nothing usable is labelled with it, without.
    """
    found: tuple[Candidate, ...] = ()
    for signal_type in (hypothesis.signal_type, ""):
        found = await _search(case, hypothesis, signal_type, excluded)
        if any(not c.refused for c in found):
            break
    return found


async def _search(
    case: Case, hypothesis: Hypothesis, signal_type: str, excluded: Collection[str]
) -> tuple[Candidate, ...]:
    request, about = case.request, hypothesis.about or case.request.target
    words = " ".join(r.what for r in hypothesis.remedies)
    severity = f"{hypothesis.severity} recovery" if request.is_recovery else hypothesis.severity
    arguments = {
        "query": f"{hypothesis.signal_type} {severity} {words}".strip()[:1000],
        "rca_resource": {
            "signal_type": signal_type,
            "kind": about.kind,
            "name": about.name,
            "namespace": about.namespace,
        },
        "top_k": _TOP_K,
    }
    result = await case.toolbox.call(SEARCH, arguments)
    hits = [case.catalog.found[b["workflow_id"]] for b in result.value or ()]
    judged = [c for h in hits if h.workflow.workflow_id not in excluded and (c := _judge(request, hypothesis, h))]
    order = {h.workflow.workflow_id: h.rank for h in hits}
    return tuple(sorted(judged, key=lambda c: (bool(c.refused), -c.confidence, order[c.workflow.workflow_id])))


def strength(workflow: Workflow, remedy: Remedy) -> float:
    """How surely a workflow is this kind of action: 1.0 by its name, less by its description, 0.0 when it is not."""
    named = keywords(f"{workflow.action_type} {workflow.workflow_name} {workflow.title}")
    if _has(named, remedy):
        return 1.0
    said = named | keywords(workflow.description.what)
    return 0.9 if _has(said, remedy) else 0.0


def _has(words: Collection[str], remedy: Remedy) -> bool:
    return all(any(w.startswith(stem) for w in words for stem in group) for group in remedy.needs)


def _judge(request: IncidentRequest, hypothesis: Hypothesis, hit: SearchHit) -> Candidate | None:
    workflow = hit.workflow
    fitting = [(r.weight * strength(workflow, r), r) for r in hypothesis.remedies if strength(workflow, r)]
    if not fitting:
        return None
    fit, remedy = max(fitting, key=lambda pair: pair[0])
    signal = _signal_factor(workflow, hypothesis.signal_type)
    proven, record = _record_factor(workflow)
    caution, cautions = _caution_factor(request, workflow, remedy)
    here, history = _history_factor(request, workflow)
    confidence = min(
        hypothesis.weight * fit * signal * proven * caution * here * 0.95 ** len(request.previous_executions), CEILING
    )
    rationale = (
        f"To {remedy.what}. The cause is supported to {hypothesis.weight:.2f}, the action to "
        f"{fit:.2f}, label match to {signal:.2f}{record}{history}{cautions}."
    )
    hopeless = next(
        (
            p.failure.reason
            for p in request.previous_executions
            if p.selected_workflow.workflow_id == workflow.workflow_id and p.failure.reason in HOPELESS
        ),
        "",
    )
    if hopeless:
        return Candidate(
            workflow, confidence, rationale, {}, f"it failed with {hopeless}, which other parameters do not mend"
        )
    return _with_parameters(request, hypothesis, Candidate(workflow, round(confidence, 2), rationale, {}))


def _with_parameters(request: IncidentRequest, hypothesis: Hypothesis, candidate: Candidate) -> Candidate:
    workflow, refused = candidate.workflow, "every choice of parameters was tried before"
    target = choose_target(workflow, (request.target, hypothesis.about, request.signal_resource))
    if target is None:
        kinds = ", ".join(sorted(accepted_kinds(workflow)))
        return Candidate(workflow, candidate.confidence, candidate.rationale, {}, f"it acts on {kinds} only")
    for turn in range(TURNS):
        given = fill(workflow, hypothesis.hints, target, turn)
        prepared = prepare(workflow, given, target)
        if prepared.errors:
            refused = "; ".join(prepared.errors) if turn == 0 else refused
            break
        if repeats(request, workflow, prepared.values) is None:
            told = ", ".join(f"{k}={v}" for k, v in given.items())
            rationale = f"{candidate.rationale} Parameters from the evidence: {told or 'none needed'}."
            return Candidate(workflow, candidate.confidence, rationale, given)
    return Candidate(workflow, candidate.confidence, candidate.rationale, {}, refused)


def _signal_factor(workflow: Workflow, signal_type: str) -> float:
    labelled = workflow.labels.signal_type
    values = (labelled,) if isinstance(labelled, str) else labelled
    if ANY in values:
        return 0.97
    return 1.0 if signal_type in {canonical(v) for v in values} else 0.85


def _record_factor(workflow: Workflow) -> tuple[float, str]:
    if workflow.total_executions < 5:
        return 1.0, ""
    rate = workflow.successful_executions / workflow.total_executions
    told = f"; it worked in {workflow.successful_executions} of {workflow.total_executions} executions"
    return (0.8 if rate < 0.5 else 0.95 if rate < 0.8 else 1.0), told


def _history_factor(request: IncidentRequest, workflow: Workflow) -> tuple[float, str]:
    """What did not help this very target before is less likely to help it now; two such times are enough for a person."""
    same = [one for one in request.remediation_history if one.workflow_id == workflow.workflow_id]
    vain = sum(one.effective is False for one in same)
    if not vain:
        helped = sum(one.effective is True for one in same)
        return 1.0, f"; it helped this target {helped} times before" if helped else ""
    return 0.85 ** min(vain, 3), f"; it did not help this target {vain} of {len(same)} times before"


def _caution_factor(request: IncidentRequest, workflow: Workflow, remedy: Remedy) -> tuple[float, str]:
    """A direct change is undone where GitOps or an autoscaler holds the field."""
    detected = request.enrichment.detected_labels
    if detected is None:
        return 1.0, ""
    unknown = set(detected.failed_detections)
    if (
        detected.git_ops_managed
        and "gitOpsManaged" not in unknown
        and not workflow.labels.detected.get("gitOpsManaged")
    ):
        return 0.82, "; GitOps may undo a direct change"
    if (
        detected.hpa_enabled
        and "hpaEnabled" not in unknown
        and "scale" in remedy.what
        and "autoscaler" not in remedy.what
    ):
        return 0.8, "; an autoscaler controls the replicas"
    return 1.0, ""
