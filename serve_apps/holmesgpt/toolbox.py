"""The tools of one investigation and the limits on using them: calls, time, bytes, and repeats.

Every call gets a result, whatever happens: a wrong name, wrong arguments, a refusal of the cluster and an exhausted budget
are told in words, so that a model can go on. What a model reads is redacted and cut to size here, in one place. A call that
was made before with the same arguments is not made again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import ValidationError

from kubernaut_ray.contracts.catalog_tools import Arguments
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.redact import redact


@dataclass(frozen=True, slots=True)
class Tool:
    """``run`` takes a validated ``arguments`` value and returns something JSON-able; ``None`` means that there is none."""

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any], Awaitable[Any]]

    @property
    def schema(self) -> dict[str, Any]:
        """The arguments as JSON schema."""
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        schema.pop("description", None)
        return schema


@dataclass(frozen=True, slots=True)
class ToolResult:
    """``value`` is for deterministic readers in this process; ``text``, redacted and cut, is what a model sees."""

    value: Any
    text: str
    ok: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as it happened, for the audit trail and the list of evidence."""

    number: int
    name: str
    arguments: dict[str, Any]
    ok: bool
    repeated: bool
    result_bytes: int
    seconds: float

    def __str__(self) -> str:
        told = " ".join(f"{k}={v}" for k, v in self.arguments.items() if v not in ("", None))
        return f"{self.name} {told}".strip()


Observer = Callable[[ToolCall], Awaitable[None]]


@dataclass(slots=True)
class Toolbox:
    """One investigation's tools. ``max_bytes`` limits one result, ``timeout`` (seconds) one call."""

    tools: Sequence[Tool]
    max_calls: int
    max_bytes: int
    observer: Observer
    timeout: float = 30.0
    calls: list[ToolCall] = field(default_factory=list)
    _seen: dict[str, ToolResult] = field(default_factory=dict)
    _repeats: dict[str, int] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def used(self, name: str) -> bool:
        """Whether this tool was called with success."""
        return any(c.name == name and c.ok for c in self.calls)

    async def call(self, name: str, arguments: Any) -> ToolResult:
        """Call a tool by its name, one at a time. Never raises for what the caller did wrong or the cluster refused."""
        async with self._turn:
            return await self._call(name, arguments)

    async def _call(self, name: str, arguments: Any) -> ToolResult:
        started = asyncio.get_running_loop().time()
        given = arguments if isinstance(arguments, dict) else {}
        key = f"{name} {json.dumps(given, sort_keys=True, default=str)}"
        number = len(self.calls) + 1
        repeated = key in self._seen
        if number > self.max_calls:
            result = _refusal(f"The budget of {self.max_calls} tool calls is used up. Give your final answer now.")
        elif repeated:
            result = self._repeat(key)
        else:
            result = self._seen[key] = await self._run(name, arguments)
        call = ToolCall(
            number=number,
            name=name[:100],
            arguments=given,
            ok=result.ok,
            repeated=repeated,
            result_bytes=len(result.text),
            seconds=asyncio.get_running_loop().time() - started,
        )
        self.calls.append(call)
        await self.observer(call)
        return result

    def _repeat(self, key: str) -> ToolResult:
        self._repeats[key] = self._repeats.get(key, 0) + 1
        before = self._seen[key]
        if self._repeats[key] > 1:
            text = (
                "This very call was made several times already; its result is above. Use it, or give your final answer."
            )
        else:
            text = f"(You made this very call before; this is the same result. Do not repeat it.)\n{before.text}"
        return ToolResult(before.value, text, ok=before.ok)

    async def _run(self, name: str, arguments: Any) -> ToolResult:
        tool = next((t for t in self.tools if t.name == name), None)
        if tool is None:
            return _refusal(f"There is no tool {name!r}. There are: {', '.join(t.name for t in self.tools)}.")
        try:
            parsed = tool.arguments.model_validate(arguments if arguments is not None else {})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
            return _refusal(f"Wrong arguments for {name}: {problems}.")
        try:
            async with asyncio.timeout(self.timeout):
                value = await tool.run(parsed)
        except TimeoutError:
            return _refusal(f"{name} did not finish within {self.timeout:g} s. Go on without it.")
        except KubernautError as error:
            return _refusal(f"{name} failed: {error}")
        return ToolResult(value, self._render(value))

    def _render(self, value: Any) -> str:
        if value is None or value in ([], {}):
            return "(nothing found)"
        text = (
            value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False, width=200, allow_unicode=True)
        )
        text = redact(text)
        data = text.encode()
        if len(data) <= self.max_bytes:
            return text
        kept = data[: self.max_bytes].decode(errors="ignore")
        return f"{kept}\n… cut: {len(data) - self.max_bytes} more bytes. Ask for less (fewer lines, one object)."


def _refusal(text: str) -> ToolResult:
    return ToolResult(None, redact(text), ok=False)
