"""A language model over real HTTP: tools, self-correction, every special outcome, and the limits on what it may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from kubernaut_ray.contracts.catalog import WorkflowPatch
from kubernaut_ray.contracts.investigation import IncidentResponse
from kubernaut_ray.crds.enums import HumanReviewReason, WorkflowStatus
from kubernaut_ray.errors import InvalidInput, Permanent, Retryable
from kubernaut_ray.settings import LlmSettings
from serve_apps.holmesgpt.models.choose import choose_model, credentials
from serve_apps.holmesgpt.models.llm import LanguageModel
from tests.scripted_llm import Calls, Refusal, Script, ScriptedLlm, Text, answer
from tests.serve_apps.holmesgpt.world import HEALTHY, NAMESPACE, failed_before, incident, oom_killed

SEARCH = (
    "search_workflow_catalog",
    {
        "query": "OOMKilled critical increase memory limit",
        "rca_resource": {"signal_type": "OOMKilled", "kind": "Deployment", "name": "web", "namespace": NAMESPACE},
    },
)
PODS = ("workload_pods", {"kind": "Deployment", "name": "web", "namespace": NAMESPACE})


@asynccontextmanager
async def scripted(
    script: Script, *, retries: int = 0, **settings: Any
) -> AsyncIterator[tuple[ScriptedLlm, LanguageModel]]:
    async with ScriptedLlm(script) as server:
        model = LanguageModel(
            LlmSettings(provider="openai", model="scripted", base_url=server.url, **settings),
            "key-123",
            retries=retries,
        )
        try:
            yield server, model
        finally:
            await model.close()


@pytest.fixture
def ask(investigator, world, workflows):
    """Investigate an out-of-memory incident with a script; gives the response and the server."""
    world.deployment(oom_killed(), HEALTHY)

    async def run(*script: Any, request: Any = None, **llm: Any) -> tuple[IncidentResponse, ScriptedLlm]:
        async with scripted(script) as (server, model):
            return await investigator(model, **llm).investigate(request or incident()), server

    return run


@pytest.fixture
def memory(workflows) -> str:
    return str(workflows["increase-memory-limits"].workflow_id)


async def test_tools_then_answer(ask, memory, workflows, facts):
    """The model looks, searches, answers; the workflow is resolved and the target is ours."""
    response, server = await ask(
        Calls.of(PODS),
        Calls.of(SEARCH),
        answer(workflow_id=memory, parameters={"MEMORY_LIMIT": "256Mi", "TARGET_RESOURCE_NAME": "kube-apiserver"}),
    )

    chosen = response.selected_workflow
    assert chosen is not None
    workflow = workflows["increase-memory-limits"]
    assert (chosen.workflow_name, chosen.version) == ("increase-memory-limits", workflow.version)
    assert (chosen.container_image, chosen.container_digest) == (workflow.container_image, workflow.container_digest)
    assert chosen.parameters["TARGET_RESOURCE_NAME"] == "web"
    assert chosen.parameters["TARGET_RESOURCE_KIND"] == "Deployment"
    assert chosen.parameters["MEMORY_LIMIT"] == "256Mi"
    assert any("kube-apiserver" in w for w in response.warnings)
    assert response.model == "openai:scripted"
    assert response.tool_calls == 2
    pods, found = server.tool_results()
    assert "OOMKilled" in pods
    assert memory in found
    assert {"aiagent.llm.request", "aiagent.llm.response", "aiagent.llm.tool_call", "aiagent.workflow.validation_attempt",
            "aiagent.investigation.completed"} <= set(facts.types())  # fmt: skip


async def test_the_prompt_holds_facts_only(ask, memory):
    """No correlation id, no custom label, no judgement reaches the model; the procedure and the tools do."""
    request = incident(enrichment={"customLabels": {"team": ["hidden-team"]}})

    _, server = await ask(Calls.of(SEARCH), answer(workflow_id=memory), request=request)

    assert "rr-1-secret-correlation" not in server.transcript
    assert "hidden-team" not in server.transcript
    assert "KubePodCrashLooping" in server.transcript
    tools = {t["function"]["name"] for t in server.requests[0]["tools"]}
    assert {"kubernetes_get", "workload_pods", "search_workflow_catalog", "get_workflow"} <= tools
    assert server.keys[0] == "Bearer key-123"


CORRECTIONS = [
    ("an unknown workflow id", lambda w: answer(workflow_id="no-such-id"), "no-such-id"),
    ("a parameter of a wrong type", lambda w: answer(workflow_id=w, parameters={"MEMORY_INCREASE_PERCENT": "much"}), "MEMORY_INCREASE_PERCENT"),
    ("a parameter out of range", lambda w: answer(workflow_id=w, parameters={"MEMORY_INCREASE_PERCENT": 4000}), "at most 400"),
    ("a parameter that does not match", lambda w: answer(workflow_id=w, parameters={"MEMORY_LIMIT": "lots"}), "MEMORY_LIMIT"),
    ("an unknown parameter", lambda w: answer(workflow_id=w, parameters={"SIZE": "1"}), "no such parameter"),
    ("another image", lambda w: answer(workflow_id=w, selected_workflow={"workflow_id": w, "confidence": 0.9, "container_image": "evil:1"}), "evil:1"),
    ("prose without JSON", lambda w: Text("Raise the limit."), "no JSON object"),
    ("cut-off JSON", lambda w: Text('```json\n{"root_cause_analysis": {"summary": "x"'), "no JSON object"),
    ("nothing at all", lambda w: Text(""), "no JSON object"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "told"), [c[1:] for c in CORRECTIONS], ids=[c[0] for c in CORRECTIONS])
async def test_a_wrong_answer_is_corrected(ask, memory, wrong, told):
    """What was wrong is said back, with the schema where that helps, and the second answer counts."""
    response, server = await ask(
        Calls.of(SEARCH), wrong(memory), *([wrong(memory)] if told == "no JSON object" else []),
        answer(workflow_id=memory, parameters={"MEMORY_LIMIT": "256Mi"}),
    )  # fmt: skip

    assert response.selected_workflow is not None, response
    history = response.validation_attempts_history
    assert not history[0].is_valid
    assert history[-1].is_valid
    assert told in server.transcript
    assert told in " ".join(history[0].errors)


GIVEN_UP = [
    ("workflow never found", lambda w: answer(workflow_id="no-such-id"), HumanReviewReason.WORKFLOW_NOT_FOUND),
    ("parameters never right", lambda w: answer(workflow_id=w, parameters={"MEMORY_LIMIT": "lots"}), HumanReviewReason.PARAMETER_VALIDATION_FAILED),
    ("image never right", lambda w: answer(workflow_id=w, selected_workflow={"workflow_id": w, "confidence": 0.9, "container_image": "evil:1"}), HumanReviewReason.IMAGE_MISMATCH),
    ("never parseable", lambda w: Text("I think so."), HumanReviewReason.LLM_PARSING_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "reason"), [c[1:] for c in GIVEN_UP], ids=[c[0] for c in GIVEN_UP])
async def test_after_three_attempts_a_person_takes_over(ask, memory, wrong, reason):
    """The reason is that of the last error, the history is complete, nothing is selected."""
    response, _ = await ask(Calls.of(SEARCH), wrong(memory))

    assert response.needs_human_review
    assert response.human_review_reason is reason
    assert response.selected_workflow is None
    assert [a.attempt for a in response.validation_attempts_history] == [1, 2, 3]
    assert not any(a.is_valid for a in response.validation_attempts_history)


async def test_low_confidence_goes_to_a_person(ask, memory):
    """Below 0.70 nothing is selected; what would have been is kept as an alternative."""
    response, _ = await ask(Calls.of(SEARCH), answer(workflow_id=memory, confidence=0.69))

    assert response.human_review_reason is HumanReviewReason.LOW_CONFIDENCE
    assert response.selected_workflow is None
    assert response.alternative_workflows[0].workflow_id == memory
    assert response.root_cause_analysis.summary


@pytest.mark.parametrize(
    ("turn", "resolved", "reason"),
    [
        (answer(outcome="resolved", confidence=0.9), True, None),
        (answer(outcome="resolved", confidence=0.6), False, HumanReviewReason.INVESTIGATION_INCONCLUSIVE),
        (answer(outcome="inconclusive", confidence=0.3), False, HumanReviewReason.INVESTIGATION_INCONCLUSIVE),
    ],
    ids=["resolved", "resolved without confidence", "inconclusive"],
)
async def test_special_outcomes(ask, turn, resolved, reason):
    """The model may say that it is over, or that it does not know."""
    response, _ = await ask(turn)

    assert (response.resolved, response.human_review_reason) == (resolved, reason)
    assert response.selected_workflow is None


async def test_no_workflow_needs_a_search_first(ask):
    """'Nothing fits' counts only from somebody who looked."""
    response, _server = await ask(answer(workflow_id=None), Calls.of(SEARCH), answer(workflow_id=None))

    assert response.human_review_reason is HumanReviewReason.NO_MATCHING_WORKFLOWS
    assert [a.is_valid for a in response.validation_attempts_history] == [False, True]


async def test_a_name_in_place_of_the_id_is_understood(ask, memory):
    """A workflow of the search results may be named."""
    response, _ = await ask(Calls.of(SEARCH), answer(workflow_id="increase-memory-limits"))

    assert response.selected_workflow is not None
    assert response.selected_workflow.workflow_id == memory


async def test_a_disabled_workflow_is_refused(ask, storage, memory):
    """A workflow that was disabled since is not selected."""
    await storage.patch_workflow(memory, WorkflowPatch(status=WorkflowStatus.DISABLED, reason="broken"))

    response, server = await ask(answer(workflow_id=memory))

    assert response.human_review_reason is HumanReviewReason.WORKFLOW_NOT_FOUND
    assert "disabled" in server.transcript


async def test_a_failed_attempt_is_not_repeated(ask, memory, workflows):
    """A recovery refuses the same workflow with the same parameters, and takes it with others."""
    before = failed_before(workflows["increase-memory-limits"], {"MEMORY_LIMIT": "256Mi", **_target()})
    request = incident(previous_executions=(before,))

    response, server = await ask(
        Calls.of(SEARCH),
        answer(workflow_id=memory, parameters={"MEMORY_LIMIT": "256Mi"}),
        answer(workflow_id=memory, parameters={"MEMORY_LIMIT": "512Mi"},
               recovery_analysis={"previous_attempt_assessment": {"failure_understood": True, "failure_reason_analysis": "too little"},
                                  "state_changed": False, "current_signal_type": "OOMKilled"}),
        request=request,
    )  # fmt: skip

    assert "Recovery Analysis Request (Attempt 1)" in server.transcript
    assert "failed attempt 1" in " ".join(response.validation_attempts_history[0].errors)
    assert response.selected_workflow is not None
    assert response.selected_workflow.parameters["MEMORY_LIMIT"] == "512Mi"
    assert response.recovery_analysis is not None
    assert response.recovery_analysis.failure_understood


async def test_a_loop_of_tool_calls_is_cut_off(ask):
    """The same call over and over costs little and ends in a person's hands."""
    response, server = await ask(Calls.of(PODS), max_tool_calls=4)

    assert response.human_review_reason is HumanReviewReason.INVESTIGATION_INCONCLUSIVE
    assert len(server.requests) <= 40
    results = server.tool_results()
    assert "made this very call before" in results[1]
    assert "budget of 4 tool calls" in results[-1]


