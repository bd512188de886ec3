"""The client of the HolmesGPT-API: start an investigation, look at it. Called by the AIAnalysis controller and the CLI.

Starting is idempotent by the session id that the caller chooses, so a lost answer is repaired by starting again. Errors say
what to do: 429, 5xx, connection faults and timeouts are ``Retryable`` (honouring ``Retry-After``); every other refusal is
``Permanent`` with a reason, 400 and 422 ``InvalidInput``; the problem's detail is the message. It never waits for an
investigation to end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import ValidationError

from kubernaut_ray.clients.service import ServiceClient
from kubernaut_ray.contracts.investigation import IncidentRequest, InvestigationSession, StartInvestigation
from kubernaut_ray.errors import InvalidInput, KubernautError, Permanent, Retryable

PATH = "/api/v1/investigations"


class HolmesGpt(ServiceClient):
    """See ``ServiceClient`` for the arguments."""

    def __init__(self, base_url: str, token: Callable[[], str], *, timeout: float = 15.0) -> None:
        super().__init__(base_url, token, timeout=timeout)

    async def start(self, session_id: str, request: IncidentRequest) -> InvestigationSession:
        """Start the investigation, or return the session that this id already has, whatever its state."""
        body = StartInvestigation(session_id=session_id, request=request).model_dump_json(exclude_none=True).encode()
        status, answer = await self._request("POST", PATH, body)
        if status == 404:
            raise Retryable(f"HolmesGPT-API: POST {PATH}: 404, the service is not routed yet")
        return _session(answer)

    async def get(self, session_id: str) -> InvestigationSession | None:
        """Return the session; ``None`` when there is none of this id."""
        status, answer = await self._request("GET", f"{PATH}/{quote(session_id, safe='')}")
        return None if status == 404 else _session(answer)

    async def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Send; return the status (2xx or 404) and the JSON body."""
        session, headers = self._open(), self._headers()
        if body is not None:
            headers["Content-Type"] = "application/json"
        what = f"HolmesGPT-API: {method} {path}"
        try:
            async with session.request(method, self._base_url + path, data=body, headers=headers) as answer:
                content = await answer.read()
                if answer.status >= 400 and answer.status != 404:
                    raise _refusal(answer.status, content, answer.headers.get("Retry-After", ""), what)
                return answer.status, orjson.loads(content) if answer.status != 404 else None
        except orjson.JSONDecodeError as error:
            raise Retryable(f"{what}: the answer is not JSON") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable(f"{what}: no answer ({type(error).__name__})") from error


def _session(answer: Any) -> InvestigationSession:
    try:
        return InvestigationSession.model_validate(answer)
    except ValidationError as error:
        raise Permanent(
            f"HolmesGPT-API answered with a session that cannot be read: {error.error_count()} problems, "
            f"the first at {'.'.join(map(str, error.errors()[0]['loc']))}; are both sides of one version?",
            reason="ContractMismatch",
        ) from error


def _refusal(status: int, body: bytes, retry_after: str, what: str) -> KubernautError:
    try:
        problem = orjson.loads(body)
    except orjson.JSONDecodeError:
        problem = None
    detail = (problem.get("detail") or problem.get("title")) if isinstance(problem, dict) else None
    message = f"{what}: {status} {detail or 'no detail'}"
    if status in {408, 425, 429} or status >= 500:
        return Retryable(message, after=float(retry_after) if retry_after.isdigit() else None)
    if status in {400, 413, 415, 422}:
        return InvalidInput(message)
    return Permanent(message, reason="Forbidden" if status in {401, 403} else "Refused")
