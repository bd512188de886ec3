"""The whole analysis against a real API server over HTTPS: AIAnalysis → session → evidence → catalog → policy → Completed.

True of any cluster: the Deployment is paused and its pod fits no node, so nobody but the test writes their status.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.ai_analysis.controller import AIAnalysisController
from kubernaut_ray import shipped
from kubernaut_ray.clients.holmesgpt import HolmesGpt
from kubernaut_ray.clock import utcnow
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.enums import AIAnalysisPhase
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.policy.check import APPROVAL
from kubernaut_ray.policy.engine import PolicyEngine
from kubernaut_ray.settings import AnalysisSettings, LlmSettings, Settings
from serve_apps.holmesgpt.app import Deps, create_app
from serve_apps.holmesgpt.cluster import Cluster
from serve_apps.holmesgpt.investigate import Investigator
from serve_apps.holmesgpt.metrics import Metrics
from serve_apps.holmesgpt.models.evidence import EvidenceModel
from serve_apps.holmesgpt.sessions import Sessions
from tests import build
from tests.serve_apps.holmesgpt.conftest import served
from tests.serve_apps.holmesgpt.world import oom_killed

LABELS = {"app": "web"}
CONTAINER = {"name": "app", "image": "registry.local/web:1.0", "resources": {"limits": {"memory": "128Mi"}}}


async def break_something(kube: KubeClient, namespace: str) -> None:
    """A Deployment whose only pod is out of memory."""
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER]}}
    spec = {"replicas": 1, "paused": True, "selector": {"matchLabels": LABELS}, "template": template}
    await kube.create(resources.DEPLOYMENT, {"metadata": {"name": "web", "namespace": namespace}, "spec": spec})
    pod = {
        "metadata": {"name": "web-0", "namespace": namespace, "labels": LABELS},
        "spec": {"containers": [CONTAINER], "nodeSelector": {"kubernetes.io/hostname": "nowhere"}},
    }
    await kube.create(resources.POD, pod)
    ended = {"name": "app", "image": CONTAINER["image"], "imageID": "", **oom_killed()}
    ended["lastState"]["terminated"] |= {"startedAt": "2026-03-01T11:00:00Z", "finishedAt": "2026-03-01T11:59:00Z"}
    status = {"phase": "Running", "containerStatuses": [ended]}
    await kube.patch(resources.POD, "web-0", {"status": status}, namespace, subresource="status")


def analysis(namespace: str) -> dict[str, Any]:
    found = build.ai_analysis(build.remediation_request(), phase=None)
    target = build.TARGET.replace(namespace=namespace)
    signal = found.spec.analysis_request.signal_context.replace(
        environment="staging", business_priority="P2", target_resource=target
    )
    body = found.replace(
        spec=found.spec.replace(analysis_request=found.spec.analysis_request.replace(signal_context=signal))
    ).to_object()
    return {"metadata": {"name": found.name, "namespace": namespace}, "spec": body["spec"]}


@pytest.mark.integration
async def test_an_analysis_ends_on_a_real_api_server(kube, namespace, storage, facts):
    """The status is what the CRD takes, the workflow is pinned, and the policy lets it run by itself in staging."""
    await break_something(kube, namespace)
    await kube.create(resources.AI_ANALYSIS, analysis(namespace))
    investigator = Investigator(
        model=EvidenceModel(utcnow), catalog=storage, cluster=Cluster(kube), audit=facts, clock=utcnow, llm=LlmSettings(),
        analysis=AnalysisSettings(), metrics=Metrics(),
    )  # fmt: skip

    async def close() -> None:
        """The fixtures close what they opened."""

    deps = Deps(
        investigator=investigator, sessions=Sessions(storage, investigator.investigate, utcnow, 4), settings=Settings(), gate=None,
        clock=utcnow, metrics=Metrics(), reach=lambda: storage.workflows(limit=1), close=close,
    )  # fmt: skip
    async with served(create_app(deps)) as url:
        controller = AIAnalysisController(
            kube, Settings(), HolmesGpt(url, lambda: ""), PolicyEngine(shipped.directory() / "policies", APPROVAL)
        )
        await controller.start()
        reconcile = Reconciler(controller, kube, facts, clock=utcnow)
        key = Key(namespace, "ai-rr-1")
        try:
            async with asyncio.timeout(30):
                while (await reconcile(key)).new_phase not in {"Completed", "Failed"}:
                    await asyncio.sleep(0.02)
        finally:
            await controller.stop()

    ended = AIAnalysis.from_object(await kube.get(resources.AI_ANALYSIS, "ai-rr-1", namespace)).status
    assert ended.phase is AIAnalysisPhase.COMPLETED, ended.message
    assert ended.approval_required is False, ended.approval_reason
    assert ended.selected_workflow is not None
    assert ended.selected_workflow.parameters["TARGET_RESOURCE_NAMESPACE"] == namespace
    assert ended.selected_workflow.parameters["MEMORY_LIMIT"] == "256Mi"
    assert ended.selected_workflow.container_digest.startswith("sha256:")
