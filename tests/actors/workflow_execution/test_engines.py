"""What every engine must do, and what only a Job does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest

from actors.workflow_execution import engines, marks
from actors.workflow_execution.decide import decide
from actors.workflow_execution.engines.seam import State
from actors.workflow_execution.observe import Observed
from kubernaut_ray import clock, names
from kubernaut_ray.contracts.catalog import Workflow, WorkflowParameter
from kubernaut_ray.contracts.grants import pinned
from kubernaut_ray.control.decision import Create, Delete, Patch
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from kubernaut_ray.crds.enums import ParameterType
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube import patch as merge
from kubernaut_ray.settings import ExecutionSettings, Settings
from tests import build
from tests.build import NOW, later

SETTINGS = Settings()
JOB = engines.ALL["job"]


def execution(engine: str, phase: Phase = Phase.PENDING, **spec: Any) -> WorkflowExecution:
    made = build.workflow_execution(
        build.remediation_request(),
        phase,
        start_time=NOW if phase is Phase.RUNNING else None,
        pipeline_run_uid="run-uid",
    )
    ref = made.spec.workflow_ref.replace(engine=engine)
    return made.replace(spec=made.spec.replace(workflow_ref=ref, **spec))


def built(made: WorkflowExecution, workflow: Workflow | None = None, *, held: bool = False) -> dict[str, Any]:
    """The run of an execution, let go unless it is to be ``held``."""
    engine = engines.chosen(made, engines.ALL)
    assert engine is not None
    run = engine.build(made, workflow or build.registered(made), ExecutionSettings(), NOW)
    run["metadata"] |= {"uid": "run-uid", "resourceVersion": "7"}
    if held:
        return run
    going: dict[str, Any] = merge.apply(dict(engine.let_go(run).patch), run)
    return going


def ended(made: WorkflowExecution, *, ok: bool, at: float = 10) -> dict[str, Any]:
    """The run of an execution, over."""
    run = built(made)
    began, over = clock.rfc3339(NOW), clock.rfc3339(later(at))
    if run["kind"] == "PipelineRun":
        condition = {
            "type": "Succeeded",
            "status": "True" if ok else "False",
            "reason": "Succeeded" if ok else "Failed",
        }
        run["status"] = {"startTime": began, "completionTime": over, "conditions": [condition]}
    else:
        condition = {"type": "Complete" if ok else "Failed", "status": "True", "lastTransitionTime": over}
        condition["reason"] = "CompletionsReached" if ok else "BackoffLimitExceeded"
        run["status"] = {"startTime": began, "conditions": [condition], **({"completionTime": over} if ok else {})}
    return run


def pod(**state: Any) -> dict[str, Any]:
    told = [{"name": "workflow", "state": state}]
    return {
        "metadata": {"name": "p", "creationTimestamp": clock.rfc3339(NOW)},
        "status": {"containerStatuses": told},
    }


def died(code: int = 1, **more: Any) -> dict[str, Any]:
    return pod(terminated={"exitCode": code, "reason": "Error", "startedAt": clock.rfc3339(NOW), **more})


@pytest.mark.parametrize("name", list(engines.ALL))
class TestEveryEngine:
    def test_its_run_has_the_targets_name_and_says_whose_it_is(self, name: str) -> None:
        """The name is the lock, name and UID of the execution are the ownership."""
        made = execution(name)
        run = built(made)
        assert names.pipeline_run(made.spec.target_resource) == run["metadata"]["name"]
        assert marks.is_mine(made, run)
        assert engines.of(run) is engines.chosen(made, [name])

    def test_its_run_is_judged(self, name: str) -> None:
        """Not over while it runs, then one or the other, with the instants of its start and its end."""
        made, engine = execution(name), engines.ALL[name]
        run = built(made)
        assert (engine.state(run, (), NOW), engine.is_over(run)) == (State.RUNNING, False)
        for ok, state in ((True, State.SUCCEEDED), (False, State.FAILED)):
            run = ended(made, ok=ok)
            assert (state, True) == (engine.state(run, (), NOW), engine.is_over(run))
            assert (engine.started(run), engine.ended(run)) == (NOW, later(10))

    def test_an_execution_walks_through_it(self, name: str) -> None:
        """Requested, adopted, completed; and the release deletes exactly this run."""
        made = build.with_status(execution(name), admitted_at=NOW)
        (create,) = decide(Observed(made, workflow=build.registered(made)), NOW, SETTINGS).effects
        assert isinstance(create, Create)
        kind = engines.ALL[name].resource
        assert create.resource == kind
        adopted = decide(Observed(made, built(made, held=True), mine=True), NOW, SETTINGS)
        assert adopted.reason == f"{kind.kind}Adopted"
        assert adopted.status is not None
        running = made.replace(status=adopted.status)
        let_go = decide(Observed(running, built(made, held=True), mine=True), NOW, SETTINGS)
        (go,) = let_go.effects
        assert isinstance(go, Patch)
        assert (go.resource, go.resource_version, let_go.status) == (kind, "7", None)
        assert decide(Observed(running, built(made), mine=True), NOW, SETTINGS).effects == ()
        final = decide(Observed(running, ended(made, ok=True), mine=True), later(11), SETTINGS)
        assert final.status is not None
        assert (final.status.phase, final.status.duration) == (Phase.COMPLETED, "10s")
        over = made.replace(status=final.status)
        released = decide(Observed(over, ended(made, ok=True), mine=True), later(400), SETTINGS)
        (delete,) = released.effects
        assert isinstance(delete, Delete)
        assert (delete.resource, delete.uid) == (kind, "run-uid")

    def test_a_run_is_created_held_and_let_go_once(self, name: str) -> None:
        """Held it is neither over nor has it started; let go it is held no more, however it ends or is stopped."""
        made, engine = execution(name), engines.ALL[name]
        run = built(made, held=True)
        assert (engine.held(run), engine.is_over(run), engine.started(run)) == (True, False, None)
        going = built(made)
        stopped = merge.apply(dict(engine.stop(going).patch), going)
        assert [engine.held(r) for r in (going, stopped, ended(made, ok=True))] == [False] * 3

    def test_a_run_that_came_too_late_is_never_let_go(self, name: str) -> None:
        """Whatever became of the execution, only the run that its status names may start; the other is deleted."""
        made, late = execution(name), built(execution(name), held=True)
        late["metadata"]["uid"] = "late-uid"
        for phase in (Phase.COMPLETED, Phase.FAILED):
            over = build.with_status(made, phase=phase, completion_time=NOW, lock_released=True)
            decision = decide(Observed(over, late, mine=True), NOW, SETTINGS)
            (delete,) = decision.effects
            assert isinstance(delete, Delete)
            assert (decision.reason, delete.uid) == ("LateRunRemoved", "late-uid")
        running = build.with_status(made, phase=Phase.RUNNING, start_time=NOW)
        assert decide(Observed(running, late, mine=True), NOW, SETTINGS).effects[0] != engines.ALL[name].let_go(late)

    def test_a_held_run_has_the_target_only_while_it_is_waited_for(self, name: str) -> None:
        """One that nobody will let go does not keep others from the target."""
        theirs = execution(name, remediation_request_ref=build.remediation_request("rr-2").reference)
        made, run = execution(name), built(theirs, held=True)
        for holder, reason in (
            (theirs, "Unknown"),
            (None, "LockReleasable"),
            (build.with_status(theirs, phase=Phase.FAILED), "LockReleasable"),
        ):
            assert decide(Observed(made, run, holder=holder), NOW, SETTINGS).reason == reason

    def test_the_other_engines_run_has_the_target_too(self, name: str) -> None:
        """At work it makes this one fail before anything; over and cooled down it is deleted, by its own kind."""
        other = next(n for n in engines.ALL if n != name)
        theirs, made = (
            execution(other, remediation_request_ref=build.remediation_request("rr-2").reference),
            execution(name),
        )
        busy = decide(Observed(made, built(theirs)), NOW, SETTINGS)
        assert busy.status is not None
        assert busy.status.failure_details is not None
        assert not busy.status.failure_details.was_execution_failure
        cold = decide(Observed(made, ended(theirs, ok=True, at=-400)), NOW, SETTINGS)
        (delete,) = cold.effects
        assert isinstance(delete, Delete)
        assert engines.ALL[other].resource == delete.resource

    def test_a_run_that_nobody_ends_is_stopped(self, name: str) -> None:
        """On the very version that was seen."""
        made = execution(name, Phase.RUNNING)
        decision = decide(Observed(made, built(made), mine=True), later(minutes=32), SETTINGS)
        (stop, *_) = decision.effects
        assert isinstance(stop, Patch)
        assert (stop.resource, stop.resource_version) == (engines.ALL[name].resource, "7")
        assert decision.status is not None
        assert decision.status.phase is Phase.FAILED


@pytest.mark.parametrize("enabled", [("tekton",), ("job",)])
def test_an_engine_that_is_not_here_is_an_error(enabled: tuple[str, ...]) -> None:
    """Never another engine in its place, known as it may be elsewhere."""
    (other,) = set(engines.ALL) - set(enabled)
    settings = Settings.load(execution={"engines": enabled})
    made = execution(other)
    decision = decide(Observed(made, workflow=build.registered(made)), NOW, settings)
    assert decision.status is not None
    details = decision.status.failure_details
    assert details is not None
    assert (details.reason, details.was_execution_failure) == (Reason.CONFIGURATION_ERROR, False)
    assert f"'{other}'" in details.message
    assert enabled[0] in details.message
    assert not any(isinstance(e, Create) for e in decision.effects)


def job_workflow(made: WorkflowExecution, config: dict[str, Any], **fields: Any) -> Workflow:
    content = orjson.dumps({"execution": {"engine": "job", "engine_config": config}}).decode()
    return build.registered(made, content=content, **fields)


def test_a_job_is_tried_once_and_for_as_long_as_it_may() -> None:
    """One pod that is never replaced, an end by the deadline, no privileges, the runner's account."""
    made = execution("job", deadline=later(90.7))
    job = built(made)
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 90)
    assert job["spec"]["podReplacementPolicy"] == "Failed"
    spec = job["spec"]["template"]["spec"]
    assert (spec["restartPolicy"], spec["serviceAccountName"]) == ("Never", "kubernaut-workflow-runner")
    (container,) = spec["containers"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert pinned(made.spec.workflow_ref) == container["image"], "the bundle is the image unless the schema names one"


def test_parameters_are_environment_variables() -> None:
    """With the schema's defaults, the target, and nothing in a value that the kubelet would expand."""
    made = execution("job", parameters={"LIMIT": "$(TARGET_RESOURCE) $HOME"})
    declared = (
        WorkflowParameter(name="LIMIT", type=ParameterType.STRING),
        WorkflowParameter(name="COUNT", type=ParameterType.INTEGER, default="2"),
    )
    config = {
        "image": "example.com/fix:1",
        "command": ["fix"],
        "args": ["$(LIMIT)"],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    (container,) = built(made, job_workflow(made, config, parameters=declared))["spec"]["template"]["spec"][
        "containers"
    ]
    assert {e["name"]: e["value"] for e in container["env"]} == {
        "LIMIT": "$$(TARGET_RESOURCE) $$HOME", "COUNT": "2", "TARGET_RESOURCE": "shop/deployment/web",
        "EXECUTION_ID": made.uid, "RESULT_SUMMARY": "/dev/termination-log",
    }  # fmt: skip
    assert (container["image"], container["command"], container["args"]) == ("example.com/fix:1", ["fix"], ["$(LIMIT)"])
    assert container["resources"] == {"limits": {"memory": "64Mi"}}


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "PYTHONPATH", "KUBECONFIG", "EXECUTION_ID"])
def test_a_parameter_cannot_decide_how_the_program_runs(name: str) -> None:
    """Refused before anything is created, whatever the schema said."""
    made = execution("job", parameters={name: "x"})
    (problem,) = JOB.problems(made, build.registered(made))
    assert name in problem


