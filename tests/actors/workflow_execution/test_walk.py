from __future__ import annotations

import asyncio
import time

import pytest

from actors.workflow_execution import controller
from catalog.bundles import Bundles, pack, reference_for
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.runner import Runner
from kubernaut_ray.kube.resources import DEPLOYMENT, JOB, PIPELINE_RUN, WORKFLOW_EXECUTION
from kubernaut_ray.settings import Settings
from tests import build
from tests.cluster import MANIFESTS, install_accounts
from tests.shelf import Shelf
from tests.trail import fits

pytestmark = pytest.mark.integration
LABELS = {"app": "web"}


class Sink:
    def __init__(self):
        self.types = []
        self.shelf = Shelf()

    async def record(self, event):
        self.types.append(fits(event).event_type)


@pytest.fixture
async def system(kube, api_server, namespace, tmp_path):
    """The controller in its loop and the pipeline runner, on a real API server."""
    await install_accounts(kube)
    settings = Settings.load(namespace=namespace, execution={"cooldown": 1.0})
    queue, sink = WorkQueue(), Sink()
    deps = Deps(kube, settings, Endpoints(), lambda: "", lambda *_: None)
    made = controller.WorkflowExecutionController(deps, sink.shelf)
    loop = ControlLoop(made, kube, sink, queue, settings=settings.fleet, namespace=namespace)
    runner = Runner(kube, Cluster.read(api_server), Stores(tmp_path / "bundles"), tmp_path)
    await runner.start()
    running = asyncio.create_task(loop.run())
    yield sink
    loop.drain()
    await running
    await runner.stop()


def register(system, tmp_path, folder):
    """Push a workflow and put it into the catalog."""
    bundles = Bundles(tmp_path / "bundles")
    workflow, _ = bundles.workflow(str(bundles.push(folder, reference_for(pack(folder).workflow))))
    system.shelf.workflows[workflow.workflow_id] = workflow
    return workflow


async def execute(
    kube, namespace, image, digest="", workflow_id="wf-memory", engine="tekton", dry_run=False, **parameters
):
    """Create an execution and wait until the target is free again; return it."""
    made = build.workflow_execution(build.remediation_request(), None)
    ref = made.spec.workflow_ref.replace(
        workflow_id=workflow_id, container_image=image, container_digest=digest, engine=engine
    )
    made = made.replace(
        metadata=made.metadata.replace(namespace=namespace, owner_references=()),
        spec=made.spec.replace(
            workflow_ref=ref, parameters=parameters, target_resource=f"{namespace}/deployment/web", dry_run=dry_run
        ),
    )
    body = made.to_object()
    for volatile in ("uid", "resourceVersion", "generation", "creationTimestamp"):
        body["metadata"].pop(volatile, None)
    await kube.create(WORKFLOW_EXECUTION, body, namespace)
    deadline = time.monotonic() + 30
    while True:
        found = await kube.get(WORKFLOW_EXECUTION, made.name, namespace)
        if (found.get("status") or {}).get("lockReleased"):
            return found
        assert time.monotonic() < deadline, found.get("status")
        await asyncio.sleep(0.05)


async def test_an_execution_changes_the_world(system, kube, namespace, tmp_path):
    """From a WorkflowExecution to a changed Deployment, told in its status and in the audit; then the lock is free."""
    container = {"name": "web", "image": "i", "resources": {"limits": {"memory": "128Mi"}}}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": LABELS}, "template": template}}
    await kube.create(DEPLOYMENT, body, namespace)
    folder = MANIFESTS / "workflows" / "increase-memory-limits"
    workflow = register(system, tmp_path, folder)
    found = await execute(
        kube, namespace, workflow.container_image, workflow.container_digest, workflow.workflow_id,
        TARGET_RESOURCE_KIND="Deployment", TARGET_RESOURCE_NAME="web", TARGET_RESOURCE_NAMESPACE=namespace,
        ROLLOUT_TIMEOUT_SECONDS="0",
    )  # fmt: skip
    status = found["status"]
    assert status["phase"] == "Completed", status
    assert "from web 128Mi to web 256Mi" in status["results"]["summary"]
    changed = await kube.get(DEPLOYMENT, "web", namespace)
    assert changed["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "256Mi"
    assert system.types == ["workflow.started", "workflow.completed"]
    assert [told.success for told in system.shelf.told.values()] == [True]
    with pytest.raises(NotFound):
        await kube.get(PIPELINE_RUN, status["pipelineRunRef"]["name"], "kubernaut-workflows")


async def test_an_execution_that_cannot_run_says_why(system, kube, namespace):
    """A bundle that is not there is a configuration error; nothing was executed."""
    found = await execute(kube, namespace, "bundles.kubernaut.local/workflows/none:1.0.0")
    details = found["status"]["failureDetails"]
    assert (
        found["status"]["phase"], details["reason"], details["wasExecutionFailure"],
    ) == ("Failed", "ConfigurationError", False)  # fmt: skip
    assert "workflows/none:1.0.0" in details["message"]


async def test_a_job_changes_the_world_without_tekton(system, kube, namespace, tmp_path):
    """The shipped sample, a container and no pipeline: as a Job, with its result; then the lock is free."""
    container = {"name": "web", "image": "i"}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": LABELS}, "template": template}}
    await kube.create(DEPLOYMENT, body, namespace)
    workflow = register(system, tmp_path, MANIFESTS / "samples" / "job-workflow")
    found = await execute(
        kube, namespace, workflow.container_image, workflow.container_digest, workflow.workflow_id, "job",
        NOTE="who $(owns) this?",
    )  # fmt: skip
    status = found["status"]
    assert status["phase"] == "Completed", status
    assert status["results"] == {"summary": "marked deployment web for review: who $(owns) this?"}
    changed = await kube.get(DEPLOYMENT, "web", namespace)
    assert changed["metadata"]["annotations"]["kubernaut.ai/review"] == "who $(owns) this?"
    with pytest.raises(NotFound):
        await kube.get(JOB, status["pipelineRunRef"]["name"], "kubernaut-workflows")


async def test_parameters_that_the_schema_does_not_take_never_run(system, kube, namespace, tmp_path):
    """Whoever chose them: it fails before anything is created, and says what would be right."""
    workflow = register(system, tmp_path, MANIFESTS / "workflows" / "increase-memory-limits")
    found = await execute(
        kube, namespace, workflow.container_image, workflow.container_digest, workflow.workflow_id,
        TARGET_RESOURCE_KIND="Secret", TARGET_RESOURCE_NAME="web", TARGET_RESOURCE_NAMESPACE=namespace, SHELL="/bin/sh",
    )  # fmt: skip
    details = found["status"]["failureDetails"]
    assert (details["reason"], details["wasExecutionFailure"]) == ("ConfigurationError", False)
    assert "TARGET_RESOURCE_KIND: must be one of" in details["message"]
    assert "SHELL: the workflow has no such parameter" in details["message"]
    assert "pipelineRunRef" not in found["status"]
