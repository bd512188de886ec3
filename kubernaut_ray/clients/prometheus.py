"""The clients of Prometheus and Alertmanager, read only: a range query, and the alerts that are active.

Only what the official HTTP APIs document is used (``/api/v1/query_range``, ``/api/v2/alerts``). No answer, or one that cannot
be read, is ``Retryable``; a query that Prometheus refuses is ``InvalidInput``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import aiohttp
import orjson

from kubernaut_ray.errors import InvalidInput, Retryable

MAX_POINTS = 500
"""Of one series; a longer range is read in coarser steps."""


class _Reader:
    """``base_url`` may hold a path prefix; timeout in seconds."""

    def __init__(self, base_url: str, *, timeout: float) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.get(self._base_url + path, params=query) as answer:
                status, content = answer.status, await answer.read()
            return status, orjson.loads(content)
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise Retryable(f"{type(self).__name__} gives no usable answer: {type(error).__name__}") from error


class Prometheus(_Reader):
    async def mean(self, query: str, start: datetime, end: datetime, *, step: float) -> float | None:
        """Return the mean of all samples of all series in the range, ``None`` where there are none.

        Raises ``InvalidInput`` for a query that Prometheus cannot read, ``Retryable`` when it does not answer.
        """
        wide = max(step, (end - start).total_seconds() / MAX_POINTS)
        asked = {
            "query": query,
            "start": f"{start.timestamp():.3f}",
            "end": f"{end.timestamp():.3f}",
            "step": f"{wide:.3f}",
        }
        status, body = await self._get("/api/v1/query_range", asked)
        if not isinstance(body, dict) or body.get("status") != "success":
            why = str(body.get("error", "")) if isinstance(body, dict) else ""
            if status in {400, 422}:
                raise InvalidInput(f"Prometheus refuses the query: {why[:500]}")
            raise Retryable(f"Prometheus answers {status}: {why[:500]}")
        series = (body.get("data") or {}).get("result") or ()
        samples = [float(value) for one in series for _, value in one.get("values") or ()]
        finite = [value for value in samples if math.isfinite(value)]
        return sum(finite) / len(finite) if finite else None


class Alertmanager(_Reader):
    async def alerts(self, name: str) -> tuple[Mapping[str, str], ...]:
        """Return the labels of the alerts of this name that fire now, silenced and inhibited ones too."""
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        asked = {"filter": f'alertname="{quoted}"', "active": "true", "silenced": "true", "inhibited": "true"}
        status, body = await self._get("/api/v2/alerts", asked)
        if status != 200 or not isinstance(body, list):
            raise Retryable(f"Alertmanager answers {status}")
        return tuple(one["labels"] for one in body if isinstance(one, dict) and isinstance(one.get("labels"), dict))
