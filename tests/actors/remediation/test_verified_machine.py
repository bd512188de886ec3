"""The random life of a remediation once more, with its effect judged: no success that was judged to be none."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from kubernaut_ray import crds
from kubernaut_ray.crds.enums import AssessmentPhase, AssessmentReason
from kubernaut_ray.settings import EffectivenessSettings, Settings
from tests import build
from tests.actors.remediation.test_machine import REQUEST, Life
from tests.machines import Trouble, places, troubles


class VerifiedLife(Life):
    SETTINGS = Settings(effectiveness=EffectivenessSettings(enabled=True))

    @rule(effective=st.sampled_from([True, True, False, None]), ended=st.booleans(), trouble=troubles, at=places)
    def the_effect_is_judged(self, effective: bool | None, ended: bool, trouble: Trouble, at: int) -> None:
        """Its controller goes on with it, or comes to a verdict, or to none."""
        judged = build.effectiveness_assessment(
            REQUEST,
            AssessmentPhase.COMPLETED if ended else AssessmentPhase.STABILIZING,
            reason=AssessmentReason.PARTIAL if ended else None,
            effective=effective if ended else None,
            score=None if effective is None or not ended else float(effective),
        )
        self.write(crds.EffectivenessAssessment, judged.name, judged.status.to_object())
        self.reconcile(trouble, at)

    @invariant()
    def what_did_not_help_is_no_success(self) -> None:
        request = self.find(crds.RemediationRequest, "rr-1") or {}
        judged = self.find(crds.EffectivenessAssessment, "ea-rr-1") or {}
        status = request.get("status", {})
        if judged.get("status", {}).get("effective") is False and "effectivenessScore" in status:
            assert status["outcome"] == "Inconclusive"
            assert status["requiresManualReview"]


TestVerifiedLife = VerifiedLife.TestCase
TestVerifiedLife.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
