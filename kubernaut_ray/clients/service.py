"""What the clients of our own services share: a base URL, a bearer token read anew at each call, one aiohttp session.

The session is opened on first use, in the running loop, and closed by ``close``. What an answer means is each client's own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from kubernaut_ray.errors import Retryable


def read_token(file: Path | None) -> str:
    """Read our own bearer token, which is replaced while we run; empty without a file. Raises ``Retryable``."""
    if file is None:
        return ""
    try:
        return file.read_text().strip()
    except OSError as error:
        raise Retryable(f"token file {file}: {error.strerror}") from error


class ServiceClient:
    """``base_url`` includes the route prefix; ``token`` gives the bearer token anew at each call; timeout in seconds."""

    def __init__(self, base_url: str, token: Callable[[], str], *, timeout: float) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self._session

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
