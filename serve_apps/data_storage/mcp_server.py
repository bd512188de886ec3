"""The workflow catalog as an MCP server: streamable HTTP without sessions, each request complete in itself.

Imported when the first client comes (``mcp_route``). A session would live in one replica and die with it, so there is none: a
request gets a transport of its own that ends with it, and its answer is one JSON document. Refusals of a tool are results
that say ``isError``, in words that a model can act on; unknown tools are protocol errors.
"""

from __future__ import annotations

import logging
from typing import Any

import mcp_types as types
import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from kubernaut_ray import __version__
from kubernaut_ray.errors import InvalidInput, KubernautError, Retryable
from serve_apps.data_storage.deps import Deps
from serve_apps.data_storage.mcp_tools import BY_NAME, TOOLS

INSTRUCTIONS = (
    "The catalog of remediation workflows of this Kubernetes platform. Investigate first; then search with the root cause you "
    "found. A relevance orders answers and says nothing about how sure you may be. Nothing here changes anything."
)
READ_ONLY = types.ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)

log = structlog.get_logger(__name__)
logging.getLogger("mcp").setLevel(logging.WARNING)  # It tells of the beginning and end of every request otherwise.


async def handle(deps: Deps, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Answer one request whose body was read already."""
    manager = StreamableHTTPSessionManager(_server(deps), json_response=True, stateless=True)
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    async with manager.run():
        await manager.handle_request(scope, replay, send)


def _server(deps: Deps) -> Server[Any]:
    async def list_tools(
        _: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        del params
        return types.ListToolsResult(tools=list(_LISTED))

    async def call_tool(_: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
        return await call(deps, params.name, params.arguments or {})

    return Server(
        "kubernaut-catalog",
        title="Kubernaut workflow catalog",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def call(deps: Deps, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
    """Run a tool. Whatever it refuses is a result; only an unknown tool is a protocol error."""
    tool = BY_NAME.get(name)
    if tool is None:
        raise MCPError(types.INVALID_PARAMS, f"there is no tool {name[:100]!r}; there are: {', '.join(BY_NAME)}")
    try:
        answer = await tool.run(deps, tool.arguments.model_validate(arguments))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
        return _refusal(f"Wrong arguments for {name}: {problems}")
    except Retryable as error:
        return _refusal(f"{name} cannot be answered now: {error}. Try again in {round(error.after or 1)} s.")
    except InvalidInput as error:
        return _refusal(f"{name}: {error}")
    except KubernautError as error:
        return _refusal(f"{name} failed: {error}")
    except Exception:
        log.exception("mcp.tool_failed", tool=name)
        return _refusal(f"{name} failed; the log of Data Storage has the cause")
    text = answer.model_dump_json(exclude_none=True)
    return types.CallToolResult(
        content=[types.TextContent(text=text)], structured_content=answer.model_dump(mode="json", exclude_none=True)
    )


def _refusal(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


_LISTED = tuple(
    types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.arguments.model_json_schema(),
        output_schema=tool.answer.model_json_schema(),
        annotations=READ_ONLY,
    )
    for tool in TOOLS
)