async def test_every_tool_call_gets_a_result(ask, memory):
    """Wrong names, wrong arguments and broken JSON are answered, and the investigation goes on."""
    response, server = await ask(
        Calls.of(("no_such_tool", {})),
        Calls.of(("kubernetes_get", {"kind": "Deployment"})),
        Calls.of(("kubernetes_get", "{not json")),
        Calls.of(("kubernetes_get", {"kind": "Flux", "name": "x"}), PODS),
        Calls.of(SEARCH),
        answer(workflow_id=memory),
    )

    assert response.selected_workflow is not None
    calls = [c["id"] for m in server.requests[-1]["messages"] for c in m.get("tool_calls") or ()]
    results = [m["tool_call_id"] for m in server.requests[-1]["messages"] if m["role"] == "tool"]
    assert sorted(calls) == sorted(results)
    assert len(calls) == 6


async def test_secrets_never_reach_the_model(ask, world, memory):
    """Neither the prompt, nor a tool's result, nor the answer carries a secret."""
    world.kube.log_texts["web-1-0"] = "connecting to postgres://app:hunter2@db/app with token=hunter2\n"
    request = incident(
        description="login failed: password=hunter2",
        signal_annotations={"runbook": "https://bob:hunter2@wiki.example/x"},
    )

    response, server = await ask(
        Calls.of(("pod_logs", {"namespace": NAMESPACE, "pod": "web-1-0"})),
        Calls.of(SEARCH),
        answer(workflow_id=memory, summary="the password=hunter2 leaks", evidence=["token: hunter2"]),
        request=request,
    )

    assert "hunter2" not in server.transcript
    assert "[REDACTED]" in server.tool_results()[0]
    assert "hunter2" not in response.model_dump_json()


