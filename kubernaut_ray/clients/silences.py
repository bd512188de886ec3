"""The client of the gateway's silences (Alertmanager's API v2), for the command line.

401, 403 and 404 are ``Permanent`` with words for a person; 400 is ``InvalidInput``; what may pass is ``Retryable``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from kubernaut_ray.clients.service import ServiceClient
from kubernaut_ray.contracts.silences import PATH, PostedSilence, SilenceView
from kubernaut_ray.errors import InvalidInput, KubernautError, Permanent, Retryable


class NotFound(Permanent):
    """There is no such silence."""


class SilenceClient(ServiceClient):
    """See ``ServiceClient`` for the arguments; the base URL is the gateway's."""

    async def list(self, matchers: Sequence[str] = ()) -> tuple[SilenceView, ...]:
        """Return those that have all of these matchers, in Alertmanager's order: active, pending, expired."""
        found = await self._request("GET", "/silences", query=[("filter", text) for text in matchers])
        return tuple(SilenceView.model_validate(one) for one in found)

    async def get(self, name: str) -> SilenceView:
        """Raises ``NotFound``."""
        return SilenceView.model_validate(await self._request("GET", f"/silence/{quote(name, safe='')}"))

    async def put(self, silence: PostedSilence) -> str:
        """Make or change one; returns its name. Raises ``InvalidInput`` with every problem."""
        answer = await self._request("POST", "/silences", body=silence)
        return str(answer["silenceID"])

    async def expire(self, name: str) -> None:
        """End it now. Raises ``NotFound``."""
        await self._request("DELETE", f"/silence/{quote(name, safe='')}")

    async def _request(
        self, method: str, path: str, *, body: PostedSilence | None = None, query: Sequence[tuple[str, str]] = ()
    ) -> Any:
        headers = self._headers() | {"Accept": "application/json, application/problem+json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else orjson.dumps(body.to_object())
        try:
            async with self._open().request(
                method, self._base_url + PATH + path, params=list(query), data=data, headers=headers
            ) as answer:
                content = await answer.read()
                if answer.status >= 400:
                    raise _error(answer.status, content)
                return orjson.loads(content) if content else None
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise Retryable(f"the gateway at {self._base_url} does not answer: {type(error).__name__}") from error


def _error(status: int, content: bytes) -> KubernautError:
    try:
        problem = orjson.loads(content)
    except orjson.JSONDecodeError:
        problem = {}
    problem = problem if isinstance(problem, dict) else {}
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
    if status == 404:
        return NotFound(detail, reason="NotFound")
    if status in {400, 413, 415, 422}:
        found = [item for item in problem.get("field_errors") or () if isinstance(item, dict)]
        return InvalidInput(detail, problems=tuple((str(i.get("field", "")), str(i.get("message", ""))) for i in found))
    if status in {408, 409, 425, 429} or status >= 500:
        return Retryable(detail)
    return Permanent(detail, reason="Refused")
