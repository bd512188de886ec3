from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.workflow_execution import phases
from actors.workflow_execution.decide import decide
from actors.workflow_execution.facts import COUNTED
from actors.workflow_execution.observe import Observed
from kubernaut_ray import clock, names
from kubernaut_ray.conditions import is_true, with_condition
from kubernaut_ray.control.decision import Audit, Call, Create, Delete, Patch
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.crds.workflow_execution import BlockClearance
from kubernaut_ray.settings import Settings
from tests import build
from tests.build import NOW, later
from tests.trail import fits

SETTINGS = Settings()


def execution(phase=Phase.PENDING, *, spec=None, metadata=None, **status):
    made = build.workflow_execution(build.remediation_request(), phase, **status)
    made = made.replace(metadata=made.metadata.replace(finalizers=(names.FINALIZER_WORKFLOW_EXECUTION,)))
    if spec:
        made = made.replace(spec=made.spec.replace(**spec))
    return made.replace(metadata=made.metadata.replace(**metadata)) if metadata else made


def running(**fields):
    return execution(Phase.RUNNING, start_time=NOW, pipeline_run_uid="run-uid", **fields)


def free(made, **fields):
    """What is seen where nobody has the target and the catalog answers."""
    return Observed(made, workflow=build.registered(made), **fields)


def foreign(ended=None, remediation="rr-other"):
    """A PipelineRun that another execution made."""
    other = build.workflow_execution(build.remediation_request(), attempt=7)
    run = build.pipeline_run(
        other, "True" if ended is not None else "Unknown", "Succeeded" if ended is not None else "Running"
    )
    run["metadata"]["annotations"][names.LABEL_REMEDIATION] = remediation
    if ended is not None:
        run["status"]["completionTime"] = clock.rfc3339(later(ended))
    return run, other


def test_a_new_execution_is_protected_before_anything_is_created():
    """First the finalizer, then the phase; no PipelineRun yet."""
    made = execution(None, metadata={"finalizers": ()})
    decision = decide(Observed(made), NOW, SETTINGS)
    assert Phase.PENDING is decision.status.phase
    assert decision.effects[0].patch["metadata"]["finalizers"] == [names.FINALIZER_WORKFLOW_EXECUTION]
    assert made.metadata.resource_version == decision.effects[0].resource_version


def test_a_pending_execution_asks_for_its_pipeline_run():
    """Under the target's name, and tolerating that somebody else has it."""
    made = execution(admitted_at=NOW)
    decision = decide(free(made), NOW, SETTINGS)
    (create,) = decision.effects
    assert isinstance(create, Create)
    assert create.tolerate_foreign
    assert names.pipeline_run(made.spec.target_resource) == create.obj["metadata"]["name"]
    assert Phase.PENDING is decision.status.phase


def test_a_dry_run_renders_and_creates_nothing():
    """What would have been created is shown, without secrets; the catalog counts nothing."""
    made = execution(spec={"dry_run": True, "parameters": {"NEW_LIMIT": "256Mi", "DB_PASSWORD": "hunter2"}})
    decision = decide(free(made), NOW, SETTINGS)
    phases.TABLE.check("Pending", str(decision.status.phase))
    assert [e.event.event_type for e in decision.effects] == ["workflow.rehearsed"]
    assert "kind: PipelineRun" in decision.status.rendered
    assert "256Mi" in decision.status.rendered
    assert "hunter2" not in decision.status.rendered
    after = decide(Observed(made.replace(status=decision.status)), NOW, SETTINGS)
    assert (after.status, after.effects) == (None, ())


def test_a_dry_run_says_what_the_api_server_has_against_it():
    """As a failure before anything was executed."""
    made = execution(spec={"dry_run": True})
    decision = decide(free(made, refusal="admission webhook denied it"), NOW, SETTINGS)
    details = decision.status.failure_details
    assert (decision.status.phase, details.was_execution_failure) == (Phase.FAILED, False)
    assert "admission webhook denied it" in details.message


def test_a_cleared_block_is_told_once():
    """Who cleared it, and why, without what should not be read."""
    clearance = BlockClearance(
        cleared_at=NOW, cleared_by="ann", clear_reason="rolled back; password=hunter2", clear_method="StatusField"
    )
    made = execution(Phase.FAILED, completion_time=NOW, lock_released=True, block_clearance=clearance)
    decision = decide(Observed(made), NOW, SETTINGS)
    (told,) = decision.effects
    assert fits(told.event).event_type == "workflowexecution.block.cleared"
    assert told.event.event_data["cleared_by"] == "ann"
    assert "hunter2" not in str(told.event.event_data)
    again = decide(Observed(made.replace(status=decision.status)), NOW, SETTINGS)
    assert again.reason != "BlockCleared"