async def test_the_provider_is_retried(investigator, world, memory):
    """429 and 500 pass by; the investigation does not notice."""
    world.deployment(oom_killed())
    script = [Refusal(429, headers={"Retry-After": "0"}), Calls.of(SEARCH), Refusal(500, headers={"Retry-After": "0"}), answer(workflow_id=memory)]  # fmt: skip

    async with scripted(script, retries=3) as (_, model):
        response = await investigator(model).investigate(incident())

    assert response.selected_workflow is not None


@pytest.mark.parametrize(
    ("turn", "kind"),
    [(Refusal(429), Retryable), (Refusal(503), Retryable), (Refusal(401), Permanent), (Refusal(404), Permanent)],
    ids=["limited", "away", "wrong key", "unknown model"],
)
async def test_a_provider_that_stays_away(ask, facts, turn, kind):
    """What a retry may mend is retryable; a wrong key or model is not. The failure is on record."""
    with pytest.raises(kind) as caught:
        await ask(turn)

    assert "key-123" not in str(caught.value)
    assert "aiagent.investigation.failed" in facts.types()


async def test_an_investigation_has_an_end(ask):
    """A model that takes too long is cut off."""
    with pytest.raises(Retryable, match="cut off"):
        await ask(Calls.of(PODS), Calls.of(SEARCH), investigation_timeout=0.01)


