"""An owner of a trail in memory, which answers what the catalog owner answers about the ledger."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec
import orjson

from catalog.events import microseconds
from catalog.ledger.record import Record
from kubernaut_ray.clock import parse_rfc3339
from kubernaut_ray.contracts.ledger import Archive, ArchiveResult, Checkpoint, LedgerState, LegalHold, Statement
from tests.catalog.ledger.trail import ANOTHER_KEY, KEY, Trail, correlation_of


class TrailOwner:
    """``during`` is called before each page of records, to do things while somebody reads."""

    def __init__(self, trail: Trail) -> None:
        self.trail = trail
        self.page = 5000
        self.calls: list[str] = []
        self.held: dict[str, LegalHold] = {}
        self.released: list[dict[str, str]] = []
        self.during: Callable[[], None] = lambda: None

    def call(self, method: str, payload: bytes) -> Future[bytes]:
        answer: Future[bytes] = Future()
        self.calls.append(method)
        result = getattr(self, method)(orjson.loads(payload))
        body = result if isinstance(result, bytes) else orjson.dumps(result)
        answer.set_result(b'{"version":0,"result":%b}' % body)
        return answer

    def snapshot(self, have: int) -> bytes:
        return b""

    def audit_records(self, asked: dict[str, Any]) -> bytes:
        self.during()
        limit = min(asked["limit"], self.page)
        looked = [one for one in self.trail.records if one.sequence > asked["after"]]
        found = [one for one in looked[:limit] if self._fits(one, asked)]
        last = looked[:limit][-1].sequence if looked else asked["after"]
        return msgspec.json.encode({"records": found, "last": last, "more": len(looked) > limit})

    def audit_checkpoints(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = [one for one in self.trail.checkpoints if one.number > asked["after"]][: asked["limit"]]
        drop: dict[str, Any] = {} if asked["leaves"] else {"leaves": ""}
        return {"checkpoints": [self._json(one.model_copy(update=drop)) for one in found]}

    def audit_state(self, _: dict[str, Any]) -> dict[str, Any]:
        keys = {key.key_id: base64.b64encode(key.public_key).decode() for key in (KEY, ANOTHER_KEY)}
        state = LedgerState(
            last_sequence=self.trail.last,
            last_checkpoint=len(self.trail.checkpoints),
            unsealed=self.trail.last - self.trail.sealed,
            chains=len(self.trail.heads),
            holds=tuple(self.held.values()),
            retired=tuple(self.trail.retired),
            public_keys=keys,
        )
        return state.to_json()

    def audit_statement(self, asked: dict[str, str]) -> dict[str, Any]:
        return self._json(self.trail.statement(asked["scope"], asked["correlation_id"]))

    def audit_seal(self, _: dict[str, Any]) -> dict[str, Any]:
        before = len(self.trail.checkpoints)
        self.trail.seal()
        return {"checkpoint": self._json(self.trail.checkpoints[-1]) if len(self.trail.checkpoints) > before else None}

    def audit_hold(self, hold: dict[str, Any]) -> dict[str, Any]:
        self.held[hold["correlation_id"]] = LegalHold.model_validate(hold)
        return hold

    def audit_release(self, asked: dict[str, str]) -> dict[str, bool]:
        self.released.append(asked)
        return {"released": self.held.pop(asked["correlation_id"], None) is not None}

    def audit_archive(self, asked: dict[str, str]) -> dict[str, Any]:
        if asked["through"] != "2026-02":
            return ArchiveResult().to_json()
        archive = Archive(
            name="audit-2026-02",
            first_sequence=1,
            last_sequence=2,
            events=2,
            bytes=1234,
            sha256="ab" * 32,
            created_us=1,
        )
        return ArchiveResult(archived=(archive,), retired=tuple(self.trail.retired)).to_json()

    def audit_find(self, asked: dict[str, Any]) -> dict[str, Any]:
        events = [orjson.loads(bytes(one.event)) for one in self.trail.records]
        wanted = {
            key: asked[key] for key in ("event_id", "correlation_id", "event_type", "event_category") if asked.get(key)
        }
        events = [event for event in events if all(event[key] == value for key, value in wanted.items())]
        found = events[::-1] if asked["order"] == "desc" else events
        page = {"limit": asked["limit"], "offset": 0, "total": len(events), "has_more": len(events) > asked["limit"]}
        return {"data": found[: asked["limit"]], "pagination": page}

    def _fits(self, one: Record, asked: dict[str, Any]) -> bool:
        event = orjson.loads(bytes(one.event))
        at = microseconds(parse_rfc3339(event["event_timestamp"]))
        return (
            asked["correlation_id"] in {"", correlation_of(one)}
            and asked["event_type"] in {"", event["event_type"]}
            and (not asked["since"] or at >= microseconds(parse_rfc3339(asked["since"])))
            and (not asked["until"] or at < microseconds(parse_rfc3339(asked["until"])))
        )

    @staticmethod
    def _json(thing: Checkpoint | Statement) -> dict[str, Any]:
        return thing.to_json()
