"""The HolmesGPT-API over real HTTP, with its own client, and the AIAnalysis controller driving it to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from actors.ai_analysis.controller import AIAnalysisController
from kubernaut_ray import shipped
from kubernaut_ray.clients.holmesgpt import HolmesGpt
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.investigation import SessionState
from kubernaut_ray.control.decision import Key
from kubernaut_ray.control.reconcile import Reconciler
from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.enums import AIAnalysisPhase
from kubernaut_ray.errors import InvalidInput, Permanent, Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import UserInfo
from kubernaut_ray.policy.check import APPROVAL
from kubernaut_ray.policy.engine import PolicyEngine
from kubernaut_ray.settings import LlmSettings, Settings
from serve_apps.holmesgpt.app import Deps, create_app
from serve_apps.holmesgpt.metrics import Metrics
from serve_apps.holmesgpt.sessions import Sessions
from tests import build
from tests.serve_apps.holmesgpt.conftest import served
from tests.serve_apps.holmesgpt.world import HEALTHY, incident, oom_killed


class OneToken:
    """Lets ``token`` in; ``guest`` may look only."""

    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo(token) if token in {"token", "guest"} else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        return resource == "investigations" and (user.username == "token" or verb == "get")


@pytest.fixture
async def url(investigator, storage) -> AsyncIterator[str]:
    inner = investigator()
    metrics = inner.metrics
    settings = Settings(llm=LlmSettings(api_key=SecretStr("very-secret")))

    async def close() -> None:
        """The fixtures close what they opened."""

    deps = Deps(
        investigator=inner,
        sessions=Sessions(storage, inner.investigate, utcnow, 4),
        settings=settings,
        gate=OneToken(),
        clock=utcnow,
        metrics=metrics if isinstance(metrics, Metrics) else Metrics(),
        reach=lambda: storage.workflows(limit=1),
        close=close,
    )
    async with served(create_app(deps)) as base:
        yield base


async def get(url: str, token: str = "token") -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Authorization": f"Bearer {token}"}) as answer,
    ):
        return answer.status, await answer.json() if "json" in answer.content_type else await answer.text()


async def post(url: str, body: Any, token: str = "token") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_the_client_starts_and_looks(url, world):
    """Start, look until it is done; an unknown id is ``None``."""
    world.deployment(oom_killed(), HEALTHY)
    async with HolmesGpt(url, lambda: "token") as client:
        assert await client.get("nobody") is None
        started = await client.start("s-1", incident())
        assert started.state is SessionState.PENDING
        async with asyncio.timeout(10):
            while (session := await client.get("s-1")) is None or session.state is not SessionState.DONE:
                await asyncio.sleep(0.02)

    assert session.response is not None
    assert session.response.selected_workflow is not None
    assert session.response.selected_workflow.workflow_name == "increase-memory-limits"


@pytest.mark.parametrize(
    ("token", "kind"),
    [("wrong", Permanent), ("guest", Permanent)],
    ids=["an unknown token", "somebody who may only look"],
)
async def test_the_client_says_who_is_refused(url, token, kind):
    """401 and 403 are permanent, and no token is told."""
    async with HolmesGpt(url, lambda: token) as client:
        with pytest.raises(kind) as caught:
            await client.start("s-1", incident())

    assert not isinstance(caught.value, InvalidInput)
    assert caught.value.reason == "Forbidden"


async def test_the_client_says_when_nobody_answers():
    """A service that is not there is worth another try."""
    async with HolmesGpt("http://127.0.0.1:9", lambda: "token") as client:
        with pytest.raises(Retryable, match="no answer"):
            await client.get("s-1")


async def test_synchronous_routes(url, world, workflows):
    """One request, one answer; a recovery needs its history."""
    world.deployment(oom_killed(), HEALTHY)

    status, answer = await post(f"{url}/api/v1/incident/analyze", incident().to_json())
    assert (status, answer["selected_workflow"]["workflow_name"]) == (200, "increase-memory-limits")

    status, problem = await post(f"{url}/api/v1/recovery/analyze", incident().to_json())
    assert status == 400
    assert problem["type"].endswith("validation-error")


@pytest.mark.parametrize("body", [{}, {"session_id": "s"}, {"session_id": "", "request": {}}, [], "text"])
async def test_bad_input_is_told_field_by_field(url, body):
    """RFC 7807 with the fields that are wrong."""
    status, problem = await post(f"{url}/api/v1/investigations", body)

    assert status == 400
    assert problem["field_errors"]
    assert problem["request_id"]


async def test_an_unknown_session_is_404(url):
    status, problem = await get(f"{url}/api/v1/investigations/nobody")

    assert status == 404
    assert "POST /api/v1/investigations" in problem["detail"]


async def test_probes_and_configuration(url):
    """Health, readiness and metrics are open; the configuration shows no secret."""
    assert (await get(f"{url}/health", ""))[0] == 200
    assert (await get(f"{url}/ready", ""))[0] == 200
    assert "holmesgpt_api_investigations_total" in (await get(f"{url}/metrics", ""))[1]
    status, config = await get(f"{url}/config")
    assert (status, config["model"], config["llm"]["api_key_set"]) == (200, "evidence", True)
    assert "very-secret" not in str(config)
    assert (await get(f"{url}/config", "wrong"))[0] == 401


async def test_the_controller_drives_it_to_the_end(url, world, facts):
    """AIAnalysis → session → evidence → catalog → policy → Completed, all parts real but the cluster."""
    world.deployment(oom_killed(), HEALTHY)
    found = build.ai_analysis(build.remediation_request(), phase=None)
    signal = found.spec.analysis_request.signal_context.replace(environment="staging", business_priority="P2")
    found = found.replace(
        spec=found.spec.replace(analysis_request=found.spec.analysis_request.replace(signal_context=signal))
    )
    await world.kube.create(resources.AI_ANALYSIS, {k: v for k, v in found.to_object().items() if k != "status"})
    controller = AIAnalysisController(
        world.kube,
        Settings(),
        HolmesGpt(url, lambda: "token"),
        PolicyEngine(shipped.directory() / "policies", APPROVAL),
    )
    await controller.start()
    reconcile = Reconciler(controller, world.kube, facts, clock=world.now)
    key = Key(found.namespace, found.name)
    try:
        async with asyncio.timeout(20):
            while True:
                outcome = await reconcile(key)
                if outcome.new_phase in {"Completed", "Failed"}:
                    break
                await asyncio.sleep(0.02)
    finally:
        await controller.stop()

    ended = AIAnalysis.from_object(await world.kube.get(resources.AI_ANALYSIS, found.name, found.namespace)).status
    assert ended.phase is AIAnalysisPhase.COMPLETED, ended.message
    assert ended.approval_required is False, ended.approval_reason
    assert ended.selected_workflow is not None
    assert ended.selected_workflow.workflow_name == "increase-memory-limits"
    assert ended.investigated_by == "evidence"
    assert {"aianalysis.analysis.completed", "aiagent.investigation.completed"} <= set(facts.types())
