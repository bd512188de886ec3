"""Keeps the audit trail of one store: seals it by the clock, rolls months off, holds and retires, and answers for all of it.

The owner has one. ``reads`` and ``writes`` are its operations for the owner's table; ``archive`` takes a while and runs on a
thread of the owner's. A thread of its own does by the clock what an operator may also ask for. What the keeper does to the
trail it states in the trail.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import structlog

from catalog import archives, audit
from catalog.audit import RecordQuery
from catalog.events import Columns, microseconds
from catalog.ledger.signing import SigningKey
from catalog.policy import TrailPolicy
from catalog.store import Connection, Store
from catalog.trail import Trail, read_tip
from kubernaut_ray.clock import Clock, parse_rfc3339
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.ledger import (
    NO_HASH,
    Archive,
    ChainHead,
    LedgerState,
    LegalHold,
    Retired,
    Statement,
)
from kubernaut_ray.crds.enums import AuditCategory
from kubernaut_ray.errors import InvalidInput, KubernautError

ARCHIVE = "archive"
KEY_FILE = "audit-signing.key"
MAINTENANCE = 86_400.0
"""Seconds between looks for months to roll off and archives to retire."""
FOLDING = 900.0
"""Seconds between foldings of the write-ahead log, so that a quiet store starts at once after a crash too."""
ACTOR = "data-storage"

Answer = Callable[[Connection], bytes]

log = structlog.get_logger(__name__)


class Keeper:
    """See the module. ``close`` it before the store: it seals what is open."""

    def __init__(self, store: Store, directory: Path, policy: TrailPolicy, now: Clock) -> None:
        self._store, self._policy, self._now = store, policy, now
        self._directory = directory / ARCHIVE
        self.key_file = policy.signing_key or directory / KEY_FILE
        """The private key that signs."""
        key = SigningKey.load_or_create(self.key_file)
        self._trail = store.write(
            lambda c: Trail(c, key, checkpoint_events=policy.checkpoint_events, now=now())
        ).result()
        store.tell(self._trail.settle)
        store.write(lambda c: _remember_key(c, key)).result()
        self._maintaining = threading.Lock()
        self._closing = threading.Event()
        self._clockwork = threading.Thread(target=self._by_the_clock, name="audit-keeper", daemon=True)
        self._clockwork.start()
        self.reads: Mapping[str, Callable[[Any], Answer]] = {
            "audit_records": self._records,
            "audit_checkpoints": _checkpoints,
            "audit_state": lambda _: state,
            "audit_statement": self._statement,
        }
        self.writes: Mapping[str, Callable[[Any], Answer]] = {
            "audit_seal": lambda _: self._seal,
            "audit_hold": self._hold,
            "audit_release": self._release,
        }

    @property
    def directory(self) -> Path:
        """Where the archives lie."""
        return self._directory

    @property
    def maintaining(self) -> threading.Lock:
        """Held while archives come and go."""
        return self._maintaining

    def append(self, connection: Connection, events: Columns) -> int:
        """Store events inside a write; return how many were new."""
        return self._trail.append(connection, events, self._now())

    def archive(self, payload: Any) -> dict[str, Any]:
        """Roll months off through ``payload["through"]`` (``2026-10``; the policy's when empty), and retire what expired."""
        now = self._now()
        latest = archives.months_back(now, 1)
        through = payload.get("through") or archives.months_back(now, self._policy.hot_months + 1)
        if not _is_month(through) or through > latest:
            raise InvalidInput(
                f"through={through!r} is not a month that is over, such as {latest}: the current one is still written to",
                problems=(("through", f"must be a month up to {latest}"),),
            )
        with self._maintaining:
            self._store.read(lambda c: archives.sweep(c, self._directory))
            archived = [self._roll_off(*run) for run in self._store.read(lambda c: archives.due(c, through))]
            retired = self._retire_expired(now)
        return {"archived": [a.to_json() for a in archived], "retired": [r.to_json() for r in retired]}

    def close(self) -> None:
        self._closing.set()
        self._clockwork.join()
        try:
            self._store.write(self._seal).result()
        except KubernautError as error:
            log.warning("audit_not_sealed", error=str(error))

    def _roll_off(self, name: str, first: int, last: int) -> Archive:
        self._store.write(self._seal).result()
        written = self._store.read(lambda c: archives.write(c, self._directory, name, first, last, self._now()))

        def replace(connection: Connection) -> None:
            ended = archives.replace_rows(connection, written)
            self._trail.archived(last + 1, ended)
            self._state_fact(connection, "datastorage.audit.archived", name, written.archive.to_json())

        self._store.write(replace).result()
        log.info("audit_archived", archive=name, events=written.archive.events)
        return written.archive

    def _retire_expired(self, now: datetime) -> list[Retired]:
        before = microseconds(now - self._policy.retention)
        done = []
        for archive in self._store.read(lambda c: archives.expired(c, self._directory, before)):

            def retire(connection: Connection, archive: Archive = archive) -> Retired | None:
                if archives.held(connection, self._directory, archive.name):
                    return None
                retired = archives.retirement(connection, self._directory, archive, self._trail.key, now)
                archives.retire(connection, retired)
                fact = retired.model_dump(mode="json", exclude={"chains"})
                self._state_fact(connection, "datastorage.audit.retired", archive.name, fact)
                return retired

            retired = self._store.write(retire).result()
            if retired is not None:
                archives.file_of(self._directory, archive.name).unlink(missing_ok=True)
                log.info("audit_retired", archive=archive.name, events=archive.events)
                done.append(retired)
        return done

    def _by_the_clock(self) -> None:
        elapsed, unfolded = MAINTENANCE, 0.0  # the first look at archives comes with the first tick
        while not self._closing.wait(self._policy.checkpoint_interval):
            elapsed += self._policy.checkpoint_interval
            unfolded += self._policy.checkpoint_interval
            try:
                tip = self._trail.tip
                if tip.sealed < tip.sequence:
                    self._store.write(self._seal).result()
                if elapsed >= MAINTENANCE:
                    elapsed = 0.0
                    self.archive({})
                    self._store.write(lambda c: self._trail.forget(c, self._now())).result()
                if unfolded >= FOLDING:
                    unfolded = 0.0
                    self._store.checkpoint().result()
            except (KubernautError, OSError):
                log.exception("audit_keeping_failed")

    def _seal(self, connection: Connection) -> bytes:
        checkpoint = self._trail.seal(connection, self._now())
        return orjson.dumps({"checkpoint": None if checkpoint is None else checkpoint.to_json()})

    def _records(self, payload: Any) -> Answer:
        query = RecordQuery(
            after=int(payload.get("after", 0)),
            limit=max(1, min(5000, int(payload.get("limit", 1000)))),
            correlation_id=payload.get("correlation_id", ""),
            event_type=payload.get("event_type", ""),
            since=_instant(payload.get("since", "")),
            until=_instant(payload.get("until", "")),
        )

        def run(connection: Connection) -> bytes:
            found, last, more = audit.records(connection, query, self._directory)
            return b'{"records":[%b],"last":%d,"more":%b}' % (b",".join(found), last, b"true" if more else b"false")

        return run

    def _statement(self, payload: Any) -> Answer:
        def run(connection: Connection) -> bytes:
            tip, chain = read_tip(connection), None
            if payload["scope"] == "correlation":
                length, head = audit.chain_end(connection, payload["correlation_id"])
                chain = ChainHead(correlation_id=payload["correlation_id"], length=length, head=head or NO_HASH)
            statement = Statement(
                scope=payload["scope"],
                correlation_id=payload.get("correlation_id", ""),
                last_sequence=tip.sequence,
                last_checkpoint=tip.checkpoint,
                chain=chain,
                created_us=microseconds(self._now()),
            )
            return self._trail.key.sign(statement).model_dump_json(exclude_none=True).encode()

        return run

    def _hold(self, payload: Any) -> Answer:
        hold = LegalHold.model_validate(payload)
        placed = hold.model_copy(update={"placed_at": self._now()})

        def run(connection: Connection) -> bytes:
            body = placed.model_dump_json(exclude_none=True)
            connection.execute("INSERT OR REPLACE INTO audit_holds VALUES (?, ?)", [placed.correlation_id, body])
            self._state_fact(
                connection,
                "datastorage.audit.hold_placed",
                placed.correlation_id,
                placed.to_json(),
                by=placed.placed_by,
            )
            return body.encode()

        return run

    def _release(self, payload: Any) -> Answer:
        def run(connection: Connection) -> bytes:
            gone = connection.execute(
                "DELETE FROM audit_holds WHERE correlation_id = ? RETURNING body", [payload["correlation_id"]]
            ).fetchall()
            if gone:
                said = {
                    "reason": payload.get("reason", ""),
                    "released_by": payload["by"],
                    "hold": orjson.loads(gone[0][0]),
                }
                self._state_fact(
                    connection, "datastorage.audit.hold_released", payload["correlation_id"], said, by=payload["by"]
                )
            return orjson.dumps({"released": bool(gone)})

        return run

    def _state_fact(
        self, connection: Connection, event_type: str, about: str, data: Mapping[str, Any], *, by: str = ""
    ) -> None:
        now = self._now()
        event = AuditEvent.fact(
            event_type,
            correlation_id=about,
            category=AuditCategory.WORKFLOW,
            now=now,
            actor=by or ACTOR,
            actor_type="user" if by else "service",
            key=(str(microseconds(now)), str(self._trail.tip.sequence)),
            event_data=dict(data),
        )
        self._trail.record(connection, event, now)


def state(connection: Connection) -> bytes:
    """Return the ``LedgerState`` as JSON."""
    tip = read_tip(connection)
    retired = connection.execute("SELECT body FROM audit_retired ORDER BY first_seq").fetchall()
    holds = connection.execute("SELECT body FROM audit_holds ORDER BY correlation_id").fetchall()
    keys = connection.execute("SELECT key_id, public_key FROM audit_keys ORDER BY key_id").fetchall()
    told = LedgerState(
        last_sequence=tip.sequence,
        last_checkpoint=tip.checkpoint,
        unsealed=max(0, tip.sequence - tip.sealed),  # Less than nothing where somebody cut records off.
        chains=audit.chain_count(connection),
        archives=tuple(archives.listed(connection)),
        holds=tuple(LegalHold.model_validate_json(body) for (body,) in holds),
        retired=tuple(Retired.model_validate_json(body) for (body,) in retired),
        public_keys=dict(keys),
    )
    return told.model_dump_json(exclude_none=True).encode()


def _checkpoints(payload: Any) -> Answer:
    limit = max(1, min(1000, int(payload.get("limit", 100))))

    def run(connection: Connection) -> bytes:
        found = audit.checkpoints(connection, int(payload.get("after", 0)), limit, leaves=bool(payload.get("leaves")))
        return b'{"checkpoints":[%b]}' % b",".join(found)

    return run


def _remember_key(connection: Connection, key: SigningKey) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO audit_keys VALUES (?, ?)", [key.key_id, base64.b64encode(key.public_key).decode()]
    )


def _instant(text: str) -> datetime | None:
    return parse_rfc3339(text) if text else None


def _is_month(text: str) -> bool:
    try:
        datetime.strptime(text, "%Y-%m")  # noqa: DTZ007 - a month, not an instant
    except ValueError:
        return False
    return len(text) == 7
