from __future__ import annotations

import asyncio
import time

import pytest

from catalog.bundles import Bundles, pack, reference_for
from kubernaut_ray.clock import rfc3339, utcnow
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.pipelines import process
from kubernaut_ray.kube.pipelines.credentials import Cluster
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.runner import Runner
from kubernaut_ray.kube.resources import (
    DEPLOYMENT,
    HPA,
    JOB,
    NODE,
    PDB,
    PIPELINE_RUN,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
)
from kubernaut_ray.kube.simulate import Simulator
from kubernaut_ray.names import WORKFLOW_NAMESPACE, WORKFLOW_SERVICE_ACCOUNT
from tests.cluster import MANIFESTS, install_accounts

pytestmark = pytest.mark.integration
LABELS = {"app": "web"}


class Scripts:
    """Runs the packed script of a workflow as its step would: with the service account's rights and nothing else."""

    def __init__(self, kube, kubeconfig, namespace, folder):
        self.kube, self.namespace, self.folder = kube, namespace, folder
        self.cluster = Cluster.read(kubeconfig)

    async def run(self, workflow, kind, name, *, execution="e-1", **params):
        """Return the exit code, the summary and the output."""
        pipeline = next(d.resource for d in pack(MANIFESTS / "workflows" / workflow).documents if d.kind == "pipeline")
        script = pipeline["spec"]["tasks"][0]["taskSpec"]["steps"][0]["script"]
        token = await self.kube.service_account_token(WORKFLOW_NAMESPACE, WORKFLOW_SERVICE_ACCOUNT)
        self.cluster.write(self.folder / "kubeconfig", token=token, namespace=WORKFLOW_NAMESPACE)
        summary = self.folder / "summary"
        summary.unlink(missing_ok=True)
        env = {
            "PATH": process.host_path(),
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "TARGET_RESOURCE_KIND": kind,
            "TARGET_RESOURCE_NAME": name,
            "TARGET_RESOURCE_NAMESPACE": self.namespace,
            "EXECUTION_ID": execution,
            "ROLLOUT_TIMEOUT_SECONDS": "0",
            "RESULT_SUMMARY": str(summary),
            **params,
        }
        command = process.command_of_script(script, self.folder / "script", env["PATH"])
        log = self.folder / "log"
        ended = await process.run(command, env=env, cwd=self.folder, log=log, timeout=60)
        return ended.exit_code, summary.read_text() if summary.exists() else "", ended.tail


@pytest.fixture
async def account(kube):
    """The workflow namespace, its service account and its rights."""
    await install_accounts(kube)


@pytest.fixture
async def scripts(kube, api_server, namespace, tmp_path, account):
    return Scripts(kube, api_server, namespace, tmp_path)


def template(memory="128Mi", image="web:1"):
    container = {"name": "web", "image": image}
    if memory:
        container["resources"] = {"limits": {"memory": memory, "cpu": "1"}, "requests": {"memory": "64Mi"}}
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}


def workload(name="web", **fields):
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template(), **fields}
    return {"metadata": {"name": name}, "spec": spec}


async def deployment(kube, namespace, **fields):
    return await kube.create(DEPLOYMENT, workload(**fields), namespace)