def test_its_own_pipeline_run_is_adopted():
    """With the audit fact first, and the conditions that say so."""
    made = execution()
    decision = decide(Observed(made, build.pipeline_run(made), mine=True), NOW, SETTINGS)
    assert Phase.RUNNING is decision.status.phase
    assert [e.event.event_type for e in decision.effects] == ["workflow.started"]
    assert decision.status.pipeline_run_uid == "run-uid"
    assert all(
        is_true(decision.status.conditions, c)
        for c in ("TektonPipelineCreated", "TektonPipelineRunning", "AuditRecorded")
    )


@pytest.mark.parametrize(
    ("spec", "reason", "says"),
    [
        pytest.param({"target_resource": "web"}, Reason.CONFIGURATION_ERROR, "targetResource", id="one part"),
        pytest.param({"target_resource": "a/b/c/d"}, Reason.CONFIGURATION_ERROR, "targetResource", id="four parts"),
        pytest.param(
            {"target_resource": "shop//web"}, Reason.CONFIGURATION_ERROR, "targetResource", id="an empty part"
        ),
        pytest.param(
            {"parameters": {"lower": "x"}}, Reason.CONFIGURATION_ERROR, "lower", id="a parameter in lower case"
        ),
        pytest.param({"image": ""}, Reason.CONFIGURATION_ERROR, "containerImage", id="no image"),
        pytest.param({"engine": "lambda"}, Reason.CONFIGURATION_ERROR, "'lambda'", id="an unknown engine"),
        pytest.param({"deadline": later(-1)}, Reason.DEADLINE_EXCEEDED, "deadline", id="too late"),
    ],
)
def test_what_cannot_run_fails_before_it_starts(spec, reason, says):
    """Nothing is created, and the failure says that nothing was executed."""
    made = execution()
    ref = made.spec.workflow_ref
    if "image" in spec:
        spec = {"workflow_ref": ref.replace(container_image=spec["image"])}
    if "engine" in spec:
        spec = {"workflow_ref": ref.replace(engine=spec["engine"])}
    decision = decide(Observed(execution(spec=spec)), NOW, SETTINGS)
    details = decision.status.failure_details
    assert (Phase.FAILED, reason, False) == (decision.status.phase, details.reason, details.was_execution_failure)
    assert says in details.message
    assert [e.event.event_type for e in decision.effects] == ["workflow.failed"]


@pytest.mark.parametrize(
    ("holder", "ended", "remediation", "reason", "deletes"),
    [
        pytest.param(Phase.RUNNING, None, "rr-other", "Unknown", False, id="somebody is at work: it fails"),
        pytest.param(Phase.RUNNING, -1, "rr-other", "HolderSettling", False, id="the holder has not noticed its end"),
        pytest.param(
            Phase.COMPLETED, -1, "rr-other", "TargetCoolingDown", False, id="cooling down for another incident"
        ),
        pytest.param(Phase.COMPLETED, -301, "rr-other", "LockReleasable", True, id="the cooldown is over"),
        pytest.param(None, -301, "rr-other", "LockReleasable", True, id="the holder is gone, the cooldown is over"),
        pytest.param(Phase.FAILED, -1, "mine", "LockReleasable", True, id="the same incident tries again"),
    ],
)
def test_the_target_of_somebody_else(holder, ended, remediation, reason, deletes):
    """Only what is over and due is released, and only exactly that PipelineRun."""
    made = execution()
    mine = made.spec.remediation_request_ref.name
    run, other = foreign(ended, mine if remediation == "mine" else remediation)
    seen = Observed(made, run, holder=None if holder is None else build.with_status(other, phase=holder))
    decision = decide(seen, NOW, SETTINGS)
    assert reason == decision.reason
    assert deletes == any(isinstance(e, Delete) and e.uid == "run-uid" for e in decision.effects)
    if reason == "Unknown":
        assert not decision.status.failure_details.was_execution_failure
    else:
        assert Phase.PENDING is decision.status.phase
        assert decision.wake_at >= NOW


def test_a_running_one_reports_progress_and_polls():
    """The watch is the trigger, the poll a safety net."""
    made = running()
    run = build.pipeline_run(made, pipelineSpec={"tasks": [{}, {}]})
    done = build.task_run(run, condition={"status": "True", "reason": "Succeeded"})
    decision = decide(Observed(made, run, mine=True, parts=(done,)), later(5), SETTINGS)
    progress = decision.status.pipeline_run_status
    assert (progress.completed_tasks, progress.total_tasks, progress.reason) == (1, 2, "Running")
    assert later(15) == decision.wake_at


