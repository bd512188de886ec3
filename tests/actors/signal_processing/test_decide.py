"""Decisions of signal processing: one step a phase, delays that survive restarts, and an end in any case."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.signal_processing.classify import Categorization, Classification, Flaw
from actors.signal_processing.decide import decide, retry_delay
from actors.signal_processing.enrich import Enriched, NotEnriched
from actors.signal_processing.observe import Finding, Observed
from actors.signal_processing.phases import TABLE
from kubernaut_ray.conditions import find
from kubernaut_ray.control.decision import Audit, Decision
from kubernaut_ray.crds.enums import (
    ClassificationReason,
    EnrichmentReason,
    Environment,
    EnvironmentSource,
    Priority,
    PrioritySource,
    Severity,
)
from kubernaut_ray.crds.enums import SignalProcessingPhase as Phase
from kubernaut_ray.crds.shared import KubernetesContext
from kubernaut_ray.crds.signal_processing import BusinessClassification, SignalProcessing
from kubernaut_ray.settings import SignalProcessingSettings
from tests import build

SETTINGS = SignalProcessingSettings(max_failures=3)
ENRICHED = Enriched(KubernetesContext(), EnrichmentReason.ENRICHMENT_SUCCEEDED)
NOT_ENRICHED = NotEnriched(EnrichmentReason.API_TIMEOUT, "connection refused")
CLASSIFIED = Classification(
    Environment.STAGING,
    EnvironmentSource.NAMESPACE_LABELS,
    Severity.HIGH,
    Priority.P2,
    PrioritySource.REGO_POLICY,
    "high-staging",
    {"team": ("retail",)},
    "f" * 64,
)
CATEGORIZED = Categorization(BusinessClassification(business_unit="retail"))
FINDINGS: dict[Phase | None, Finding | None] = {
    None: None,
    Phase.PENDING: None,
    Phase.ENRICHING: ENRICHED,
    Phase.CLASSIFYING: CLASSIFIED,
    Phase.CATEGORIZING: CATEGORIZED,
}


def processing(phase: Phase | None = None, *, deadline: datetime | None = None, **status: Any) -> SignalProcessing:
    made = build.signal_processing(build.remediation_request(), phase, **status)
    return made.replace(spec=made.spec.replace(deadline=deadline))


def decided(
    phase: Phase | None, finding: Finding | None = None, *, now: datetime = build.NOW, **rest: Any
) -> Decision[Any]:
    return decide(Observed(processing(phase, **rest), finding), now, SETTINGS)


def facts(decision: Decision[Any]) -> list[str]:
    return [effect.event.event_type for effect in decision.effects if isinstance(effect, Audit)]


def test_a_signal_walks_the_whole_line_in_five_steps() -> None:
    """Each step is legal, audited, and keeps what the former ones found."""
    current, walked, told = processing(), [], []
    while current.status.phase is not Phase.COMPLETED:
        decision = decide(Observed(current, FINDINGS[current.status.phase]), build.NOW, SETTINGS)
        assert decision.status is not None
        TABLE.check(str(current.status.phase or ""), str(decision.status.phase))
        told += facts(decision)
        current = current.replace(status=decision.status)
        walked.append(current.status.phase)
    assert walked == [Phase.PENDING, Phase.ENRICHING, Phase.CLASSIFYING, Phase.CATEGORIZING, Phase.COMPLETED]
    status = current.status
    assert (status.severity, status.policy_hash) == (Severity.HIGH, "f" * 64)
    assert status.kubernetes_context is not None
    assert status.kubernetes_context.custom_labels == {"team": ("retail",)}
    assert status.business_classification is not None
    assert (status.start_time, status.completion_time) == (build.NOW, build.NOW)
    assert [c.type for c in status.conditions if c.status == "True"] == [
        "EnrichmentComplete",
        "ClassificationComplete",
        "CategorizationComplete",
        "ProcessingComplete",
    ]
    assert [name for name in told if not name.endswith("phase.transition")] == [
        "signalprocessing.enrichment.completed",
        "signalprocessing.classification.decision",
        "signalprocessing.business.classified",
        "signalprocessing.signal.processed",
    ]
    assert told.count("signalprocessing.phase.transition") == 5


@pytest.mark.parametrize("phase", [Phase.COMPLETED, Phase.FAILED])
def test_what_is_finished_stays_finished(phase: Phase) -> None:
    """Doing nothing is a named answer."""
    decision = decided(phase)
    assert (decision.status, decision.effects, decision.wake_at) == (None, (), None)
    assert decision.reason == f"Already{phase}"


def test_a_passing_fault_is_tried_again_later_and_later() -> None:
    """The delay is in the status, so neither a restart nor our own write shortens it."""
    first = decided(Phase.ENRICHING, NOT_ENRICHED)
    assert first.status is not None
    assert first.status.phase is Phase.ENRICHING
    assert first.status.consecutive_failures == 1
    assert first.status.next_retry_at == first.wake_at == build.later(1)
    condition = find(first.status.conditions, "EnrichmentComplete")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "K8sAPITimeout")
    second = decided(Phase.ENRICHING, NOT_ENRICHED, consecutive_failures=1, next_retry_at=build.NOW)
    assert second.wake_at == build.later(2)


def test_nothing_happens_before_the_retry_is_due() -> None:
    """Even with a finding at hand: the status alone says when."""
    decision = decided(Phase.ENRICHING, NOT_ENRICHED, next_retry_at=build.later(30), consecutive_failures=2)
    assert (decision.status, decision.effects) == (None, ())
    assert decision.wake_at == build.later(30)


def test_success_forgets_the_failures() -> None:
    """Failures in a row count, not failures."""
    decision = decided(Phase.ENRICHING, ENRICHED, consecutive_failures=2, next_retry_at=build.NOW, error="x")
    assert decision.status is not None
    assert decision.status.phase is Phase.CLASSIFYING
    assert (decision.status.consecutive_failures, decision.status.next_retry_at, decision.status.error) == (0, None, "")


def test_the_last_allowed_failure_ends_it() -> None:
    """Failed, with the fault in words and the conditions to match."""
    decision = decided(Phase.ENRICHING, NOT_ENRICHED, consecutive_failures=2)
    assert decision.status is not None
    assert decision.status.phase is Phase.FAILED
    assert decision.status.error == "enrichment failed 3 times, last: connection refused"
    assert {c.type: (c.status, c.reason) for c in decision.status.conditions} == {
        "EnrichmentComplete": ("False", "K8sAPITimeout"),
        "ProcessingComplete": ("False", "ProcessingFailed"),
    }
    assert facts(decision) == ["signalprocessing.error.occurred", "signalprocessing.phase.transition"]


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.ENRICHING, Phase.CLASSIFYING, Phase.CATEGORIZING])
def test_the_orchestrators_deadline_ends_every_phase(phase: Phase) -> None:
    """Nobody waits for a result any more."""
    decision = decided(phase, FINDINGS[phase], deadline=build.later(-1))
    assert decision.status is not None
    assert decision.status.phase is Phase.FAILED
    assert "when the orchestrator gives up" in decision.status.error


def test_a_retry_never_sleeps_beyond_the_deadline() -> None:
    """The end is found when it comes."""
    decision = decided(Phase.ENRICHING, next_retry_at=build.later(60), deadline=build.later(10))
    assert decision.wake_at == build.later(10)


def test_flaws_of_policies_show_in_the_condition_and_do_not_stop() -> None:
    """An incident goes on with safe words, visibly."""
    flaw = Flaw(ClassificationReason.SEVERITY_FALLBACK, "priority: conflict")
    flawed = replace(CLASSIFIED, flaws=(flaw,))
    decision = decided(Phase.CLASSIFYING, flawed, kubernetes_context=KubernetesContext())
    assert decision.status is not None
    assert decision.status.phase is Phase.CATEGORIZING
    condition = find(decision.status.conditions, "ClassificationComplete")
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == ("True", "SeverityFallback", "priority: conflict")


def test_notes_show_in_the_condition_of_a_classification_that_succeeded() -> None:
    """Refused policies and dropped labels are worth a word, and no fault of this signal."""
    noted = replace(CLASSIFIED, notes=("the present policies are refused",))
    decision = decided(Phase.CLASSIFYING, noted, kubernetes_context=KubernetesContext())
    assert decision.status is not None
    condition = find(decision.status.conditions, "ClassificationComplete")
    assert condition is not None
    assert (condition.reason, condition.message) == ("ClassificationSucceeded", "the present policies are refused")


def test_both_policy_facts_tell_the_hash() -> None:
    """Whoever reads the audit trail knows by which policies it was decided."""
    business = replace(CATEGORIZED, policy_hash="e" * 64)
    told = {
        effect.event.event_type: effect.event.event_data
        for decision in (
            decided(Phase.CLASSIFYING, CLASSIFIED, kubernetes_context=KubernetesContext()),
            decided(Phase.CATEGORIZING, business),
        )
        for effect in decision.effects
        if isinstance(effect, Audit)
    }
    assert told["signalprocessing.classification.decision"]["policy_hash"] == "f" * 64
    assert told["signalprocessing.business.classified"]["policy_hash"] == "e" * 64


def test_one_decision_told_twice_is_the_same_facts() -> None:
    """Event ids do not depend on when or how often."""
    one = decided(Phase.ENRICHING, ENRICHED)
    two = decided(Phase.ENRICHING, ENRICHED, now=build.later(9))
    ids = [[e.event.event_id for e in d.effects if isinstance(e, Audit)] for d in (one, two)]
    assert ids[0] == ids[1]


@given(st.integers(1, 1000))
def test_delays_grow_to_a_minute_and_stay(failures: int) -> None:
    """Monotonic and bounded."""
    assert retry_delay(1) == timedelta(seconds=1)
    assert retry_delay(failures) <= retry_delay(failures + 1) <= timedelta(minutes=1)


@given(
    phase=st.sampled_from([None, *Phase]),
    finding=st.sampled_from([None, ENRICHED, NOT_ENRICHED, CLASSIFIED, CATEGORIZED]),
    failures=st.integers(0, 9),
    retry=st.none() | st.integers(-9, 9),
    deadline=st.none() | st.integers(-9, 9),
)
def test_every_state_has_a_legal_decision(
    phase: Phase | None, finding: Finding | None, failures: int, retry: int | None, deadline: int | None
) -> None:
    """Total, deterministic, within the table; and it never stands still without a time to look again."""
    fits = {
        Phase.ENRICHING: (Enriched, NotEnriched),
        Phase.CLASSIFYING: Classification,
        Phase.CATEGORIZING: Categorization,
    }
    found = finding if phase in fits and isinstance(finding, fits[phase]) else None
    observed = Observed(
        processing(
            phase,
            deadline=None if deadline is None else build.later(deadline),
            consecutive_failures=failures,
            next_retry_at=None if retry is None else build.later(retry),
        ),
        found,
    )
    decision = decide(observed, build.NOW, SETTINGS)
    assert decision == decide(observed, build.NOW, SETTINGS)
    if decision.status is not None:
        TABLE.check(str(phase or ""), str(decision.status.phase))
    elif phase not in (Phase.COMPLETED, Phase.FAILED):
        assert decision.wake_at is not None