def memory(obj):
    return obj["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]


class TestIncreaseMemoryLimits:
    @pytest.mark.parametrize(
        ("params", "limit"),
        [
            pytest.param({}, "256Mi", id="doubled by default"),
            pytest.param({"MEMORY_INCREASE_PERCENT": "50"}, "192Mi", id="by a percentage"),
            pytest.param({"MEMORY_LIMIT": "1Gi"}, "1024Mi", id="to a value"),
            pytest.param({"MEMORY_LIMIT_CAP": "200Mi"}, "200Mi", id="up to the cap"),
        ],
    )
    async def test_the_limit_is_raised(self, kube, namespace, scripts, params, limit):
        """And nothing else is touched."""
        before = await deployment(kube, namespace)
        code, summary, _ = await scripts.run("increase-memory-limits", "Deployment", "web", **params)
        assert (code, "raised the memory limits of deployment web from web 128Mi" in summary) == (0, True)
        after = await kube.get(DEPLOYMENT, "web", namespace)
        assert limit == memory(after)
        before["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = limit
        assert before["spec"] == after["spec"]

    async def test_running_it_twice_raises_it_once(self, kube, namespace, scripts):
        """A retried step recognises its own execution; another execution raises again."""
        await deployment(kube, namespace)
        for _ in range(2):
            assert (await scripts.run("increase-memory-limits", "Deployment", "web"))[0] == 0
        assert memory(await kube.get(DEPLOYMENT, "web", namespace)) == "256Mi"
        await scripts.run("increase-memory-limits", "Deployment", "web", execution="e-2")
        assert memory(await kube.get(DEPLOYMENT, "web", namespace)) == "512Mi"

    async def test_a_stateful_set_too(self, kube, namespace, scripts):
        """Any workload with a pod template."""
        await kube.create(STATEFUL_SET, workload(serviceName="web"), namespace)
        assert (await scripts.run("increase-memory-limits", "StatefulSet", "web"))[0] == 0
        assert memory(await kube.get(STATEFUL_SET, "web", namespace)) == "256Mi"

    @pytest.mark.parametrize(
        ("fields", "params", "says"),
        [
            pytest.param({"template": template(memory="")}, {}, "no container of it has a memory limit", id="no limit"),
            pytest.param({}, {"MEMORY_LIMIT": "64Mi"}, "already", id="it is never lowered"),
            pytest.param({}, {"MEMORY_LIMIT_CAP": "128Mi"}, "at the cap", id="at the cap"),
            pytest.param({}, {"CONTAINER_NAME": "other"}, "no container other; there are web", id="another container"),
            pytest.param({}, {"TARGET_RESOURCE_NAME": "none"}, "does not exist", id="no such workload"),
            pytest.param({}, {"TARGET_RESOURCE_KIND": "Pod"}, "not on a pod", id="another kind"),
            pytest.param({}, {"MEMORY_INCREASE_PERCENT": "much"}, "whole number", id="a wrong parameter"),
        ],
    )
    async def test_where_it_does_not_apply_nothing_changes(self, kube, namespace, scripts, fields, params, says):
        """Exit code 2, and a sentence why."""
        before = await deployment(kube, namespace, **fields)
        code, summary, _ = await scripts.run("increase-memory-limits", "Deployment", "web", **params)
        assert code == 2
        assert says in summary
        assert before["spec"] == (await kube.get(DEPLOYMENT, "web", namespace))["spec"]


class TestRollbackDeployment:
    async def revisions(self, kube, namespace):
        """A Deployment at revision 2, whose revision 1 ran another image."""
        made = await deployment(kube, namespace, template=template(image="web:2"))
        note = {"deployment.kubernetes.io/revision": "2"}
        await kube.patch(DEPLOYMENT, "web", {"metadata": {"annotations": note}}, namespace)
        owner = {
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": made["metadata"]["uid"], "controller": True,
        }  # fmt: skip
        for revision in (1, 2):
            labels = LABELS | {"pod-template-hash": f"h{revision}"}
            body = {
                "metadata": {
                    "name": f"web-{revision}",
                    "labels": labels,
                    "annotations": {"deployment.kubernetes.io/revision": str(revision)},
                    "ownerReferences": [owner],
                },
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": labels},
                    "template": template(image=f"web:{revision}") | {"metadata": {"labels": labels}},
                },
            }
            await kube.create(REPLICA_SET, body, namespace)

    async def test_the_previous_template_is_restored(self, kube, namespace, scripts):
        """Without the hash label; running it twice does not roll forward again."""
        await self.revisions(kube, namespace)
        for _ in range(2):
            code, summary, _ = await scripts.run("rollback-deployment", "Deployment", "web")
            assert code == 0
            assert "to revision 1" in summary
        restored = (await kube.get(DEPLOYMENT, "web", namespace))["spec"]["template"]
        assert restored["spec"]["containers"][0]["image"] == "web:1"
        assert restored["metadata"]["labels"] == LABELS

    @pytest.mark.parametrize(
        ("params", "says"),
        [({"TARGET_REVISION": "7"}, "no revision 7; there are 2, 1"), ({"TARGET_REVISION": "2"}, "runs now")],
    )
    async def test_a_revision_that_does_not_help(self, kube, namespace, scripts, params, says):
        """Nothing is changed."""
        await self.revisions(kube, namespace)
        code, summary, _ = await scripts.run("rollback-deployment", "Deployment", "web", **params)
        assert (code, says in summary) == (2, True)

    async def test_nothing_to_go_back_to(self, kube, namespace, scripts):
        """A first revision has none before it."""
        await deployment(kube, namespace)
        code, summary, _ = await scripts.run("rollback-deployment", "Deployment", "web")
        assert (code, "nothing to roll back to" in summary) == (2, True)


async def test_restart_rollout(kube, namespace, scripts):
    """The template gets a new annotation, once an execution."""
    await deployment(kube, namespace)
    assert "restarted deployment web" in (await scripts.run("restart-rollout", "Deployment", "web"))[1]
    notes = (await kube.get(DEPLOYMENT, "web", namespace))["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in notes
    assert "had been restarted" in (await scripts.run("restart-rollout", "Deployment", "web"))[1]
    assert notes == (await kube.get(DEPLOYMENT, "web", namespace))["spec"]["template"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("params", "replicas"),
    [({}, 3), ({"ADD_REPLICAS": "3"}, 5), ({"REPLICAS": "7"}, 7), ({"REPLICAS": "50", "MAX_REPLICAS": "10"}, 10)],
)
async def test_scale_replicas(kube, namespace, scripts, params, replicas):
    """Relative or absolute, within the cap, once an execution."""
    await deployment(kube, namespace)
    for _ in range(2):
        assert (await scripts.run("scale-replicas", "Deployment", "web", **params))[0] == 0
    assert replicas == (await kube.get(DEPLOYMENT, "web", namespace))["spec"]["replicas"]


async def test_an_autoscaler_is_not_fought(kube, namespace, scripts):
    """Its bounds are what would have to change."""
    await deployment(kube, namespace)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    hpa = {"metadata": {"name": "auto"}, "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5}}
    await kube.create(HPA, hpa, namespace)
    code, summary, _ = await scripts.run("scale-replicas", "Deployment", "web")
    assert (code, "HorizontalPodAutoscaler auto owns" in summary) == (2, True)


@pytest.mark.parametrize(("kind", "name"), [("PodDisruptionBudget", "budget"), ("Deployment", "web")])
async def test_relax_pdb(kube, namespace, scripts, kind, name):
    """By its own name or by the workload it guards; the former budget is kept."""
    await deployment(kube, namespace)
    body = {"metadata": {"name": "budget"}, "spec": {"minAvailable": 2, "selector": {"matchLabels": LABELS}}}
    await kube.create(PDB, body, namespace)
    for _ in range(2):
        assert (await scripts.run("relax-pdb", kind, name))[0] == 0
    budget = await kube.get(PDB, "budget", namespace)
    assert (budget["spec"]["maxUnavailable"], "minAvailable" in budget["spec"]) == (1, False)
    assert budget["metadata"]["annotations"]["kubernaut.ai/budget-before"] == '{"minAvailable": 2}'


async def test_no_budget_to_relax(kube, namespace, scripts):
    """A workload without one is left alone."""
    await deployment(kube, namespace)
    code, summary, _ = await scripts.run("relax-pdb", "Deployment", "web")
    assert (code, "found none" in summary) == (2, True)


class TestDeleteStuckPod:
    async def pod(self, kube, namespace, **metadata):
        body = {"metadata": {"name": "web-1", **metadata}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
        return await kube.create(POD, body, namespace)

    async def test_it_is_deleted(self, kube, namespace, scripts):
        """And gone already is success."""
        await self.pod(kube, namespace)
        for said in ("deleted pod web-1", "pod web-1 is gone"):
            code, summary, _ = await scripts.run("delete-stuck-pod", "Pod", "web-1", ALLOW_BARE_POD="true")
            assert (code, said in summary) == (0, True)
        with pytest.raises(NotFound):
            await kube.get(POD, "web-1", namespace)

    async def test_a_bare_pod_is_spared(self, kube, namespace, scripts):
        """Nothing would replace it."""
        await self.pod(kube, namespace)
        code, summary, _ = await scripts.run("delete-stuck-pod", "Pod", "web-1")
        assert (code, "no controller" in summary) == (2, True)

    async def test_a_finalizer_is_told(self, kube, namespace, scripts):
        """What holds a pod back is named, not removed."""
        await self.pod(kube, namespace, finalizers=["example.com/hold"])
        code, summary, _ = await scripts.run(
            "delete-stuck-pod", "Pod", "web-1", ALLOW_BARE_POD="true", WAIT_SECONDS="1"
        )
        assert (code, "example.com/hold" in summary) == (1, True)
        await kube.patch(POD, "web-1", {"metadata": {"finalizers": None}}, namespace)


async def test_cleanup_failed_jobs(kube, namespace, scripts):
    """Only failed ones."""
    now = rfc3339(utcnow())[:19] + "Z"
    pod = {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
    for name, failed in (("good", False), ("bad", True), ("worse", True)):
        await kube.create(JOB, {"metadata": {"name": name}, "spec": {"template": pod}}, namespace)
        if failed:
            conditions = [
                {"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": now}
                for kind in ("FailureTarget", "Failed")
            ]
            status = {"conditions": conditions, "failed": 1, "startTime": now}
            await kube.patch(JOB, name, {"status": status}, namespace, subresource="status")
    assert (await scripts.run("cleanup-failed-jobs", "Job", "good"))[0] == 2
    assert "deleted 1 failed jobs" in (await scripts.run("cleanup-failed-jobs", "Job", "bad"))[1]
    assert "worse" in (await scripts.run("cleanup-failed-jobs", "Job", "any", ALL_IN_NAMESPACE="true"))[1]
    assert [j["metadata"]["name"] for j in (await kube.list(JOB, namespace)).items] == ["good"]


async def test_uncordon_node(kube, namespace, scripts):
    """Only a healthy one."""
    name = f"node-{namespace}"
    await kube.create(NODE, {"metadata": {"name": name}, "spec": {"unschedulable": True}})
    try:
        assert "not Ready" in (await scripts.run("uncordon-node", "Node", name))[1]
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        await kube.patch(NODE, name, {"status": ready}, subresource="status")
        assert (await scripts.run("uncordon-node", "Node", name))[0] == 0
        assert "schedulable already" in (await scripts.run("uncordon-node", "Node", name))[1]
        assert "unschedulable" not in (await kube.get(NODE, name))["spec"]
    finally:
        await kube.delete(NODE, name)


async def test_rights_are_limited(kube, namespace, scripts):
    """The service account cannot do what no workflow needs; a refusal is told in one line."""
    body = workload()
    await kube.create(DEPLOYMENT, body, namespace)
    token = await kube.service_account_token(namespace, "default")
    scripts.kube = _Tokens(token)
    code, summary, _ = await scripts.run("restart-rollout", "Deployment", "web")
    assert (code, "HTTP 403" in summary) == (1, True)


class _Tokens:
    def __init__(self, token):
        self.token = token

    async def service_account_token(self, *_):
        return self.token


async def test_a_whole_pipeline_run(kube, api_server, namespace, account, tmp_path):
    """From a bundle in the layout to a changed Deployment that has rolled out, in a few seconds."""
    folder = MANIFESTS / "workflows" / "increase-memory-limits"
    pushed = Bundles(tmp_path / "bundles").push(folder, reference_for(pack(folder).workflow))
    runner = Runner(kube, Cluster.read(api_server), Stores(tmp_path / "bundles"), tmp_path)
    simulator = Simulator(kube)
    await runner.start()
    await simulator.start()
    try:
        await deployment(kube, namespace)
        params = {
            "TARGET_RESOURCE_KIND": "Deployment",
            "TARGET_RESOURCE_NAME": "web",
            "TARGET_RESOURCE_NAMESPACE": namespace,
        }
        params |= {"TARGET_RESOURCE": f"{namespace}/deployment/web"}
        resolver = [
            {"name": "bundle", "value": str(pushed)},
            {"name": "name", "value": "workflow"},
            {"name": "kind", "value": "pipeline"},
        ]
        body = {
            "metadata": {"name": f"run-{namespace}"},
            "spec": {
                "pipelineRef": {"resolver": "bundles", "params": resolver},
                "params": [{"name": k, "value": v} for k, v in params.items()],
                "taskRunTemplate": {"serviceAccountName": WORKFLOW_SERVICE_ACCOUNT},
            },
        }
        began = time.monotonic()
        await kube.create(PIPELINE_RUN, body, WORKFLOW_NAMESPACE)
        run = {}
        while (run.get("status") or {}).get("completionTime") is None:
            assert time.monotonic() - began < 30, run
            await asyncio.sleep(0.05)
            run = await kube.get(PIPELINE_RUN, body["metadata"]["name"], WORKFLOW_NAMESPACE)
        took = time.monotonic() - began
        assert run["status"]["conditions"][0]["reason"] == "Succeeded", run["status"]
        assert "from web 128Mi to web 256Mi; 2 of 2 replicas" in run["status"]["results"][0]["value"]
        assert pushed.digest == "sha256:" + run["status"]["provenance"]["refSource"]["digest"]["sha256"]
        assert memory(await kube.get(DEPLOYMENT, "web", namespace)) == "256Mi"
        assert took < 10
    finally:
        await simulator.stop()
        await runner.stop()
        await kube.delete(PIPELINE_RUN, body["metadata"]["name"], WORKFLOW_NAMESPACE)
