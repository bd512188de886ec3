"""A random life of a SignalProcessing: the cluster comes and goes while it is looked at, and it dies anywhere.

It goes one way, ends by its deadline whatever happens, and each step is told once.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from actors.signal_processing.classify import Classifier
from actors.signal_processing.controller import SignalProcessingController
from actors.signal_processing.enrich import Enricher
from actors.signal_processing.observe import Reader
from kubernaut_ray.clock import parse_rfc3339
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.errors import AlreadyExists, NotFound
from kubernaut_ray.settings import Settings
from tests import build
from tests.machines import Machine, Trouble, examples, places, troubles
from tests.policies import Policies

SETTINGS = Settings()
DEADLINE = build.later(minutes=5)
_MADE = build.signal_processing(build.remediation_request(), None)
PROCESSING = _MADE.replace(spec=_MADE.spec.replace(deadline=DEADLINE))


class Life(Machine):
    resource, name = resources.SIGNAL_PROCESSING, PROCESSING.name

    def build(self) -> SignalProcessingController:
        controller = SignalProcessingController(
            Deps(self.client, SETTINGS, Endpoints(), lambda: "token", lambda *_: None)
        )
        policies: Any = Policies()
        settings = SETTINGS.signal_processing
        controller._policies = policies
        controller._reader = Reader(
            self.client, Enricher(self.client), Classifier(policies, settings), settings, lambda: self.now
        )
        return controller

    @initialize()
    def begin(self) -> None:
        self.run(self.kube.create(self.resource, PROCESSING.to_object()))

    @rule(times=st.integers(1, 3), trouble=troubles, at=places)
    def reconcile(self, times: int, trouble: Trouble, at: int) -> None:
        self.turns(times, trouble, at)

    @rule(at=st.integers(1, 4))
    def the_api_server_is_away_for_a_look(self, at: int) -> None:
        self.turn("refused", at)

    @rule(minutes=st.sampled_from([0.02, 0.1, 0.5, 1, 6]))
    def time_passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(there=st.booleans())
    def the_target_comes_and_goes(self, there: bool) -> None:
        body = {
            "metadata": {"name": "web", "labels": {"team": "shop"}},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
        }
        with contextlib.suppress(AlreadyExists, NotFound):
            if there:
                self.run(self.kube.create(resources.DEPLOYMENT, body, "shop"))
            else:
                self.run(self.kube.delete(resources.DEPLOYMENT, "web", "shop"))

    @invariant()
    def it_stays_ended(self) -> None:
        self.an_end_is_an_end()

    def at_rest(self) -> None:
        """Each transition is told once, and a good end knows everything that the next one needs."""
        obj = self.found()
        assert obj is not None
        status, moves = (
            obj["status"],
            [f for f in self.trail.facts.values() if f.event_type.endswith("phase.transition")],
        )
        assert any(f.event_data["to_phase"] == status["phase"] for f in moves)
        if status["phase"] == "Completed":
            assert {"severity", "environmentClassification", "priorityAssignment", "kubernetesContext"} <= status.keys()
            assert parse_rfc3339(status["completionTime"]) < DEADLINE
        else:
            assert status["error"]


TestLife = Life.TestCase
TestLife.settings = examples(15)
