"""Verifying: from an execution that succeeded to what its effect is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from actors.remediation import history
from actors.remediation.observe import Observed
from kubernaut_ray import conditions, names
from kubernaut_ray.control.decision import Audit
from kubernaut_ray.crds.effectiveness_assessment import Component, Components
from kubernaut_ray.crds.enums import AssessmentPhase, AssessmentReason, AuditOutcome, Outcome
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Run
from kubernaut_ray.crds.shared import DetectedLabels, KubernetesContext
from kubernaut_ray.settings import EffectivenessSettings, Settings
from tests import build
from tests.actors.remediation.test_decide import at, created, status_of, step, told

SETTINGS = Settings(effectiveness=EffectivenessSettings(enabled=True))


def executed(phase: Phase = Phase.EXECUTING, **fields: Any) -> Observed:
    """A request whose execution completed."""
    seen = at(phase, **fields)
    seen = replace(seen, processing=build.signal_processing(seen.request), analysis=build.ai_analysis(seen.request))
    return replace(seen, execution=build.workflow_execution(seen.request, Run.COMPLETED))


def verifying(**assessment: Any) -> Observed:
    """A request that has been verifying since ``NOW``; with status fields, an assessment that ended with them."""
    seen = executed(Phase.VERIFYING, verifying_start_time=build.NOW)
    if not assessment:
        return seen
    status = {"phase": AssessmentPhase.COMPLETED, **assessment}
    return replace(seen, assessment=build.effectiveness_assessment(seen.request, **status))


def test_without_verification_success_is_success() -> None:
    """Off in a cluster until somebody turns it on."""
    assert status_of(step(executed())).overall_phase is Phase.COMPLETED


def test_success_is_verified_first() -> None:
    """The assessment is made with all that it needs, and nobody is told of a success yet."""
    seen = executed()
    before = {names.ANNOTATION_SPEC_HASH: "sha256:before"}
    run = seen.execution
    assert run is not None
    seen = replace(seen, execution=run.replace(metadata=run.metadata.replace(annotations=before)))
    decision = step(seen, settings=SETTINGS)
    status = status_of(decision)
    assert (status.overall_phase, status.verifying_start_time, status.outcome) == (Phase.VERIFYING, build.NOW, None)
    assert list(created(decision)) == ["ea-rr-1"]
    spec = created(decision)["ea-rr-1"]["spec"]
    assert (spec["target"], spec["environment"], spec["preRemediationSpecHash"]) == (
        "shop/deployment/web", "production", "sha256:before",
    )  # fmt: skip
    assert spec["workflow"]["workflowId"] == "wf-memory"
    assert spec["workflowExecutionRef"]["uid"] == "uid-we-rr-1"
    assert spec["config"]["gitOpsSyncDelay"] == "0s"
    assert spec["deadline"] == "2026-03-01T12:29:30.000000Z"
    assert told(decision) == ["orchestrator.phase.transitioned"]


def test_a_gitops_target_is_given_time_to_sync() -> None:
    """What signal processing detected decides."""
    seen = executed()
    labels = DetectedLabels(git_ops_managed=True, git_ops_tool="argocd")
    managed = build.signal_processing(seen.request, kubernetes_context=KubernetesContext(detected_labels=labels))
    decision = step(replace(seen, processing=managed), settings=SETTINGS)
    assert created(decision)["ea-rr-1"]["spec"]["config"]["gitOpsSyncDelay"] == "180s"


def test_the_spec_before_goes_with_the_execution() -> None:
    """Kept from the moment in which it may run."""
    seen = at(Phase.ANALYZING)
    routing = seen.routing
    assert routing is not None
    decision = step(replace(seen, routing=replace(routing, spec_hash="sha256:before")), settings=SETTINGS)
    child = created(decision)["we-rr-1"]
    assert child["metadata"]["annotations"] == {names.ANNOTATION_SPEC_HASH: "sha256:before"}


def test_the_assessment_is_waited_for() -> None:
    """And made again where somebody deleted it, with the same windows."""
    seen = verifying()
    again = step(seen, build.later(60), SETTINGS)
    assert (again.reason, list(created(again))) == ("AssessmentRecreated", ["ea-rr-1"])
    assert created(again)["ea-rr-1"]["spec"]["deadline"] == "2026-03-01T12:29:30.000000Z"
    waiting = step(replace(seen, assessment=build.effectiveness_assessment(seen.request)), build.later(60), SETTINGS)
    assert (waiting.reason, waiting.wake_at) == ("WaitingForAssessment", build.later(1800))


def test_it_helped() -> None:
    """Remediated, with the score, and people read what was found."""
    decision = step(
        verifying(
            reason=AssessmentReason.FULL, effective=True, score=1.0, message="It helped (score 1.00). health: 2 of 2"
        ),
        settings=SETTINGS,
    )
    status = status_of(decision)
    assert (status.overall_phase, status.outcome, status.effectiveness_score) == (
        Phase.COMPLETED,
        Outcome.REMEDIATED,
        1.0,
    )
    assert conditions.is_true(status.conditions, "EffectivenessAssessed")
    spec = created(decision)["nr-completion-rr-1"]["spec"]
    assert spec["subject"].startswith("Fixed: ")
    assert "## Verified\nIt helped (score 1.00)" in spec["body"]


@pytest.mark.parametrize(
    "reason", [AssessmentReason.FULL, AssessmentReason.SPEC_DRIFT, AssessmentReason.ALERT_DECAY_TIMEOUT]
)
def test_it_did_not_help(reason: AssessmentReason) -> None:
    """Never a success: inconclusive, and a person is told part by part what was found."""
    parts = Components(
        health=Component(score=0.0, details="0 of 2 replicas are ready"), alert=Component(details="silent")
    )
    decision = step(
        verifying(reason=reason, effective=False, score=0.0, message="It did not help", components=parts),
        settings=SETTINGS,
    )
    status = status_of(decision)
    assert (status.overall_phase, status.outcome, status.requires_manual_review) == (
        Phase.COMPLETED, Outcome.INCONCLUSIVE, True,
    )  # fmt: skip
    assert status.effectiveness_score == 0.0
    assert list(created(decision)) == ["nr-manual-review-rr-1"]
    body = created(decision)["nr-manual-review-rr-1"]["spec"]["body"]
    assert "- Target: 0.00 (0 of 2 replicas are ready)" in body
    assert "- Signal: not judged (silent)" in body
    assert "increase-memory 1.0.0" in body
    assert "orchestrator.remediation.manual_review" in told(decision)
    ended = next(e.event for e in decision.effects if isinstance(e, Audit) and "lifecycle" in e.event.event_type)
    assert ended.event_outcome is AuditOutcome.FAILURE


@pytest.mark.parametrize(
    ("assessment", "seconds"),
    [
        pytest.param({"reason": AssessmentReason.EXPIRED, "message": "its time was up"}, 60, id="nothing was judged"),
        pytest.param({"phase": AssessmentPhase.FAILED, "reason": AssessmentReason.UNRECOVERABLE}, 60, id="it broke"),
        pytest.param({"phase": AssessmentPhase.STABILIZING}, 1800, id="its controller is away"),
        pytest.param({}, 1800, id="it is not there"),
    ],
)
def test_nothing_is_known_of_the_effect(assessment: dict[str, Any], seconds: float) -> None:
    """The workflow's word stands, and everybody is told that it is only that."""
    decision = step(verifying(**assessment), build.later(seconds), SETTINGS)
    status = status_of(decision)
    assert (status.outcome, status.effectiveness_score, decision.reason) == (
        Outcome.REMEDIATED, None, "RemediatedUnverified",
    )  # fmt: skip
    assert "Not verified" in status.message
    found = conditions.find(status.conditions, "EffectivenessAssessed")
    assert found is not None
    assert found.status == "Unknown"
    assert created(decision)["nr-completion-rr-1"]["spec"]["subject"].startswith("Done, not verified: ")


