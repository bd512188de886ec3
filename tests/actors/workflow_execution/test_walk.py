from __future__ import annotations

import asyncio
import time

import pytest

from actors.workflow_execution import controller
from catalog.bundles import Bundles, pack, reference_for
from kubernaut_ray import names
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.runner import Runner
from kubernaut_ray.kube.resources import DEPLOYMENT, PIPELINE_RUN, WORKFLOW_EXECUTION
from kubernaut_ray.settings import Settings
from tests import build
from tests.cluster import MANIFESTS, install_accounts
from tests.trail import fits

pytestmark = pytest.mark.integration
LABELS = {"app": "web"}


class Counts:
    def __init__(self):
        self.told = []

    async def record(self, execution):
        self.told.append(execution)

    async def close(self):
        """Nothing is open."""


class Sink:
    def __init__(self):
        self.types = []
        self.counts = Counts()

    async def record(self, event):
        self.types.append(fits(event).event_type)


@pytest.fixture
async def system(kube, api_server, namespace, tmp_path):
    """The controller in its loop and the pipeline runner, on a real API server."""
    await install_accounts(kube)
    settings = Settings.load(namespace=namespace, execution={"cooldown": 1.0})
    queue, sink = WorkQueue(), Sink()
    deps = Deps(kube, settings, Endpoints(), lambda: "", lambda *_: None)
    made = controller.WorkflowExecutionController(deps, sink.counts)
    loop = ControlLoop(made, kube, sink, queue, settings=settings.fleet, namespace=namespace)
    runner = Runner(kube, Cluster.read(api_server), Stores(tmp_path / "bundles"), tmp_path)
    await runner.start()
    running = asyncio.create_task(loop.run())
    yield sink
    loop.drain()
    await running
    await runner.stop()


async def execute(kube, namespace, image, digest="", *, dry_run=False, **parameters):
    """Create an execution and wait until the target is free again; return it."""
    made = build.workflow_execution(build.remediation_request(), None)
    ref = made.spec.workflow_ref.replace(container_image=image, container_digest=digest)
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
    pushed = Bundles(tmp_path / "bundles").push(folder, reference_for(pack(folder).workflow))
    found = await execute(
        kube, namespace, pushed.image, pushed.digest,
        TARGET_RESOURCE_KIND="Deployment", TARGET_RESOURCE_NAME="web", TARGET_RESOURCE_NAMESPACE=namespace,
        ROLLOUT_TIMEOUT_SECONDS="0",
    )  # fmt: skip
    status = found["status"]
    assert status["phase"] == "Completed", status
    assert "from web 128Mi to web 256Mi" in status["results"]["summary"]
    changed = await kube.get(DEPLOYMENT, "web", namespace)
    assert changed["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "256Mi"
    assert system.types == ["workflow.started", "workflow.completed"]
    assert [told.success for told in system.counts.told] == [True]
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


async def test_a_dry_run_is_judged_by_the_api_server_and_leaves_nothing(system, kube, namespace):
    """The manifest is there to read, and no PipelineRun is."""
    found = await execute(kube, namespace, "bundles.kubernaut.local/workflows/any:1.0.0", dry_run=True)
    status = found["status"]
    assert status["phase"] == "Completed", status
    assert "workflows/any:1.0.0" in status["rendered"]
    assert (system.types, system.counts.told) == (["workflow.rehearsed"], [])
    with pytest.raises(NotFound):
        await kube.get(PIPELINE_RUN, names.pipeline_run(found["spec"]["targetResource"]), "kubernaut-workflows")
