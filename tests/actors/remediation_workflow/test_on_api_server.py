"""``kubectl apply`` registers workflows: the controller in its loop on a real API server, Data Storage over HTTP, real bundles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.remediation_workflow import controller
from catalog.bundles import Bundles
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.owner import Owner
from kubernaut_ray import names, shipped
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.catalog import SearchRequest, Workflow
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.control.controller import Deps
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.queue import WorkQueue
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.resources import REMEDIATION_WORKFLOW
from kubernaut_ray.settings import Settings
from serve_apps.data_storage.app import create_app
from serve_apps.data_storage.deps import Deps as StorageDeps
from tests.actors.remediation_workflow.world import Sink
from tests.conformance.conftest import eventually
from tests.conftest import kubectl
from tests.serving import serving

pytestmark = pytest.mark.integration
FOLDER = shipped.directory() / "workflows" / "restart-rollout"
SAMPLE = shipped.directory() / "samples" / "remediation-workflow.yaml"


@dataclass
class System:
    kube: KubeClient
    kubeconfig: Path
    namespace: str
    bundles: Bundles
    storage: DataStorage
    sink: Sink
    scratch: Path

    def bundle(self, change: Callable[[str], str] = str) -> str:
        """Push the shipped workflow, its schema changed, and return the pinned reference."""
        folder = self.scratch / f"folder-{len(list(self.scratch.glob('folder-*')))}"
        folder.mkdir()
        for file in FOLDER.iterdir():
            text = file.read_text()
            (folder / file.name).write_text(change(text) if file.name == "workflow-schema.yaml" else text)
        return str(self.bundles.push(folder))

    def apply(self, spec: dict[str, Any], name: str = "restart", check: bool = True) -> str:
        body = {
            "apiVersion": "kubernaut.ai/v1alpha1", "kind": "RemediationWorkflow",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        }  # fmt: skip
        done = kubectl(self.kubeconfig, "apply", "-f", "-", input=json.dumps(body))
        assert (done.returncode == 0) is check, done.stdout + done.stderr
        return done.stdout + done.stderr

    async def until(self, phase: str, name: str = "restart", **fields: Any) -> Object:
        """Wait until the status is of this phase and generation, and has these fields."""

        async def there() -> Object | None:
            found = await self.kube.get(REMEDIATION_WORKFLOW, name, self.namespace)
            status = found.get("status") or {}
            wanted = {"phase": phase, "observedGeneration": found["metadata"]["generation"], **fields}
            return found if all(status.get(key) == value for key, value in wanted.items()) else None

        found: Object = await eventually(there)
        return found

    async def record(self, version: str = "1.0.0") -> Workflow:
        found = await self.storage.workflow(names.workflow_id("restart-rollout", version))
        assert found is not None
        return found


@pytest.fixture
async def system(kube: KubeClient, api_server: Path, namespace: str, tmp_path: Path) -> AsyncIterator[System]:
    bundles, sink, queue = Bundles(tmp_path / "bundles"), Sink(), WorkQueue()
    owner = Owner(tmp_path / "catalog", embedder=Lexicon(), source=bundles, now=utcnow)
    settings = Settings.load(namespace=namespace, catalog={"registration_interval": 1.0})
    app = create_app(StorageDeps(Catalog(InProcess(owner), Lexicon()), None, sink))
    async with serving(app) as url, DataStorage(url, lambda: "t") as storage:
        deps = Deps(kube, settings, Endpoints(data_storage=url), lambda: "t", lambda ns, name: queue.add(Key(ns, name)))
        loop = ControlLoop(controller.build(deps), kube, sink, queue, settings=settings.fleet, namespace=namespace)
        running = asyncio.create_task(loop.run())
        yield System(kube, api_server, namespace, bundles, storage, sink, tmp_path)
        for obj in (await kube.list(REMEDIATION_WORKFLOW, namespace)).items:
            await kube.delete(REMEDIATION_WORKFLOW, obj["metadata"]["name"], namespace)

        async def gone() -> bool:
            return not (await kube.list(REMEDIATION_WORKFLOW, namespace)).items

        await eventually(gone)
        loop.drain()
        await running
    await asyncio.to_thread(owner.close)


async def test_the_sample_registers_a_workflow(system: System) -> None:
    """As the README says: apply the sample, wait for Ready, find the workflow."""
    await asyncio.to_thread(system.bundles.push, FOLDER)
    document = yaml.safe_load(SAMPLE.read_text())
    await asyncio.to_thread(system.apply, document["spec"], document["metadata"]["name"])
    name = document["metadata"]["name"]
    waited = await asyncio.to_thread(
        kubectl,
        system.kubeconfig,
        "-n",
        system.namespace,
        "wait",
        "--for=condition=Ready",
        f"rw/{name}",
        "--timeout=30s",
    )
    assert waited.returncode == 0, waited.stderr
    found = await system.until("Registered", name)
    assert found["metadata"]["finalizers"] == [names.FINALIZER_REMEDIATION_WORKFLOW]
    assert found["metadata"]["labels"] == names.shard_label(name)
    hits = (await system.storage.search(SearchRequest(query="restart the rollout"))).hits
    assert [hit.workflow.workflow_id for hit in hits] == [found["status"]["workflowId"]]
    shown = await asyncio.to_thread(kubectl, system.kubeconfig, "-n", system.namespace, "get", "rw")
    head, row = shown.stdout.splitlines()
    assert head.split() == ["NAME", "WORKFLOW", "VERSION", "STATUS", "ACTION", "AGE"]
    assert row.split()[:5] == [name, "restart-rollout", "1.0.0", "Registered", "RestartRollout"]


async def test_a_workflow_from_birth_to_death(system: System) -> None:
    """Registered, raised, suspended, resumed, deleted and made again; the catalog follows each time."""
    one = await asyncio.to_thread(system.bundle)
    await asyncio.to_thread(system.apply, {"execution": {"bundle": one}, "version": "1.0.0"})
    await system.until("Registered", version="1.0.0")
    two = await asyncio.to_thread(system.bundle, lambda text: text.replace("version: 1.0.0", "version: 2.0.0"))
    await asyncio.to_thread(system.apply, {"execution": {"bundle": two}})
    await system.until("Registered", version="2.0.0")
    assert [(await system.record(v)).is_latest_version for v in ("1.0.0", "2.0.0")] == [False, True]
    assert (await system.record("2.0.0")).previous_version == "1.0.0"
    await asyncio.to_thread(system.apply, {"execution": {"bundle": two}, "suspend": True})
    await system.until("Suspended")
    record = await system.record("2.0.0")
    source = f"remediationworkflow {system.namespace}/restart"
    assert (record.status, record.disabled_by, record.disabled_reason) == ("disabled", source, "spec.suspend is set")
    assert not (await system.storage.search(SearchRequest(query="restart the rollout"))).hits
    await asyncio.to_thread(system.apply, {"execution": {"bundle": two}})
    await system.until("Registered")
    deleted = await asyncio.to_thread(kubectl, system.kubeconfig, "-n", system.namespace, "delete", "rw", "restart")
    assert deleted.returncode == 0, deleted.stderr
    with pytest.raises(NotFound):
        await system.kube.get(REMEDIATION_WORKFLOW, "restart", system.namespace)
    record = await system.record("2.0.0")
    assert (record.status, record.disabled_reason) == ("disabled", "the RemediationWorkflow was deleted")
    await asyncio.to_thread(system.apply, {"execution": {"bundle": two}})
    await system.until("Registered")
    assert (await system.record("2.0.0")).status == "active"
    told = [what for what in system.sink.told if what in {"registered", "suspended", "resumed", "withdrawn"}]
    assert told == ["registered", "registered", "suspended", "resumed", "withdrawn", "registered"]


async def test_what_differs_from_the_bundle_is_listed(system: System) -> None:
    """Every path with both values, as a status, as a condition, and in no other way in the catalog."""
    bundle = await asyncio.to_thread(system.bundle)
    spec = {
        "execution": {"bundle": bundle, "engine": "job"},
        "version": "1.0.1",
        "labels": {"severity": "low"},
        "description": {"what": "Something else"},
    }
    await asyncio.to_thread(system.apply, spec)
    found = await system.until("Rejected")
    assert found["status"]["message"].startswith("the declaration differs from the schema of bundles.kubernaut.local/")
    problems = {p["path"]: p["message"] for p in found["status"]["problems"]}
    assert set(problems) == {"spec.execution.engine", "spec.version", "spec.labels.severity", "spec.description.what"}
    assert problems["spec.version"] == 'is "1.0.1" here, "1.0.0" in the bundle\'s schema'
    ready = next(c for c in found["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "SpecDiffers")
    assert (await system.storage.workflows()).pagination.total == 0


async def test_bad_bundles_and_schemas_are_told_apart(system: System) -> None:
    """Missing, no schema of ours, other content under a version; nothing of it reaches the search."""
    await asyncio.to_thread(system.apply, {"execution": {"bundle": "bundles.kubernaut.local/workflows/none:1.0.0"}})
    await system.until("Rejected")
    one = await asyncio.to_thread(system.bundle)
    await asyncio.to_thread(system.apply, {"execution": {"bundle": one}}, "first")
    await system.until("Registered", "first")
    other = await asyncio.to_thread(system.bundle, lambda text: f"{text}# another\n")
    await asyncio.to_thread(system.apply, {"execution": {"bundle": other}})
    found = await system.until("Rejected")
    assert found["status"]["conditions"][0]["reason"] == "VersionConflict"
    for digest in (one.partition("@")[2], other.partition("@")[2]):
        assert digest in found["status"]["message"]
    dead = "127.0.0.1:1/workflows/restart:1.0.0"
    await asyncio.to_thread(system.apply, {"execution": {"bundle": dead}})
    found = await system.until("Pending")
    assert {c["reason"] for c in found["status"]["conditions"]} == {"RegistryUnavailable"}


async def test_the_api_server_refuses_what_can_never_be_right(system: System) -> None:
    """At ``kubectl apply`` already: no bundle, no reference, two digests, a misspelt field."""
    digests = [f"sha256:{character * 64}" for character in "ab"]
    for spec, words in (
        ({"execution": {"bundle": ""}}, "spec.execution.bundle"),
        ({"execution": {}}, "bundle"),
        ({"execution": {"bundle": "restart"}}, "spec.execution.bundle"),
        ({"execution": {"bundle": f"r.example/w:1@{digests[0]}", "bundleDigest": digests[1]}}, "name two digests"),
        ({"execution": {"bundle": "r.example/w:1"}, "suspended": True}, "suspended"),
        ({"execution": {"bundle": "r.example/w:1"}, "version": "one"}, "spec.version"),
    ):
        assert words in await asyncio.to_thread(system.apply, spec, "refused", False)
