"""Who a bearer token belongs to: the tokens file, or a ServiceAccount token that this server signed.

The tokens file holds SHA-256 digests only. ServiceAccount tokens are JSON Web Tokens (ES256) bound to the account's UID, so
that they die with the account; the ``kubernetes.io`` claims are those of a real cluster.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from kubernaut_ray.kube.embedded.pki import signing_key, write_private
from kubernaut_ray.kube.embedded.status import Obj

AUDIENCE = "https://kubernetes.default.svc.cluster.local"
ISSUER = AUDIENCE
ADMIN = "kubernaut-admin"
AUTHENTICATED = "system:authenticated"
_CACHE_SECONDS, _CACHE_LIMIT = 30.0, 4096
_HEADER = base64.urlsafe_b64encode(b'{"alg":"ES256","typ":"JWT"}').rstrip(b"=")


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def info(self) -> Obj:
        """Return ``authentication.k8s.io/v1.UserInfo``."""
        info: Obj = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            info["uid"] = self.uid
        if self.extra:
            info["extra"] = {k: list(v) for k, v in self.extra}
        return info


@dataclass(frozen=True, slots=True)
class Account:
    """A ServiceAccount that a token speaks for."""

    namespace: str
    name: str
    uid: str

    @property
    def user(self) -> User:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", AUTHENTICATED)
        return User(f"system:serviceaccount:{self.namespace}:{self.name}", self.uid, groups)


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(data: bytes) -> bytes:
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Authenticator:
    """Answers who a token is. ``account_uid(namespace, name)`` returns the live account's UID, or ``None``."""

    def __init__(self, folder: Path, account_uid: Callable[[str, str], str | None]) -> None:
        self._key = signing_key(folder / "service-account.key")
        self._account_uid = account_uid
        self._static = self._load(folder)
        self._cache: dict[bytes, tuple[float, dict[str, Any]]] = {}

    def _load(self, folder: Path) -> dict[str, User]:
        """Read the tokens file, writing it (and the administrator's token beside it) first when there is none."""
        path, admin = folder / "tokens.json", folder / "admin.token"
        if not admin.exists():
            write_private(admin, secrets.token_urlsafe(32).encode())
            path.unlink(missing_ok=True)
        self.admin_token = admin.read_text().strip()
        if not path.exists():
            row = {
                "sha256": _digest(self.admin_token),
                "user": ADMIN,
                "groups": ["system:masters", AUTHENTICATED],
            }
            write_private(path, orjson.dumps([row], option=orjson.OPT_INDENT_2))
        rows = orjson.loads(path.read_bytes())
        return {r["sha256"]: User(r["user"], r.get("uid", ""), tuple(r.get("groups", ()))) for r in rows}

    def user(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """Return whose token this is, or ``None`` when it is not accepted for any of the audiences."""
        wanted = set(audiences) or {AUDIENCE}
        found = self._static.get(_digest(token))
        if found is not None:
            return found if AUDIENCE in wanted or not audiences else None
        claims = self._claims(token)
        if claims is None or not wanted & set(claims["aud"]):
            return None
        subject = claims["kubernetes.io"]
        account = Account(subject["namespace"], subject["serviceaccount"]["name"], subject["serviceaccount"]["uid"])
        if self._account_uid(account.namespace, account.name) != account.uid:
            return None
        return account.user

    def audiences(self, token: str, asked: Sequence[str]) -> list[str]:
        """Return which of the asked audiences (default: the API server's) an accepted token is meant for."""
        claims = self._claims(token)
        meant = set(claims["aud"]) if claims else {AUDIENCE}
        return [a for a in (asked or [AUDIENCE]) if a in meant]

    def issue(self, account: Account, audiences: Sequence[str], seconds: int) -> tuple[str, float]:
        """Sign a token for an account. Returns it and when it expires (Unix time)."""
        now = int(time.time())
        expires = now + seconds
        claims = {
            "aud": list(audiences) or [AUDIENCE],
            "exp": expires,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "jti": secrets.token_hex(16),
            "kubernetes.io": {
                "namespace": account.namespace,
                "serviceaccount": {"name": account.name, "uid": account.uid},
            },
            "sub": account.user.name,
        }
        signed = _HEADER + b"." + _encoded(orjson.dumps(claims))
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return (signed + b"." + _encoded(signature)).decode(), float(expires)

    def _claims(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a token that we signed and that has not expired."""
        now = time.time()
        digest = hashlib.sha256(token.encode()).digest()
        cached = self._cache.get(digest)
        if cached is not None and cached[0] > now:
            return cached[1]
        claims = self._verified(token)
        if claims is None or claims.get("iss") != ISSUER or not claims.get("nbf", 0) - 10 <= now < claims.get("exp", 0):
            return None
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()
        self._cache[digest] = (min(now + _CACHE_SECONDS, claims["exp"]), claims)
        return claims

    def _verified(self, token: str) -> dict[str, Any] | None:
        parts = token.encode().split(b".")
        if len(parts) != 3 or parts[0] != _HEADER:
            return None
        try:
            raw = _decoded(parts[2])
            if len(raw) != 64:
                return None
            signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._key.public_key().verify(signature, parts[0] + b"." + parts[1], ec.ECDSA(hashes.SHA256()))
            claims = orjson.loads(_decoded(parts[1]))
        except (InvalidSignature, binascii.Error, ValueError):
            return None
        return claims if isinstance(claims, dict) else None