def test_success_carries_the_results():
    """The summary is the message."""
    made = running()
    run = build.pipeline_run(
        made, "True", "Succeeded", results=[{"name": "summary", "value": "did it"}, {"name": "n", "value": ["a"]}]
    )
    decision = decide(Observed(made, run, mine=True), later(11), SETTINGS)
    assert Phase.COMPLETED is decision.status.phase
    assert decision.status.results == {"summary": "did it", "n": '["a"]'}
    assert (decision.status.message, decision.status.duration) == ("did it", "10s")
    assert decision.effects[0].event.event_type == "workflow.completed"


def test_failure_is_told_in_structure():
    """Task, step, code, sentence."""
    made = running()
    run = build.pipeline_run(made, "False", "Failed")
    decision = decide(Observed(made, run, mine=True, parts=(build.task_run(run),)), later(11), SETTINGS)
    details = decision.status.failure_details
    assert (
        decision.status.phase, details.failed_task_name, details.failed_step_name, details.exit_code, details.reason,
        details.was_execution_failure,
    ) == (Phase.FAILED, "fix", "apply", 1, Reason.TASK_FAILED, True)  # fmt: skip
    assert "step apply with exit code 1 after 10s" in details.natural_language_summary
    assert decision.effects[0].event.event_type == "workflow.failed"


@pytest.mark.parametrize("case", ["gone", "foreign", "another of that name"])
def test_deleting_the_pipeline_run_fails_the_execution(case):
    """Whatever has the name now, it is not what was started."""
    made = running()
    run = build.pipeline_run(made)
    run["metadata"]["uid"] = "another"
    seen = {
        "gone": Observed(made),
        "foreign": Observed(made, foreign()[0]),
        "another of that name": Observed(made, run, mine=True),
    }
    decision = decide(seen[case], later(5), SETTINGS)
    assert Phase.FAILED is decision.status.phase
    assert "deleted externally" in decision.status.failure_details.message
    assert decision.status.failure_details.was_execution_failure


def test_a_pipeline_run_that_vanished_before_it_was_adopted_is_not_made_again():
    """Whoever deleted it did not want it; it was held still, so nothing was executed."""
    made = execution(pipeline_run_ref={"name": "wfe-x"})
    decision = decide(Observed(made), NOW, SETTINGS)
    assert not any(isinstance(e, Create) for e in decision.effects)
    assert not decision.status.failure_details.was_execution_failure
    adopted = execution(Phase.RUNNING, start_time=NOW, pipeline_run_uid="run-uid")
    assert decide(Observed(adopted), NOW, SETTINGS).status.failure_details.was_execution_failure


def test_a_run_that_nobody_ends_is_given_up():
    """No runner at work is no reason to wait for ever; the PipelineRun is cancelled."""
    made = running()
    run = build.pipeline_run(made)
    seen = Observed(made, run, mine=True)
    assert Phase.RUNNING is decide(seen, later(minutes=30), SETTINGS).status.phase
    decision = decide(seen, later(minutes=31), SETTINGS)
    assert Reason.DEADLINE_EXCEEDED is decision.status.failure_details.reason
    assert decision.effects[0].patch == {"spec": {"status": "Cancelled"}}


@pytest.mark.parametrize(
    ("after", "mine", "reason", "deletes"),
    [
        pytest.param(299, True, "CoolingDown", False, id="within the cooldown"),
        pytest.param(300, True, "LockReleased", True, id="after it"),
        pytest.param(300, False, "LockReleased", False, id="what is not its own is left alone"),
    ],
)
def test_the_lock_is_released_after_the_cooldown(after, mine, reason, deletes):
    """By deleting exactly its own PipelineRun."""
    made = counted(execution(Phase.COMPLETED, ended=NOW))
    run = build.pipeline_run(made, "True", "Succeeded") if mine else foreign(0)[0]
    decision = decide(Observed(made, run, mine=mine), later(after), SETTINGS)
    assert reason == decision.reason
    assert deletes == any(isinstance(e, Delete) for e in decision.effects)


def counted(made):
    """The catalog was told of its end."""
    conditions = with_condition(made.status.conditions, COUNTED, status=True, reason="Recorded", now=NOW)
    return made.replace(status=made.status.replace(conditions=conditions))


