"""Registry logins from a docker ``config.json``: ``auths``, ``credHelpers``, ``credsStore``, identity and registry tokens.

Read anew for each use: logins are renewed by other tools while we run. What a login holds appears in no message and no
``repr``. Refuses to guess: a broken file or a helper that fails is an error, only an absent login means anonymous.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from kubernaut_ray.errors import InvalidInput, Permanent

DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_SERVER = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_TIMEOUT = 20.0
_TOKEN_USER = "<token>"  # noqa: S105 - what helpers answer as the user of an identity token


@dataclass(frozen=True, slots=True)
class Login:
    """``identity_token`` is exchanged for bearer tokens (OAuth 2 refresh); ``registry_token`` is itself one."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


def default_path() -> Path:
    """Return where docker keeps its configuration: ``$DOCKER_CONFIG`` or ``~/.docker``."""
    folder = os.environ.get("DOCKER_CONFIG", "")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def login(path: Path, registry: str, repository: str, *, required: bool = True) -> Login | None:
    """Return the login for a repository of a registry, ``None`` when there is none.

    A helper goes before ``auths``, as with docker; in ``auths`` the longest ``HOST/PATH`` that fits wins. A missing file is an
    error only if ``required``. Raises ``InvalidInput`` (unreadable file, unusable helper) or ``Permanent`` (helper failed).
    """
    try:
        document = orjson.loads(path.read_bytes())
        helper = _text(document.get("credHelpers", {}).get(registry) or document.get("credsStore"))
        entry = _entry(document.get("auths", {}), registry, repository)
        inline = _inline(entry) if entry is not None else None
    except FileNotFoundError as error:
        if not required:
            return None
        raise InvalidInput(f"registry credentials {path}: there is no such file") from error
    except (OSError, orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        # From None: a parser quotes what it could not read.
        raise InvalidInput(
            f"registry credentials {path}: not a docker config.json with auths ({type(error).__name__})"
        ) from None
    asked = _from_helper(helper, registry, path) if helper else None
    return asked or inline


def _entry(auths: dict[str, Any], registry: str, repository: str) -> dict[str, Any] | None:
    hosts = DOCKER_HUB if registry in DOCKER_HUB else {registry}
    best: tuple[int, dict[str, Any]] | None = None
    for key, entry in auths.items():
        host, _, where = _place(key).partition("/")
        fits = not where or where in {"v1", "v2"} or f"{repository}/".startswith(f"{where}/")
        if host in hosts and fits and (best is None or len(where) > best[0]):
            best = (0 if where in {"v1", "v2"} else len(where), entry)
    return best[1] if best else None


def _place(key: str) -> str:
    """Return ``HOST[/PATH]`` of a key, which may be a URL."""
    parts = urlsplit(key if "://" in key else f"//{key}")
    return f"{parts.netloc}{parts.path}".strip("/")


def _inline(entry: dict[str, Any]) -> Login | None:
    user, password = _text(entry.get("username")), _text(entry.get("password"))
    if not user and entry.get("auth"):
        try:
            decoded = base64.b64decode(entry["auth"], validate=True).decode()
        except binascii.Error as error:
            raise ValueError("auth") from error
        user, colon, password = decoded.partition(":")
        if not colon:
            raise ValueError("auth")
    found = Login(user, password, _text(entry.get("identitytoken")), _text(entry.get("registrytoken")))
    return found if found != Login() else None


def _from_helper(helper: str, registry: str, path: Path) -> Login | None:
    """Ask ``docker-credential-HELPER``, as docker does: the server on its input, JSON on its output."""
    program = f"docker-credential-{helper}"
    if not _HELPER.fullmatch(helper):
        raise InvalidInput(f"registry credentials {path}: {helper!r} is not the name of a credential helper")
    server = _HUB_SERVER if registry in DOCKER_HUB else registry
    try:
        done = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_TIMEOUT, check=False
        )
    except FileNotFoundError as error:
        raise InvalidInput(
            f"registry credentials {path}: they are kept by {program}, which is not on PATH; "
            "install it, or put the login under auths"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Permanent(
            f"registry credentials {path}: {program} did not answer ({type(error).__name__})", reason="CredentialHelper"
        ) from None
    if done.returncode != 0:
        if b"credentials not found" in done.stdout.lower() + done.stderr.lower():
            return None
        raise Permanent(
            f"registry credentials {path}: {program} get failed for {registry} with exit code {done.returncode}; "
            "run it by hand to see why",
            reason="CredentialHelper",
        )
    try:
        answer = orjson.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Permanent(
            f"registry credentials {path}: {program} did not answer as credential helpers do", reason="CredentialHelper"
        ) from None
    return Login(identity_token=secret) if user == _TOKEN_USER else Login(user, secret)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value
