"""The last RemediationRequest of each fingerprint, remembered beyond its removal, since the next one's name follows from it.

A name is the correlation id of all that is on record about an incident, so it must not come back when the request that bore it
is gone and its signal returns. Whoever removes a request writes its UID down first; the gateway reads it where it finds no
request. Sixteen ConfigMaps in our namespace, by the fingerprint's first digit, hold ``<fingerprint's first 16 digits>:
<creation, RFC 3339> <UID>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubernaut_ray import clock, names

MOST = 1000
"""Entries in one ConfigMap, some 80 KB. Beyond it those go whose requests are the oldest: their names may come back."""
_DIGITS = 16


@dataclass(frozen=True, slots=True, order=True)
class Last:
    """A request that was the last of its fingerprint; ``created`` as ``written`` writes it, so that texts compare."""

    created: str
    uid: str


def last_of(config_map: Mapping[str, Any] | None, fingerprint: str) -> Last | None:
    """Return what is remembered; ``None`` when nothing is, or nothing that can be read."""
    return _read(_data(config_map).get(fingerprint[:_DIGITS]))


def entry(config_map: Mapping[str, Any] | None, fingerprint: str, last: Last) -> dict[str, str | None]:
    """Return the change of ``data`` that remembers this request; empty when it, or a later one, is remembered already."""
    known = last_of(config_map, fingerprint)
    if known is not None and known >= last:
        return {}
    key, data = fingerprint[:_DIGITS], _data(config_map)
    others = sorted((_read(text) or Last("", ""), name) for name, text in data.items() if name != key)
    gone = {name: None for _, name in others[: max(0, len(others) + 1 - MOST)]}
    return {**gone, key: f"{last.created} {last.uid}"}


def written(created: str) -> str:
    """Write a creation time as it is remembered; one that cannot be read is older than any."""
    try:
        return clock.rfc3339(clock.parse_rfc3339(created))
    except ValueError:
        return ""


def named(fingerprint: str) -> str:
    """Return the name of the ConfigMap."""
    return f"{names.LINEAGE}-{fingerprint[:1]}"


def _data(config_map: Mapping[str, Any] | None) -> Mapping[str, Any]:
    found = (config_map or {}).get("data")
    return found if isinstance(found, Mapping) else {}


def _read(text: Any) -> Last | None:
    created, _, uid = text.partition(" ") if isinstance(text, str) else ("", "", "")
    return Last(created, uid) if created and uid else None
