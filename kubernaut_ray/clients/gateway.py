"""The client of the gateway, for signals that our own parts send it. Called by the event watcher.

Errors say what to do. A refusal of what was sent (400, 413, 415, 422) is ``InvalidInput``: it will be refused again. All
else is ``Retryable``, honouring ``Retry-After``: 5xx and silence, but also 401 and 403 (the token is renewed and rights are
applied while we run) and 404 (the service is not routed yet).
"""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import orjson

from kubernaut_ray.clients.service import ServiceClient
from kubernaut_ray.errors import InvalidInput, KubernautError, Retryable

EVENT_PATH = "/api/v1/signals/kubernetes-event"
RETRY_AFTER_LIMIT = 300.0
_REFUSED = frozenset({400, 413, 415, 422})


class Gateway(ServiceClient):
    """See ``ServiceClient`` for the arguments. The gateway itself gives up on the Kubernetes API after half a minute."""

    def __init__(self, base_url: str, token: Callable[[], str], *, timeout: float = 40.0) -> None:
        super().__init__(base_url, token, timeout=timeout)

    async def send_event(self, event: bytes) -> None:
        """Send one Kubernetes Event, as JSON. Once this returns, what follows from it is durable."""
        headers = {**self._headers(), "Content-Type": "application/json"}
        url = self._base_url + EVENT_PATH
        try:
            # A redirect would take the token elsewhere.
            async with self._open().post(url, data=event, headers=headers, allow_redirects=False) as answer:
                content = await answer.read()
                if not 200 <= answer.status < 300:
                    raise _failure(answer.status, content, answer.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable(f"gateway: POST {EVENT_PATH}: no answer ({type(error).__name__})") from error


def _failure(status: int, body: bytes, retry_after: str) -> KubernautError:
    try:
        problem = orjson.loads(body)
    except orjson.JSONDecodeError:
        problem = None
    detail = (problem.get("detail") or problem.get("title")) if isinstance(problem, dict) else None
    message = f"gateway: POST {EVENT_PATH}: {status} {detail or 'no detail'}"
    if status in _REFUSED:
        return InvalidInput(message)
    after = min(float(retry_after), RETRY_AFTER_LIMIT) if retry_after.isascii() and retry_after.isdigit() else None
    return Retryable(message, after=after)
