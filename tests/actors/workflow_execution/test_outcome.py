from __future__ import annotations

import pytest

from actors.workflow_execution import outcome
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from tests import build
from tests.build import later


def made():
    return build.workflow_execution(build.remediation_request())


def details(run, *task_runs):
    return outcome.failure(made(), run, task_runs, later(30))


@pytest.mark.parametrize(
    ("reason", "task", "expected"),
    [
        pytest.param("PipelineRunTimeout", {"condition": {"reason": "TaskRunCancelled"}}, Reason.DEADLINE_EXCEEDED, id="the pipeline's time"),
        pytest.param("Failed", {"condition": {"reason": "TaskRunTimeout"}}, Reason.DEADLINE_EXCEEDED, id="the task's time"),
        pytest.param("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, Reason.OOM_KILLED, id="the kubelet says so"),
        pytest.param("Failed", {"terminated": {"exitCode": 137}}, Reason.OOM_KILLED, id="killed by signal 9"),
        pytest.param("Failed", {"terminated": {"exitCode": 127}}, Reason.CONFIGURATION_ERROR, id="no such program"),
        pytest.param("Failed", {"terminated": {"exitCode": 1}}, Reason.TASK_FAILED, id="an ordinary failure"),
        pytest.param("Failed", {"condition": {"reason": "TaskRunImagePullFailed"}}, Reason.IMAGE_PULL_BACK_OFF, id="no image"),
        pytest.param("Failed", {"condition": {"reason": "TaskRunLost"}}, Reason.UNKNOWN, id="a lost step"),
        pytest.param("Failed", {"condition": {"reason": "PodCreationFailed"}}, Reason.CONFIGURATION_ERROR, id="no account"),
        pytest.param(
            "Failed", {"condition": {"message": '"step-apply" exited with code 1: HTTP 403: deployments is forbidden'}},
            Reason.FORBIDDEN, id="a step that was refused",
        ),
        pytest.param(
            "Failed", {"condition": {"message": "exited with code 1: invalid memory timeout oom quota"}},
            Reason.TASK_FAILED, id="words of a script that ran are no facts",
        ),
        pytest.param("CouldntGetPipeline", None, Reason.CONFIGURATION_ERROR, id="no pipeline"),
        pytest.param("ParameterMissing", None, Reason.CONFIGURATION_ERROR, id="a parameter missing"),
        pytest.param("Cancelled", None, Reason.UNKNOWN, id="cancelled"),
        pytest.param("SomethingQuota", None, Reason.RESOURCE_EXHAUSTED, id="words, where there is nothing better"),
        pytest.param("RBACDenied", None, Reason.FORBIDDEN, id="words about rights"),
        pytest.param("Odd", None, Reason.UNKNOWN, id="nothing known"),
    ],
)  # fmt: skip
def test_the_reason(reason, task, expected):
    """Structured facts first, words last."""
    run = build.pipeline_run(made(), "False", reason)
    assert expected is details(run, *([build.task_run(run, **task)] if task is not None else [])).reason


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        pytest.param({}, "Failed", True, id="it had started"),
        pytest.param({}, "CouldntGetPipeline", False, id="it had started, but nothing could run"),
        pytest.param({"startTime": None, "childReferences": [{"name": "x"}]}, "Failed", True, id="it has children"),
        pytest.param({"startTime": None}, "PipelineRunTimeout", True, id="it ran out of time"),
        pytest.param({"startTime": None}, "Odd", False, id="it never began"),
    ],
)
def test_whether_anything_was_executed(status, reason, expected):
    """The orchestrator retries only what did not touch the world."""
    run = build.pipeline_run(made(), "False", reason, **status)
    assert expected is details(run).was_execution_failure


def test_the_first_failed_task_in_the_pipelines_order_is_the_culprit():
    """A cancelled one is a consequence; a skipped or ignored step is not the failed one."""
    execution = made()
    run = build.pipeline_run(execution, "False", "Failed")
    name = run["metadata"]["name"]
    run["status"]["childReferences"] = [{"name": f"{name}-{t}"} for t in ("first", "second", "third")]
    cancelled = build.task_run(run, "first", condition={"reason": "TaskRunCancelled"})
    second = build.task_run(run, "second", results=[{"name": "summary", "value": "the disk was full"}])
    second["status"]["steps"].insert(
        0, {"name": "probe", "terminationReason": "Continued", "terminated": {"exitCode": 4, "reason": "Error"}}
    )
    found = details(run, build.task_run(run, "third"), cancelled, second)
    assert (found.failed_task_index, found.failed_task_name, found.failed_step_name, found.exit_code) == (
        1,
        "second",
        "apply",
        1,
    )
    assert found.message == "the disk was full"
    assert "the disk was full" in found.natural_language_summary


def test_what_a_step_printed_is_told_without_secrets():
    """Its last words go to the status, the audit trail and people; a token in them goes nowhere."""
    run = build.pipeline_run(made(), "False", "Failed")
    condition = {
        "reason": "Failed",
        "message": '"step-apply" exited with code 1: Authorization: Bearer abcdef0123456789',
    }
    found = details(run, build.task_run(run, "fix", condition=condition))
    assert "abcdef0123456789" not in found.message + found.natural_language_summary
    assert "exited with code 1" in found.message
    said = build.pipeline_run(made(), "True", results=[{"name": "summary", "value": "logged in, password=hunter22"}])
    assert "hunter22" not in outcome.results(said)["summary"]


def test_results_are_bounded_text():
    """The CRD takes 64 of 4096 characters."""
    run = build.pipeline_run(made(), "True", results=[{"name": f"n{i}", "value": "x" * 5000} for i in range(80)])
    found = outcome.results(run)
    assert (len(found), len(found["n0"])) == (64, 4096)
