"""How a RemediationRequest's spec lies in the audit trail: every field, less the secrets.

``write`` is called by who creates or accepts a request: the gateway, and the orchestrator, which also sees those made by
hand and is sure to tell it. Names and values go unchanged; texts that people or sources wrote are redacted, and a payload that is too large for
a trail is stood for by its size and SHA-256. What is not there as it was is listed, so that nobody takes it for the original.
A value that was redacted is not hashed: a short secret could be guessed from its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.redact import redact, redact_json, redact_values

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
    for field in _MAPS:
        if values := spec.get(field):
            told[field] = clean = redact_values(values)
            withheld += [
                Withheld(field=f"{field}.{key}", why=REDACTED) for key, text in clean.items() if text != values[key]
            ]
    if text := spec.get("description"):
        told["description"] = redact(text)
        if told["description"] != text:
            withheld.append(Withheld(field="description", why=REDACTED))
    for field in _PAYLOADS:
        if not (text := spec.get(field)):
            continue
        told[field] = _payload(text)
        if told[field] != text:
            withheld.append(Withheld(field=field, why=REDACTED))
        if len(raw := told[field].encode()) > PAYLOAD_LIMIT:
            del told[field]
            digest = None if withheld and withheld[-1].field == field else hashlib.sha256(raw).hexdigest()
            withheld.append(Withheld(field=field, why=TOO_LARGE, sha256=digest, size=len(text.encode())))
    return {"spec": told, "withheld": [one.to_json() for one in withheld]}


def _payload(text: str) -> str:
    """Redact a payload; one that holds no secret stays byte for byte what it was."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return redact(text)  # It was cut off, or is no JSON.
    clean = redact_json(value)
    return text if clean == value else orjson.dumps(clean).decode()