def test_an_execution_that_is_gone_is_nobody_s_success() -> None:
    """Deleted while its effect was being judged."""
    status = status_of(step(replace(verifying(), execution=None), settings=SETTINGS))
    assert (status.outcome, status.requires_manual_review) == (Outcome.INCONCLUSIVE, True)


def test_what_was_done_to_the_target_before_is_told() -> None:
    """Other remediations only, the newest first, each with what it came to; at most ten."""
    me = build.remediation_request("rr-me")
    helped, vain = build.remediation_request("rr-1"), build.remediation_request("rr-2")
    runs = [
        build.workflow_execution(helped, Run.COMPLETED, ended=build.later(60)),
        build.workflow_execution(vain, Run.FAILED, ended=build.later(120)),
        build.workflow_execution(build.remediation_request("rr-3"), Run.RUNNING),
        build.workflow_execution(me, Run.COMPLETED, ended=build.later(180)),
    ]
    judged = build.effectiveness_assessment(
        helped, AssessmentPhase.COMPLETED, effective=True, score=0.9, message="It helped"
    )
    told_of = history.of(me, runs, (judged,))
    assert [(one.remediation, one.succeeded, one.effective, one.score) for one in told_of] == [
        ("rr-2", False, None, None),
        ("rr-1", True, True, 0.9),
    ]
    assert (told_of[0].summary, told_of[1].summary) == ("step apply exited with 1", "It helped")
    many = [build.workflow_execution(build.remediation_request(f"rr-{n}"), Run.COMPLETED) for n in range(20)]
    assert len(history.of(me, many, ())) == history.LONGEST


def test_an_analysis_is_told_of_them() -> None:
    """With the other facts, when it begins."""
    seen = at(Phase.PROCESSING)
    before = history.of(build.remediation_request("rr-me"), [build.workflow_execution(seen.request, Run.COMPLETED)], ())
    decision = step(replace(seen, processing=build.signal_processing(seen.request), history=before))
    (past,) = created(decision)["ai-rr-1"]["spec"]["remediationHistory"]
    assert (past["workflowName"], past["succeeded"]) == ("increase-memory", True)