def test_an_end_is_counted_once_with_its_duration():
    """Beside the cooldown, before it is over; then never again."""
    made = execution(Phase.COMPLETED, start_time=NOW, ended=later(30))
    run = build.pipeline_run(made, "True", "Succeeded")
    decision = decide(Observed(made, run, mine=True), later(31), SETTINGS)
    (call,) = decision.effects
    record = call.payload["record"]
    assert (record.execution_id, record.success, record.duration_seconds) == (made.uid, True, 30.0)
    assert record.workflow_id == made.spec.workflow_ref.workflow_id
    after = made.replace(status=decision.status)
    assert decide(Observed(after, run, mine=True), later(31), SETTINGS).reason == "CoolingDown"


def test_a_release_that_is_due_does_not_wait_for_the_count():
    """The catalog may be away for hours; the target must not be locked for as long."""
    made = execution(Phase.COMPLETED, start_time=NOW, ended=NOW)
    run = build.pipeline_run(made, "True", "Succeeded")
    decision = decide(Observed(made, run, mine=True), later(300), SETTINGS)
    assert [type(effect) for effect in decision.effects] == [Delete]
    released = made.replace(status=decision.status)
    assert decide(Observed(released), later(301), SETTINGS).reason == "Counted"


def test_what_never_ran_is_not_counted():
    """A busy target is no failure of the workflow."""
    made = execution(Phase.PENDING)
    failed = decide(Observed(made.replace(spec=made.spec.replace(deadline=NOW))), later(1), SETTINGS).status
    after = made.replace(status=failed.replace(lock_released=True))
    assert decide(Observed(after), later(2), SETTINGS).reason == "Over"


@pytest.mark.parametrize("mine", [True, False])
def test_deletion_takes_its_own_pipeline_run_along(mine):
    """And no other, before the finalizer goes; that it was called off is on record, first of all with its remediation."""
    made = running(metadata={"deletion_timestamp": NOW})
    run = build.pipeline_run(made) if mine else foreign()[0]
    effects = decide(Observed(made, run, mine=mine), NOW, SETTINGS).effects
    assert effects[0].key.name == made.spec.remediation_request_ref.name
    assert effects[0].patch == {"metadata": {"annotations": {names.ANNOTATION_STOPPED_EXECUTION: made.name}}}
    assert effects[1].event.event_type == "workflow.cancelled"
    assert mine == isinstance(effects[2], Delete)
    assert effects[-1].patch == {"metadata": {"finalizers": []}}


def test_a_deleted_rehearsal_leaves_no_word():
    """Nothing has run of it, so that it may be rehearsed again."""
    made = running(metadata={"deletion_timestamp": NOW})
    made = made.replace(spec=made.spec.replace(dry_run=True))
    told, finalizer = decide(Observed(made), NOW, SETTINGS).effects
    assert told.event.event_type == "workflow.cancelled"
    assert finalizer.patch == {"metadata": {"finalizers": []}}


def test_a_finished_one_rests():
    """No timer, no effect."""
    decision = decide(Observed(counted(execution(Phase.COMPLETED, lock_released=True))), later(9999), SETTINGS)
    assert (decision.status, decision.effects, decision.wake_at) == (None, (), None)


@given(
    st.sampled_from([None, *Phase]), st.sampled_from(["none", "mine", "foreign"]),
    st.sampled_from(["Unknown", "True", "False"]), st.floats(0, 5000), st.booleans(),
)  # fmt: skip
def test_any_observation_has_a_legal_answer(phase, whose, condition, after, deleted):
    """Only legal transitions, never two creations, and the same observation gives the same decision."""
    made = execution(
        phase, start_time=NOW, pipeline_run_uid="run-uid", metadata={"deletion_timestamp": NOW} if deleted else None
    )
    run = {"none": None, "mine": build.pipeline_run(made, condition), "foreign": foreign(0)[0]}[whose]
    seen = Observed(made, run, mine=whose == "mine", workflow=build.registered(made))
    decision = decide(seen, NOW + timedelta(seconds=after), SETTINGS)
    new = made.status if decision.status is None else decision.status
    phases.TABLE.check(str(made.status.phase or ""), str(new.phase or ""))
    assert decision == decide(seen, NOW + timedelta(seconds=after), SETTINGS)
    assert sum(isinstance(e, Create) for e in decision.effects) <= (
        run is None and phase is Phase.PENDING and not deleted
    )
    assert all(isinstance(e, Create | Delete | Patch | Audit | Call) for e in decision.effects)
    if new.phase is Phase.FAILED and made.status.phase is not Phase.FAILED:
        assert new.failure_details is not None
