from __future__ import annotations

from datetime import timedelta

import pytest

from actors.workflow_execution import controller
from kubernaut_ray import clock, names
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.kube.resources import JOB, PIPELINE_RUN, WORKFLOW_EXECUTION
from kubernaut_ray.settings import Settings
from tests import build
from tests.crash import START, crash_everywhere
from tests.shelf import Shelf

SETTINGS = Settings()
EXECUTION = build.workflow_execution(build.remediation_request(), None)
KEY = Key(EXECUTION.namespace, EXECUTION.name)
RUN = names.pipeline_run(EXECUTION.spec.target_resource)
RUNS = SETTINGS.execution.namespace


COUNTS = Shelf(build.registered(EXECUTION))


def make_controller(client, settings=SETTINGS):
    deps = Deps(client, settings, Endpoints(), lambda: "token", lambda *_: None)
    return controller.WorkflowExecutionController(deps, COUNTS)


async def make_world(client):
    await client.create(WORKFLOW_EXECUTION, EXECUTION.to_object(), KEY.namespace)


def tekton(status, reason, **more):
    """What Tekton does with a PipelineRun that it has not ended yet."""

    async def advance(client):
        listed = await client.list(PIPELINE_RUN, RUNS)
        for run in listed.items:
            if "status" not in run and run["spec"].get("status") != "PipelineRunPending":
                condition = {"type": "Succeeded", "status": status, "reason": reason, "message": reason}
                body = {
                    "startTime": clock.rfc3339(START), "completionTime": clock.rfc3339(START + timedelta(seconds=3)),
                    "conditions": [condition], **more,
                }  # fmt: skip
                await client.patch(PIPELINE_RUN, run["metadata"]["name"], {"status": body}, RUNS, subresource="status")

    return advance


@pytest.mark.parametrize(
    ("status", "reason", "phase"),
    [
        ("True", "Succeeded", Phase.COMPLETED),
        ("False", "Failed", Phase.FAILED),
        ("False", "CouldntGetPipeline", Phase.FAILED),
    ],
)
async def test_a_crash_anywhere_changes_nothing(status, reason, phase):
    """One PipelineRun, each fact once, the lock released after the cooldown."""
    COUNTS.told.clear()
    report = await crash_everywhere(make_controller, make_world, KEY, advance=tekton(status, reason))
    world = report.world.objects
    # What Tekton could not even start says nothing about the workflow.
    executed = reason != "CouldntGetPipeline"
    assert [executed and status == "True"] * executed == [told.success for told in COUNTS.told.values()]
    assert len(report.world.calls) == executed
    final = world[f"WorkflowExecution {KEY}"]["status"]
    assert (str(phase), True) == (final["phase"], final["lockReleased"])
    assert not [name for name in world if name.startswith("PipelineRun")]
    assert len(report.world.facts) == 2
    assert report.points.count(f"before create PipelineRun {RUN}") == 1


async def test_a_recovery_attempt_takes_over_the_target():
    """The finished PipelineRun of the first attempt is replaced, whatever crashes on the way."""
    first = build.workflow_execution(build.remediation_request(), Phase.FAILED, lock_released=False)
    second = build.workflow_execution(build.remediation_request(), None, attempt=1)

    async def world(client):
        stored = await client.create(WORKFLOW_EXECUTION, first.to_object(), KEY.namespace)
        await client.patch(
            WORKFLOW_EXECUTION, first.name, {"status": first.status.to_object()}, KEY.namespace, subresource="status"
        )
        run = build.pipeline_run(first, "False", "Failed")
        run["metadata"] |= {
            "annotations": run["metadata"]["annotations"]
            | {f"{names.GROUP}/workflow-execution-uid": stored["metadata"]["uid"]}
        }
        await client.create(PIPELINE_RUN, run, RUNS)
        await client.create(WORKFLOW_EXECUTION, second.to_object(), KEY.namespace)

    report = await crash_everywhere(
        make_controller, world, Key(second.namespace, second.name), advance=tekton("True", "Succeeded")
    )
    assert "LockReleasable" in report.outcomes
    assert report.world.objects[f"WorkflowExecution {second.namespace}/{second.name}"]["status"]["phase"] == "Completed"