@pytest.mark.parametrize(
    ("condition", "parts", "reason", "code", "executed"),
    [
        pytest.param("BackoffLimitExceeded", [died(1)], Reason.TASK_FAILED, 1, True, id="it failed"),
        pytest.param("BackoffLimitExceeded", [died(137, reason="OOMKilled")], Reason.OOM_KILLED, 137, True, id="out of memory"),
        pytest.param("BackoffLimitExceeded", [died(127)], Reason.CONFIGURATION_ERROR, 127, False, id="no such program"),
        pytest.param("BackoffLimitExceeded", [died(128, reason="StartError")], Reason.CONFIGURATION_ERROR, 128, False, id="cannot start"),
        pytest.param("BackoffLimitExceeded", [died(1, message="HTTP 403: forbidden")], Reason.FORBIDDEN, 1, True, id="refused"),
        pytest.param("DeadlineExceeded", [], Reason.DEADLINE_EXCEEDED, None, True, id="its time was up"),
        pytest.param("BackoffLimitExceeded", [], Reason.UNKNOWN, None, True, id="the pod is gone: nobody knows"),
        pytest.param("", [pod(waiting={"reason": "ImagePullBackOff"})], Reason.IMAGE_PULL_BACK_OFF, None, False, id="no image"),
        pytest.param("", [pod(waiting={"reason": "CreateContainerConfigError"})], Reason.CONFIGURATION_ERROR, None, False, id="no container"),
    ],
)  # fmt: skip
def test_how_a_job_failed(
    condition: str, parts: list[dict[str, Any]], reason: Reason, code: int | None, executed: bool
) -> None:
    """Facts of the pod first, the Job's own words where there is no pod to ask."""
    made = execution("job", Phase.RUNNING)
    run = ended(made, ok=False)
    run["status"]["conditions"] = [c | {"reason": condition} for c in run["status"]["conditions"]] if condition else []
    details = JOB.failure(made, run, parts, later(130))
    assert (reason, code, executed) == (details.reason, details.exit_code, details.was_execution_failure)


