from __future__ import annotations

import pytest

from actors.workflow_execution import marks, pipelinerun
from kubernaut_ray import names
from kubernaut_ray.settings import ExecutionSettings
from tests import build
from tests.build import NOW, later


def made(**spec):
    execution = build.workflow_execution(build.remediation_request())
    return execution.replace(spec=execution.spec.replace(**spec)) if spec else execution


def test_the_pipeline_run_is_what_tekton_admits():
    """Bundles resolver, string params, v1's taskRunTemplate, a timeout; its name is the target's lock."""
    execution = made()
    ref = execution.spec.workflow_ref.replace(container_digest="sha256:" + "a" * 64)
    execution = made(workflow_ref=ref)
    body = pipelinerun.build(execution, ExecutionSettings(), NOW)
    assert (body["apiVersion"], body["kind"]) == ("tekton.dev/v1", "PipelineRun")
    assert {
        "name": names.pipeline_run("shop/deployment/web"), "namespace": "kubernaut-workflows",
    }.items() <= body["metadata"].items()  # fmt: skip
    assert {
        "resolver": "bundles",
        "params": [
            {"name": "bundle", "value": f"{ref.container_image}@{ref.container_digest}"},
            {"name": "name", "value": "workflow"},
            {"name": "kind", "value": "pipeline"},
        ],
    } == body["spec"]["pipelineRef"]
    assert body["spec"]["params"] == [
        {"name": "MEMORY_LIMIT", "value": "512Mi"}, {"name": "TARGET_RESOURCE", "value": "shop/deployment/web"},
    ]  # fmt: skip
    assert body["spec"]["taskRunTemplate"] == {"serviceAccountName": "kubernaut-workflow-runner"}
    assert body["spec"]["timeouts"] == {"pipeline": "30m0s"}
    labels = body["metadata"]["labels"]
    assert execution.name == labels[names.LABEL_WORKFLOW_EXECUTION]
    assert (labels[names.LABEL_TARGET_RESOURCE], labels[names.LABEL_SOURCE_NAMESPACE]) == (
        "shop__deployment__web",
        "shop",
    )
    assert body["metadata"]["annotations"][names.ANNOTATION_TARGET_RESOURCE] == "shop/deployment/web"
    assert all(len(v) <= 63 for v in labels.values())


def test_a_parameter_cannot_take_the_targets_place():
    """TARGET_RESOURCE is the execution's own."""
    body = pipelinerun.build(made(parameters={"TARGET_RESOURCE": "kube-system/secret/x"}), ExecutionSettings(), NOW)
    assert body["spec"]["params"] == [{"name": "TARGET_RESOURCE", "value": "shop/deployment/web"}]


@pytest.mark.parametrize(
    ("deadline", "expected"), [(None, "30m0s"), (later(90), "1m30s"), (later(minutes=60), "30m0s"), (later(-5), "1s")]
)
def test_the_deadline_cuts_the_timeout(deadline, expected):
    """Whichever comes first."""
    assert expected == pipelinerun.timeout(made(deadline=deadline), NOW)


def test_a_cluster_scoped_target_has_no_source_namespace():
    """Its label is left out."""
    labels = pipelinerun.build(made(target_resource="node/n1"), ExecutionSettings(), NOW)["metadata"]["labels"]
    assert names.LABEL_SOURCE_NAMESPACE not in labels


def test_ownership_is_name_and_uid():
    """An execution that was deleted and made again under its name does not inherit a run."""
    execution = made()
    run = build.pipeline_run(execution)
    assert marks.is_mine(execution, run)
    again = execution.replace(metadata=execution.metadata.replace(uid="another"))
    assert not marks.is_mine(again, run)
    assert not marks.is_mine(execution, {"metadata": {"name": "x"}})