async def test_deleting_an_execution_leaves_nothing_behind():
    """The finalizer takes the PipelineRun along, through any crash."""

    async def world(client):
        await make_world(client)

    async def advance(client):
        executions = (await client.list(WORKFLOW_EXECUTION, KEY.namespace)).items
        runs = (await client.list(PIPELINE_RUN, RUNS)).items
        running = executions and executions[0].get("status", {}).get("phase") == "Running"
        if running and runs and not executions[0]["metadata"].get("deletionTimestamp"):
            await client.delete(WORKFLOW_EXECUTION, KEY.name, KEY.namespace)

    report = await crash_everywhere(make_controller, world, KEY, advance=advance)
    assert report.world.objects == {}


async def test_one_that_waits_for_its_turn_runs_once_it_has_come():
    """Through any crash: nothing while another runs, one PipelineRun afterwards."""
    other = build.workflow_execution(build.remediation_request("rr-other"), Phase.RUNNING, start_time=START)
    other = other.replace(spec=other.spec.replace(target_resource="shop/deployment/db"))

    async def world(client):
        await client.create(WORKFLOW_EXECUTION, other.to_object(), KEY.namespace)
        running = {"status": other.status.to_object()}
        await client.patch(WORKFLOW_EXECUTION, other.name, running, KEY.namespace, subresource="status")
        await make_world(client)

    async def advance(client):
        mine = await client.get(WORKFLOW_EXECUTION, KEY.name, KEY.namespace)
        theirs = await client.get(WORKFLOW_EXECUTION, other.name, KEY.namespace)
        if theirs["status"]["phase"] == "Running":
            assert not (await client.list(PIPELINE_RUN, RUNS)).items
            if mine.get("status", {}).get("queuedAt"):
                over = {"status": {"phase": "Completed", "completionTime": clock.rfc3339(START)}}
                await client.patch(WORKFLOW_EXECUTION, other.name, over, KEY.namespace, subresource="status")
        await tekton("True", "Succeeded")(client)

    alone = Settings.load(execution={"max_running": 1})
    report = await crash_everywhere(lambda client: make_controller(client, alone), world, KEY, advance=advance)
    assert [
        reason for reason in dict.fromkeys(report.outcomes) if reason in ("Queued", "Admitted", "PipelineRunRequested")
    ] == ["Queued", "Admitted", "PipelineRunRequested"]
    assert report.world.objects[f"WorkflowExecution {KEY}"]["status"]["phase"] == "Completed"
    assert report.points.count(f"before create PipelineRun {RUN}") == 1


async def test_a_crash_anywhere_runs_a_job_once():
    """The other engine keeps the same promises."""
    job = EXECUTION.replace(spec=EXECUTION.spec.replace(workflow_ref=EXECUTION.spec.workflow_ref.replace(engine="job")))
    shelf = Shelf(build.registered(job))

    async def world(client):
        await client.create(WORKFLOW_EXECUTION, job.to_object(), KEY.namespace)

    async def advance(client):
        for found in (await client.list(JOB, RUNS)).items:
            if "status" not in found:
                at = clock.rfc3339(START + timedelta(seconds=3))
                condition = {
                    "type": "Complete",
                    "status": "True",
                    "reason": "CompletionsReached",
                    "lastTransitionTime": at,
                }
                status = {
                    "startTime": clock.rfc3339(START),
                    "completionTime": at,
                    "succeeded": 1,
                    "conditions": [condition],
                }
                await client.patch(JOB, RUN, {"status": status}, RUNS, subresource="status")

    deps = SETTINGS, Endpoints(), lambda: "token", lambda *_: None
    report = await crash_everywhere(
        lambda client: controller.WorkflowExecutionController(Deps(client, *deps), shelf), world, KEY, advance=advance
    )
    final = report.world.objects[f"WorkflowExecution {KEY}"]["status"]
    assert (final["phase"], final["duration"], final["lockReleased"]) == ("Completed", "3s", True)
    assert not [name for name in report.world.objects if name.startswith("Job")]
    assert report.points.count(f"before create Job {RUN}") == 1