@pytest.mark.parametrize(
    ("settings", "environment", "key"),
    [
        ({"provider": "evidence"}, {}, ""),
        ({"provider": "openai", "model": "m"}, {"OPENAI_API_KEY": "k"}, "k"),
        ({"provider": "anthropic", "model": "m"}, {"ANTHROPIC_API_KEY": "k"}, "k"),
        ({"provider": "openai", "model": "m", "api_key": SecretStr("s")}, {"OPENAI_API_KEY": "k"}, "s"),
        ({"provider": "openai", "model": "m"}, {"KUBERNAUT_LLM__API_KEY": "own", "OPENAI_API_KEY": "k"}, "own"),
        ({"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:8000/v1"}, {}, "none"),
        ({"provider": "openai", "model": "m", "base_url": "http://llm.ai.svc:8000/v1"}, {}, "none"),
    ],
)
def test_credentials(settings, environment, key):
    """Keys come from the settings or the environment; private endpoints need none."""
    assert credentials(LlmSettings(**settings), environment) == key


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"provider": "openai", "model": "m"}, "OPENAI_API_KEY"),
        ({"provider": "anthropic", "model": "m"}, "ANTHROPIC_API_KEY"),
        ({"provider": "openai", "model": "m", "base_url": "https://llm.example/v1"}, "OPENAI_API_KEY"),
        ({"provider": "openai", "base_url": "http://127.0.0.1/v1"}, "--llm-model"),
    ],
)
def test_what_cannot_work_fails_at_the_start(settings, told):
    """Missing credentials or a missing model are told before the first incident."""
    with pytest.raises(InvalidInput, match=told):
        choose_model(LlmSettings(**settings), {}, lambda: None)


def _target() -> dict[str, str]:
    return {"TARGET_RESOURCE_KIND": "Deployment", "TARGET_RESOURCE_NAME": "web", "TARGET_RESOURCE_NAMESPACE": NAMESPACE}
