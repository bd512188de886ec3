"""People with tokens on an embedded API server: rows of its tokens file, written before it starts."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path

import orjson

from kubernaut_ray.kube.embedded.authn import ADMIN, AUTHENTICATED
from kubernaut_ray.kube.embedded.pki import write_private


def invite(data_dir: Path, people: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Give each person (name → groups) a token on the server of this data directory. Returns the tokens."""
    folder = data_dir / "kube"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tokens = {name: secrets.token_urlsafe(32) for name in (ADMIN, *people)}
    groups = {ADMIN: ("system:masters",), **people}
    rows = [
        {
            "sha256": hashlib.sha256(tokens[name].encode()).hexdigest(),
            "user": name,
            "groups": [*groups[name], AUTHENTICATED],
        }
        for name in tokens
    ]
    write_private(folder / "admin.token", tokens[ADMIN].encode())
    write_private(folder / "tokens.json", orjson.dumps(rows))
    return tokens
