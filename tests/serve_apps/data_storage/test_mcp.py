"""The MCP server over real HTTP with real clients: the ``mcp`` package's in both eras of the protocol, and pydantic-ai's."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from pydantic_ai.mcp import MCPToolset
from starlette.types import ASGIApp, Receive, Scope, Send

from kubernaut_ray.contracts.statistics import ExecutionRecord
from serve_apps.data_storage.mcp_tools import BY_NAME, TOOLS
from serve_apps.holmesgpt.toolsets import CatalogTools
from tests import build
from tests.serve_apps.data_storage.world import MEMORY, NODE, SHELF, Doorman, World, world
from tests.serve_apps.holmesgpt.world import incident
from tests.serving import serving

ERAS = ("legacy", "auto", "2026-07-28")
ASK = {
    "query": "OOMKilled critical increase memory limit",
    "rca_resource": {"kind": "Deployment", "name": "web", "namespace": "shop", "signal_type": "KubeContainerOOMKilled"},
}


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, Doorman()) as made:
        yield made


@asynccontextmanager
async def connected(url: str, era: str = "auto", token: str = "ann") -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        create_mcp_http_client(headers=headers) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=era) as client,
    ):
        yield client


def below(prefix: str, app: ASGIApp) -> ASGIApp:
    """The app as Ray Serve mounts it: the prefix is in ``root_path`` and in ``path``."""

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": prefix} if scope["type"] == "http" else scope, receive, send)

    return mounted


async def ask(client: Client, tool: str, **arguments: Any) -> Any:
    """Call a tool that must answer; check both forms of its answer."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert json.loads(result.content[0].text) == result.structured_content
    jsonschema.validate(result.structured_content, BY_NAME[tool].answer.model_json_schema())
    return result.structured_content


@pytest.mark.parametrize("era", ERAS)
async def test_walk_through_the_tools(stored, era):
    """In every era of the protocol: the tools are listed, read-only, described; the catalog is walked from action to workflow."""
    async with serving(stored.app) as url, connected(url, era) as client:
        tools = (await client.list_tools()).tools
        assert [t.name for t in tools] == [t.name for t in TOOLS]
        assert all(t.annotations.read_only_hint and t.description and t.output_schema for t in tools)
        assert "confidence" not in str([t.output_schema["properties"].keys() for t in tools])

        found = await ask(client, "search_workflow_catalog", **ASK)
        assert [w["name"] for w in found["workflows"]] == ["increase-memory-limits"]
        assert found["signal_type"] == "OOMKilled"
        assert 0 < found["workflows"][0]["relevance"] <= 1
        assert [p["name"] for p in found["workflows"][0]["parameters"]] == ["MEMORY_LIMIT"]

        acts = await ask(client, "list_available_actions")
        assert [a["action_type"] for a in acts["actions"]] == sorted(w.action_type for w in SHELF)
        assert acts["actions"][0]["uses"][0]["when_to_use"] == MEMORY.description.when_to_use
        first = await ask(client, "list_available_actions", limit=1)
        assert (first["total"], first["has_more"], len(first["actions"])) == (3, True, 1)

        listed = await ask(client, "list_workflows", component="Node")
        assert [w["name"] for w in listed["workflows"]] == ["uncordon-node"]
        assert listed["workflows"][0]["labels"]["environment"] == "staging"
        assert (await ask(client, "list_workflows", component="Node", filters={"environment": "prod"}))["total"] == 0
        assert (await ask(client, "list_workflows", action_type="rollbackdeployment"))["total"] == 1

        await stored.catalog.record_execution(ExecutionRecord(workflow_id=MEMORY.workflow_id, success=True))
        read = await ask(client, "get_workflow", name="increase-memory-limits")
        assert read["container_image"] == MEMORY.pinned_image
        assert (read["success_rate"], read["status"], "content" in read and read["content"]) == (1.0, "active", "")
        again = await ask(client, "get_workflow", workflow_id=MEMORY.workflow_id, include_content=True)
        assert again["content"] == MEMORY.content


async def test_versions(stored):
    """A name is its newest version; an older one is read by its version."""
    await stored.register(build.workflow(version="2.0.0", labels=MEMORY.labels))
    async with serving(stored.app) as url, connected(url) as client:
        assert (await ask(client, "get_workflow", name=MEMORY.workflow_name))["version"] == "2.0.0"
        old = await ask(client, "get_workflow", name=MEMORY.workflow_name, version="1.0.0")
        assert (old["version"], old["is_latest_version"]) == ("1.0.0", False)
        assert (await ask(client, "list_workflows"))["total"] == 3


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("get_workflow", {}, "give workflow_id, or name"),
        ("get_workflow", {"name": "uncordon-nod"}, "uncordon-node"),
        ("search_workflow_catalog", {"query": "x"}, "rca_resource: Field required"),
        ("search_workflow_catalog", {**ASK, "top_k": 11}, "top_k"),
        ("search_workflow_catalog", {**ASK, "query": "  "}, "query is empty"),
        ("search_workflow_catalog", {**ASK, "filters": {"envronment": "prod"}}, "envronment"),
        ("list_workflows", {"limit": 101}, "limit"),
    ],
    ids=["no name", "misspelt name", "no resource", "too many", "blank query", "misspelt filter", "page too large"],
)
async def test_refusals_are_results_that_a_model_can_act_on(stored, tool, arguments, told):
    """What a model does wrong is told in the result, with what would be right."""
    async with serving(stored.app) as url, connected(url) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert told in result.content[0].text


