"""An OpenAI-compatible server that replays scripted answers over real HTTP and keeps what it was asked.

A script is a list of turns, one for each chat completion; a turn is a ``Text``, ``Calls`` of tools, a ``Refusal``, or a
function of the request that returns one. When the script has ended the last turn is repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True)
class Text:
    """The final answer."""

    text: str


@dataclass(frozen=True)
class Calls:
    """Tool calls: (name, arguments) pairs; arguments as text are sent as they are, valid JSON or not."""

    calls: tuple[tuple[str, dict[str, Any] | str], ...]

    @classmethod
    def of(cls, *calls: tuple[str, dict[str, Any] | str]) -> Self:
        return cls(calls)


@dataclass(frozen=True)
class Refusal:
    """An HTTP error."""

    status: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


Turn = Text | Calls | Refusal
Script = Sequence[Turn | Callable[[dict[str, Any]], Turn]]


class ScriptedLlm:
    """Use as an async context manager; ``url`` is the base URL for clients, ``requests`` what came, in order."""

    def __init__(self, script: Script = ()) -> None:
        self.script: list[Turn | Callable[[dict[str, Any]], Turn]] = list(script)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def transcript(self) -> str:
        """Everything that was ever sent to the model, as one text."""
        return json.dumps(self.requests, ensure_ascii=False)

    def tool_results(self) -> list[str]:
        """What the tools answered, in order, as the last request shows it."""
        return [m["content"] for m in self.requests[-1]["messages"] if m["role"] == "tool"]

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        number = len(self.requests)
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        turn = self.script[min(number, len(self.script) - 1)]
        if callable(turn):
            turn = turn(body)
        if isinstance(turn, Refusal):
            error = {"error": {"message": turn.message, "type": "scripted", "code": str(turn.status)}}
            return web.json_response(error, status=turn.status, headers=turn.headers)
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if isinstance(turn, Text):
            message["content"] = turn.text
        else:
            message["tool_calls"] = [
                {
                    "id": f"call_{number}_{index}",
                    "type": "function",
                    "function": {"name": name, "arguments": args if isinstance(args, str) else json.dumps(args)},
                }
                for index, (name, args) in enumerate(turn.calls)
            ]
        return web.json_response(
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": 1_770_000_000 + number,
                "model": body.get("model", "scripted"),
                "choices": [
                    {
                        "index": 0,
                        "message": message,
                        "finish_reason": "stop" if isinstance(turn, Text) else "tool_calls",
                    }
                ],
                "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
            }
        )


def answer(
    *,
    workflow_id: str | None = None,
    confidence: float = 0.9,
    outcome: str = "actionable",
    signal_type: str = "OOMKilled",
    summary: str = "The container needs more memory than its limit.",
    parameters: dict[str, Any] | None = None,
    **rest: Any,
) -> Text:
    """An answer in the form of the contract."""
    selected = (
        {"workflow_id": workflow_id, "confidence": confidence, "rationale": "it fits", "parameters": parameters or {}}
        if workflow_id
        else None
    )
    body = {
        "root_cause_analysis": {
            "summary": summary,
            "severity": "high",
            "signal_type": signal_type,
            "contributing_factors": ["a small limit"],
        },
        "confidence": confidence,
        "investigation_outcome": outcome,
        "selected_workflow": selected,
        **rest,
    }
    return Text(f"I looked at it.\n\n```json\n{json.dumps(body)}\n```")
