"""How a RemediationRequest's spec lies in the audit trail: every field, less the secrets.

``write`` is called by who creates or accepts a request: the gateway, and the orchestrator, which also sees those made by
hand and is sure to tell it. Names and values go unchanged; texts that people or sources wrote are redacted, and a payload that is too large for
a trail is stood for by its size and SHA-256. What is not there as it was is listed, so that nobody takes it for the original.
A value that was redacted is not hashed: a short secret could be guessed from its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.redact import redact, redact_json

PAYLOAD_LIMIT = 32_768
"""Bytes of ``originalPayload`` or ``providerData`` that the trail holds."""

REDACTED: Final = "redacted"
TOO_LARGE: Final = "too large"

_MAPS = ("signalLabels", "signalAnnotations")
_PAYLOADS = ("originalPayload", "providerData")


class Withheld(Contract):
    """A field that the trail does not hold as it was. ``sha256`` and ``size`` (in bytes) are of what it was."""

    field: str
    """As in ``signalAnnotations.token``."""
    why: str
    sha256: str | None = None
    size: int | None = None


def write(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``event_data`` fields (``spec``, ``withheld``) for a spec in its JSON form (camelCase)."""
    told, withheld = dict(spec), list[Withheld]()
    clean = lru_cache(None)(redact)  # What a payload says, labels and annotations mostly say too.
    for field in _MAPS:
        if values := spec.get(field):
            told[field] = safe = redact_json(values, clean=clean)
            withheld += [
                Withheld(field=f"{field}.{key}", why=REDACTED) for key, text in safe.items() if text != values[key]
            ]
    if text := spec.get("description"):
        told["description"] = clean(text)
        if told["description"] != text:
            withheld.append(Withheld(field="description", why=REDACTED))
    for field in _PAYLOADS:
        if not (text := spec.get(field)):
            continue
        told[field] = _payload(text, clean)
        if told[field] != text:
            withheld.append(Withheld(field=field, why=REDACTED))
        if len(raw := told[field].encode()) > PAYLOAD_LIMIT:
            del told[field]
            digest = None if withheld and withheld[-1].field == field else hashlib.sha256(raw).hexdigest()
            withheld.append(Withheld(field=field, why=TOO_LARGE, sha256=digest, size=len(text.encode())))
    return {"spec": told, "withheld": [one.to_json() for one in withheld]}


def _payload(text: str, clean: Callable[[str], str]) -> str:
    """Redact a payload; one that holds no secret stays byte for byte what it was."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return clean(text)  # It was cut off, or is no JSON.
    safe = redact_json(value, clean=clean)
    return text if safe == value else orjson.dumps(safe).decode()