async def test_unknown_tool_is_a_protocol_error(stored):
    """A tool that is not there is told with those that are."""
    async with serving(stored.app) as url, connected(url) as client:
        with pytest.raises(MCPError, match="search_workflow_catalog"):
            await client.call_tool("drop_tables", {})


async def test_owner_away(stored):
    """Without the owner a held snapshot still answers searches; a record says to try again."""
    async with serving(stored.app) as url, connected(url) as client:
        await ask(client, "list_workflows")
        stored.transport.away = True
        stored.catalog._heard_at = float("inf")  # the last word of the owner was just now
        assert (await ask(client, "list_workflows"))["total"] == 3
        result = await client.call_tool("get_workflow", {"name": "uncordon-node"})
    assert result.is_error
    assert "Try again in 2 s" in result.content[0].text


async def test_signal_type_falls_back_as_one_question(stored):
    """An unusual word for a signal does not hide what fits, and the trail holds one search for it."""
    resource = {"kind": "Node", "name": "n1", "signal_type": "NodeFeelsOdd"}
    async with serving(stored.app) as url, connected(url) as client:
        found = await ask(
            client,
            "search_workflow_catalog",
            query="node cordoned",
            rca_resource=resource,
            remediation_id="rr-7",
        )
    assert [w["name"] for w in found["workflows"]] == ["uncordon-node"]
    (event,) = stored.trail.events
    assert (event.correlation_id, event.event_data["results"][0]["workflow_id"]) == ("rr-7", NODE.workflow_id)


async def test_nothing_found_says_what_to_do(stored):
    """An empty answer is an answer."""
    async with serving(stored.app) as url, connected(url) as client:
        found = await ask(
            client,
            "search_workflow_catalog",
            query="volume full",
            rca_resource={"kind": "PersistentVolume", "name": "v"},
        )
    assert (found["workflows"], found["total_matched"]) == ([], 0)
    assert "hand over to a person" in found["hint"]


async def test_below_a_route_prefix_with_pydantic_ai(stored):
    """The client that agents are built with, through a prefix as Ray Serve has it."""
    async with serving(below("/storage", stored.app)) as url:
        toolset = MCPToolset(f"{url}/storage/mcp", headers={"Authorization": "Bearer ann"})
        async with toolset:
            assert {t.name for t in await toolset.list_tools()} == set(BY_NAME)
            found = await toolset.direct_call_tool("search_workflow_catalog", ASK)
    assert found["workflows"][0]["name"] == "increase-memory-limits"


async def test_the_same_door(stored):
    """No token is 401, one that may not is 403, foreign pages are refused, and there is neither a stream nor a session."""
    ann = {"authorization": "Bearer ann", "accept": "application/json, text/event-stream"}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with serving(stored.app) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/mcp", json=ping)).status_code == 401
        assert (await http.post("/mcp", json=ping, headers={"authorization": "Bearer bob"})).status_code == 403
        foreign = await http.post("/mcp", json=ping, headers={**ann, "origin": "https://evil.example"})
        assert (foreign.status_code, foreign.headers["content-type"]) == (403, "application/problem+json")
        assert (await http.post("/mcp", content="x", headers=ann)).status_code == 415
        for method in ("GET", "DELETE"):
            answer = await http.request(method, "/mcp", headers=ann)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        pong = await http.post("/mcp", json=ping, headers=ann)
        assert (pong.status_code, pong.json()["result"]) == (200, {})
        assert "mcp-session-id" not in pong.headers
        broken = await http.post("/mcp", content="{", headers={**ann, "content-type": "application/json"})
        assert (broken.status_code, broken.json()["error"]["code"]) == (400, -32700)


async def test_a_failure_tells_nothing(stored, monkeypatch):
    """What goes wrong inside is in the log, not in the answer."""
    monkeypatch.setattr("serve_apps.data_storage.searching.snapshot_of", None)
    async with serving(stored.app) as url, connected(url) as client:
        result = await client.call_tool("list_workflows", {})
    assert result.is_error
    assert result.content[0].text == "list_workflows failed; the log of Data Storage has the cause"


async def test_investigations_ask_the_same_question(stored):
    """The tool of an investigation and the one of MCP have one name, one text and one set of arguments."""
    own = CatalogTools(None, incident()).tools()[0]
    theirs = BY_NAME[own.name]
    assert (own.name, own.description) == (theirs.name, theirs.description)
    ours = own.arguments.model_json_schema()["properties"]
    shared = {
        name: schema for name, schema in theirs.arguments.model_json_schema()["properties"].items() if name in ours
    }
    assert shared == ours


def test_replicas_without_mcp_clients_stay_light():
    """The package is imported by the first request, not by the app: it costs a second of CPU and 18 MiB."""
    code = "import sys, serve_apps.data_storage.app; sys.exit('mcp' in sys.modules or 'mcp_types' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_many_at_once(stored):
    """Requests share nothing: forty at a time are forty answers, and none leaves anything behind."""
    headers = {"authorization": "Bearer ann", "accept": "application/json"}
    call = {"name": "search_workflow_catalog", "arguments": ASK}
    async with serving(stored.app) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        before = len(asyncio.all_tasks())
        answers = await asyncio.gather(
            *(
                http.post("/mcp", json={"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": call})
                for n in range(40)
            )
        )
        assert [a.json()["id"] for a in answers] == list(range(40))
        assert all(a.json()["result"]["structuredContent"]["total_matched"] == 1 for a in answers)
        await http.aclose()
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)
