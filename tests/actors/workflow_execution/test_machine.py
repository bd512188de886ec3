"""A random life of a WorkflowExecution: whatever the runner, other executions and people do, and wherever it dies.

One PipelineRun at most, none after the deadline, none left behind, nobody else's touched, and the end counted once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from actors.workflow_execution.controller import WorkflowExecutionController
from actors.workflow_execution.marks import Ownership
from actors.workflow_execution.pipelinerun import is_over
from kubernaut_ray import clock, names
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.contracts.statistics import ExecutionRecord
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.settings import ExecutionSettings, Settings
from tests import build
from tests.machines import HOME, Machine, Trouble, examples, places, troubles

SETTINGS = Settings(execution=ExecutionSettings(engines=("tekton",)))
RUNS = SETTINGS.execution.namespace
DEADLINE = build.later(minutes=20)
_MADE = build.workflow_execution(build.remediation_request(), None)
EXECUTION = _MADE.replace(spec=_MADE.spec.replace(deadline=DEADLINE))
REGISTERED = build.registered(EXECUTION)
OTHER = build.workflow_execution(build.remediation_request("rr-2"), None)
RUN = names.pipeline_run(EXECUTION.spec.target_resource)


class Life(Machine):
    resource, name = resources.WORKFLOW_EXECUTION, EXECUTION.name

    def __init__(self) -> None:
        super().__init__()
        self.counted: dict[str, ExecutionRecord] = {}
        self.away = False
        self.foreign = ""
        """The UID of somebody else's run while it is there."""

    def build(self) -> WorkflowExecutionController:
        return WorkflowExecutionController(
            Deps(self.client, SETTINGS, Endpoints(), lambda: "token", lambda *_: None), self
        )

    async def workflow(self, workflow_id: str) -> Workflow | None:
        return REGISTERED if workflow_id == REGISTERED.workflow_id else None

    async def record(self, execution: ExecutionRecord) -> None:
        assert self.counted.setdefault(execution.execution_id, execution) == execution

    async def close(self) -> None:
        """Nothing is open."""

    @initialize(taken=st.sampled_from(["", "", "", "running", "over"]))
    def begin(self, taken: str) -> None:
        """The target may be somebody else's."""
        self.run(self.kube.create(self.resource, EXECUTION.to_object()))
        if taken:
            run = self.run(self.kube.create(resources.PIPELINE_RUN, build.pipeline_run(OTHER)))
            self.foreign = run["metadata"]["uid"]
            if taken == "over":
                self.moves(run, "True", "Succeeded")

    @rule(times=st.integers(1, 3), trouble=troubles, at=places)
    def reconcile(self, times: int, trouble: Trouble, at: int) -> None:
        self.turns(times, trouble, at)

    @rule(minutes=st.sampled_from([0.1, 0.1, 0.2, 1, 1, 6, 25]))
    def time_passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(
        what=st.sampled_from(["start", "start", "start", "succeed", "fail", "refuse", "vanish"]),
        trouble=troubles,
        at=places,
    )
    def the_runner_works(self, what: str, trouble: Trouble, at: int) -> None:
        run = self.found(resources.PIPELINE_RUN, RUN, RUNS)
        if run is None or is_over(run) or run["spec"].get("status") == "PipelineRunPending":
            return
        cancelled = run["spec"].get("status") == "Cancelled"
        match what:
            case _ if cancelled:
                self.moves(run, "False", "Cancelled")
            case "start":
                self.moves(run, "Unknown", "Running")
            case "succeed":
                self.moves(run, "True", "Succeeded")
            case "fail":
                self.moves(run, "False", "Failed")
            case "refuse":
                self.moves(run, "False", "CouldntGetPipeline")
            case _:
                self.run(self.kube.delete(resources.PIPELINE_RUN, RUN, RUNS))
        self.turn(trouble, at)

    @rule()
    def somebody_deletes_it(self) -> None:
        if self.now > build.later(minutes=2) and (obj := self.found()) and not obj["metadata"].get("deletionTimestamp"):
            self.run(self.kube.delete(self.resource, self.name, HOME))

    @rule()
    def a_person_writes_too(self) -> None:
        """Another writer of the status: the version moves under the controller."""
        obj = self.found()
        if obj is not None and obj.get("status", {}).get("phase") == "Failed":
            cleared = {
                "clearedAt": clock.rfc3339(self.now),
                "clearedBy": "ann",
                "clearReason": "ok",
                "clearMethod": "StatusField",
            }
            self.write(self.resource, self.name, {"blockClearance": cleared})

    def moves(self, run: Object, status: str, reason: str) -> None:
        at = clock.rfc3339(self.now)
        body: dict[str, Any] = {
            "conditions": [{"type": "Succeeded", "status": status, "reason": reason, "message": reason}]
        }
        if reason != "CouldntGetPipeline":
            body["startTime"] = (run.get("status") or {}).get("startTime", at)
        if status != "Unknown":
            body["completionTime"] = at
        self.write(resources.PIPELINE_RUN, RUN, body, RUNS)

    def calm(self) -> None:
        """Whatever runs comes to its end."""
        run = self.found(resources.PIPELINE_RUN, RUN, RUNS)
        if run is not None and not is_over(run) and self.now > DEADLINE:
            self.moves(run, "False", "Failed")

    def runs(self) -> list[Object]:
        listed = self.run(self.kube.list(resources.PIPELINE_RUN, RUNS))
        return [run for run in listed.items if Ownership.of(run).execution == self.name]

    @invariant()
    def one_run_at_most(self) -> None:
        made = self.kube.made.get(("PipelineRun", RUN), 0) - bool(self.foreign)
        assert made <= 1
        assert all(clock.parse_rfc3339(run["metadata"]["creationTimestamp"]) <= DEADLINE for run in self.runs())

    @invariant()
    def nobody_elses_run_is_ended(self) -> None:
        run = self.found(resources.PIPELINE_RUN, RUN, RUNS)
        if run is not None and run["metadata"]["uid"] == self.foreign:
            assert run["spec"].get("status") != "Cancelled"

    @invariant()
    def it_stays_ended(self) -> None:
        self.an_end_is_an_end()

    def at_rest(self) -> None:
        """The end is counted if something ran, and told once."""
        obj = self.found()
        if obj is None:
            assert not self.runs()
            return
        failure = obj["status"].get("failureDetails")
        assert len(self.counted) == (failure is None or failure["wasExecutionFailure"])
        assert self.trail.told("workflow.completed") + self.trail.told("workflow.failed") == 1
        assert obj["status"]["lockReleased"]
        assert not self.runs()


TestLife = Life.TestCase
TestLife.settings = examples(12)
