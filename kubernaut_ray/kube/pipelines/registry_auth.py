"""Answers to a registry's 401: basic, or a bearer token fetched from the realm that the registry names.

Wire formats: RFC 7235 challenges, and the token protocol of the distribution project (``GET realm?service&scope`` with
basic credentials, or an OAuth 2 ``POST`` with a refresh token). Tokens are kept until shortly before they end, by
repository and action. A password never goes to a realm over plain HTTP unless the registry itself is spoken to so.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from kubernaut_ray.errors import Permanent
from kubernaut_ray.kube.pipelines.docker_config import Login

_CHALLENGE = re.compile(r"(?i)\b(basic|bearer)\b\s*((?:[a-z_]+\s*=\s*(?:\"[^\"]*\"|[^\s,\"]+)\s*,?\s*)*)")
_PARAMETER = re.compile(r"(?i)([a-z_]+)\s*=\s*(?:\"([^\"]*)\"|([^\s,\"]+))")
_DEFAULT_LIFE = 60.0
_MARGIN = 10.0
CLIENT_ID = "kubernaut-ray"

Fetch = Callable[..., requests.Response]
"""``requests.Session.request`` with our time limits, retries and TLS."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """``scheme`` is ``basic`` or ``bearer``."""

    scheme: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    header: str = field(repr=False)
    until: float


def challenges(header: str) -> list[Challenge]:
    """Read a ``WWW-Authenticate`` header; schemes other than basic and bearer are left out."""
    return [
        Challenge(m[1].lower(), {p[1].lower(): p[2] if p[2] is not None else p[3] for p in _PARAMETER.finditer(m[2])})
        for m in _CHALLENGE.finditer(header)
    ]


class Authorizer:
    """Authorization headers for one registry. Safe for several threads: at worst two fetch a token at a time."""

    def __init__(self, registry: str, *, plain_http: bool, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._registry, self._plain_http, self._monotonic = registry, plain_http, monotonic
        self._kept: dict[tuple[str, str], _Kept] = {}

    def known(self, repository: str, actions: str) -> str:
        """Return the header that worked before and still holds, or nothing."""
        kept = self._kept.get((repository, actions))
        return kept.header if kept and kept.until > self._monotonic() else ""

    def answer(
        self, response: requests.Response, login: Login | None, repository: str, actions: str, fetch: Fetch
    ) -> str:
        """Return the header for a challenge, or nothing when there is no answer to it. Raises ``Permanent``."""
        offered = {c.scheme: c for c in challenges(response.headers.get("WWW-Authenticate", ""))}
        header, life = "", _DEFAULT_LIFE
        if login is not None and login.registry_token:
            header = f"Bearer {login.registry_token}"
        elif bearer := offered.get("bearer"):
            header, life = self._token(bearer, login, repository, actions, fetch)
        elif "basic" in offered and login is not None and login.user:
            header, life = _basic(login), float("inf")
        if header:
            self._kept[repository, actions] = _Kept(header, self._monotonic() + life - _MARGIN)
        return header

    def forget(self, repository: str, actions: str) -> None:
        self._kept.pop((repository, actions), None)

    def _token(
        self, challenge: Challenge, login: Login | None, repository: str, actions: str, fetch: Fetch
    ) -> tuple[str, float]:
        realm = challenge.parameters.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise self._refused("names no token realm that can be asked")
        if login is not None and realm.startswith("http://") and not self._plain_http:
            raise self._refused("wants its token from a realm over plain HTTP; the login was not sent there")
        asked = {
            "service": challenge.parameters.get("service", ""),
            "scope": challenge.parameters.get("scope") or f"repository:{repository}:{actions}",
        }
        if login is not None and login.identity_token:
            form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": login.identity_token}
            response = fetch("POST", realm, data=asked | form)
        else:
            headers = {"Authorization": _basic(login)} if login is not None and login.user else {}
            response = fetch("GET", realm, params=asked, headers=headers)
        if response.status_code in (400, 401, 403):
            return "", 0.0
        return self._read(response)

    def _read(self, response: requests.Response) -> tuple[str, float]:
        try:
            body: Any = response.json() if response.status_code == 200 else {}
            token = body.get("token") or body.get("access_token")
            life = float(body.get("expires_in") or _DEFAULT_LIFE)
        except (ValueError, TypeError, AttributeError):
            token, life = None, 0.0
        if not isinstance(token, str) or not token:
            # Without what it said: an answer of a token realm may hold a token.
            raise self._refused(f"got no token from its realm, which answered {response.status_code}")
        return f"Bearer {token}", life

    def _refused(self, what: str) -> Permanent:
        return Permanent(f"the registry {self._registry} {what}", reason="RegistryDenied")


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