def test_an_image_that_cannot_be_had_is_not_waited_for_to_the_end() -> None:
    """After two minutes the Job is stopped and the execution fails, with nothing executed."""
    made = execution("job", Phase.RUNNING)
    seen = Observed(
        made, built(made), mine=True, parts=(pod(waiting={"reason": "ImagePullBackOff", "message": "no such image"}),)
    )
    assert decide(seen, later(119), SETTINGS).reason == "JobRunning"
    decision = decide(seen, later(121), SETTINGS)
    stop = decision.effects[0]
    assert isinstance(stop, Patch)
    assert stop.patch == {"spec": {"suspend": True}}
    assert decision.status is not None
    details = decision.status.failure_details
    assert details is not None
    assert (details.reason, details.was_execution_failure) == (Reason.IMAGE_PULL_BACK_OFF, False)
    assert "no such image" in details.message


def test_a_stopped_job_is_over_once_its_pods_are_gone() -> None:
    """Until then it may still act, and the target is not free."""
    job = built(execution("job"))
    job = merge.apply(dict(JOB.stop(job).patch), job)
    assert [JOB.is_over({**job, "status": {"active": n}}) for n in (1, 0)] == [False, True]


@pytest.mark.parametrize(
    ("message", "results"),
    [
        pytest.param('{"summary": "did it", "pods": ["a"]}', {"summary": "did it", "pods": '["a"]'}, id="JSON"),
        pytest.param("did it\n", {"summary": "did it"}, id="one text"),
        pytest.param("[1]", {"summary": "[1]"}, id="JSON, but no object"),
        pytest.param("", {}, id="nothing"),
    ],
)
def test_the_termination_message_is_the_result(message: str, results: dict[str, str]) -> None:
    """As the program wrote it to the file that RESULT_SUMMARY names."""
    made = execution("job", Phase.RUNNING)
    assert results == JOB.results(ended(made, ok=True), [died(0, message=message)])


def test_secrets_in_a_termination_message_do_not_travel() -> None:
    """Neither as result nor as the story of a failure."""
    made = execution("job", Phase.RUNNING)
    said = "password=hunter2hunter2"
    assert "hunter2" not in str(JOB.results(ended(made, ok=True), [died(0, message=said)]))
    details = JOB.failure(made, ended(made, ok=False), [died(1, message=said)], NOW + timedelta(seconds=1))
    assert "hunter2" not in details.to_object().__repr__()
