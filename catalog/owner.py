"""The catalog owner: the only opener of the DuckDB file. A plain class; an actor or a test puts it somewhere.

It takes and gives bytes, because that is what crosses processes cheaply: ``call`` runs a named operation on a JSON payload
and returns a future of an answer that always carries the catalog version, so that replicas learn of changes for free.
What an operation refuses travels in the answer as data. ``catalog.client`` is the typed other end.

Writes go through the store's group commit; pulling bundles, queries and building snapshots run on a few threads beside
it. The snapshot of a version is built once, when somebody first asks for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog
from pydantic import ValidationError

from catalog import agreement, assessments, audit, etags, executions, records, searches, sessions
from catalog.backup import Sources
from catalog.backup_jobs import Backups
from catalog.draft import Draft
from catalog.embed import Embedder
from catalog.errors import Conflict, NotFound, PreconditionFailed
from catalog.events import AuditQuery, Columns, unpack
from catalog.keeper import Keeper
from catalog.policy import TrailPolicy
from catalog.search import document_text
from catalog.store import MEMORY_LIMIT, Connection, Store
from kubernaut_ray.clock import Clock, parse_rfc3339
from kubernaut_ray.contracts.audit import AuditBatchResult, Pagination
from kubernaut_ray.contracts.base import Contract
from kubernaut_ray.contracts.catalog import RegisterWorkflow, Workflow, WorkflowPage, WorkflowPatch
from kubernaut_ray.contracts.investigation import InvestigationSession
from kubernaut_ray.contracts.statistics import EffectivenessRecord, ExecutionRecord
from kubernaut_ray.errors import InvalidInput, KubernautError, Permanent, Retryable

FILE = "catalog.duckdb"
THREADS = 4
DRAFTED_AT_ONCE = 4096
"""Records that a snapshot reads, embeds and takes in at a time."""

Answer = Callable[[Connection], bytes]
"""An operation's work in the store, giving the JSON of its result."""

log = structlog.get_logger(__name__)


class WorkflowSource(Protocol):
    """Fetches the workflow that a bundle reference names: pulled, validated, digest pinned. ``catalog.bundles`` is one."""

    def workflow(self, ref: str) -> tuple[Workflow, Any]: ...


class Owner:
    """Owns the catalog and the audit trail of one data directory. Thread-safe. ``close`` it, or the file stays locked."""

    def __init__(
        self,
        directory: Path,
        *,
        embedder: Embedder,
        source: WorkflowSource,
        now: Clock,
        policy: TrailPolicy = TrailPolicy(),  # noqa: B008 - frozen
        memory_limit: str = MEMORY_LIMIT,
        bundles: Path | None = None,
    ) -> None:
        """``bundles`` is the local bundle store, which goes into backups."""
        self._store = Store(directory / FILE, memory_limit=memory_limit)
        self._embedder, self._source, self._now = embedder, source, now
        try:
            self._keeper = Keeper(self._store, directory, policy, now)
        except BaseException:
            self._store.close()
            raise
        sources = Sources(directory, bundles, self._keeper.key_file)
        self._backups = Backups(self._store, sources, self._keeper.maintaining, now)
        self._version = self._store.read(records.version)
        self._snapshot: tuple[int, bytes] = (-1, b"")
        self._building = threading.Lock()
        self._draft = Draft()
        self._drafted: dict[str, records.Mark] = {}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="catalog-owner")
        self._reads: Mapping[str, Callable[[Any], Answer]] = {
            "version": lambda _: lambda _c: b"null",
            "workflow": _workflow,
            "workflows": _workflows,
            "audit_find": self._audit_find,
            "timeline": self._timeline,
            "session_get": lambda p: lambda c: sessions.get(c, p["session_id"]).encode(),
            "execution_statistics": _execution_statistics,
            "effectiveness_of": lambda p: lambda c: _json(assessments.of(c, p["workflow_id"])),
            "search_gaps": lambda p: lambda c: searches.in_vain(c, p["since_us"], p["min_relevance"], p["limit"]),
            "audit_get": lambda p: lambda c: audit.get(c, p["event_id"], self._keeper.directory).encode(),
            **self._keeper.reads,
        }
        self._writes: Mapping[str, Callable[[Any], Answer]] = {
            "patch": self._patch,
            "session_put": self._session_put,
            "execution_record": self._execution_record,
            "effectiveness_record": self._effectiveness_record,
            **self._keeper.writes,
        }
        self._slow: Mapping[str, Callable[[Any], Any]] = {
            "audit_archive": self._keeper.archive,
            **self._backups.operations,
        }
        self._store.write(lambda c: sessions.forget_old(c, now())).result()

    @property
    def broken(self) -> bool:
        """The database gave up; the process must be replaced."""
        return self._store.broken

    def call(self, method: str, payload: bytes) -> Future[bytes]:
        """Run an operation. The future gives ``{"version": …, "result": …}`` or ``{"version": …, "error": {…}}``."""
        answer: Future[bytes] = Future()
        try:
            if method == "register":
                self._pool.submit(self._register, payload, answer)
            elif method in self._slow:
                self._pool.submit(self._run, self._slow[method], payload, answer)
            elif method in self._reads:
                self._pool.submit(self._read, self._reads[method], payload, answer)
            elif method == "audit_append":
                self._append(unpack(payload), answer)
            elif method in self._writes:
                self._write(self._writes[method](orjson.loads(payload)), answer)
            else:
                raise InvalidInput(f"the catalog owner has no operation {method!r}")
        except (KubernautError, ValueError) as error:
            self._refuse(answer, error)
        return answer

    def snapshot(self, have: int) -> bytes:
        """Return the current snapshot, or nothing when the caller has that version already. Blocks while it is built."""
        with self._building:
            if self._version == have:
                return b""
            if self._snapshot[0] != self._version:
                self._snapshot = self._build()
            return self._snapshot[1]

    def close(self) -> None:
        """Finish what was accepted, checkpoint, release the file."""
        self._pool.shutdown(wait=True)
        self._backups.close()
        self._keeper.close()
        self._store.close()

    def _run(self, operation: Callable[[Any], Any], payload: bytes, answer: Future[bytes]) -> None:
        try:
            self._reply(answer, orjson.dumps(operation(orjson.loads(payload))))
        except Exception as error:  # noqa: BLE001 - a pool thread has no caller but this answer
            self._refuse(answer, error)

    def _read(self, prepare: Callable[[Any], Answer], payload: bytes, answer: Future[bytes]) -> None:
        try:
            self._reply(answer, self._store.read(prepare(orjson.loads(payload))))
        except Exception as error:  # noqa: BLE001 - a pool thread has no caller but this answer
            self._refuse(answer, error)

    def _write(self, operation: Answer, answer: Future[bytes]) -> None:
        """Run an operation that may change the catalog, and learn its version."""

        def finish(done: Future[tuple[bytes, int]]) -> None:
            error = done.exception()
            if error is not None:
                self._refuse(answer, error)
                return
            result, self._version = done.result()
            self._reply(answer, result)

        self._store.write(lambda c: (operation(c), records.version(c))).add_done_callback(finish)

    def _append(self, events: Columns, answer: Future[bytes]) -> None:
        count = len(events["event_id"])

        def finish(done: Future[int]) -> None:
            error = done.exception()
            if error is not None:
                self._refuse(answer, error)
                return
            stored = done.result()
            self._reply(answer, _json(AuditBatchResult(stored=stored, duplicates=count - stored)))

        self._store.write(lambda c: self._keeper.append(c, events)).add_done_callback(finish)

    def _register(self, payload: bytes, answer: Future[bytes]) -> None:
        try:
            request = RegisterWorkflow.model_validate_json(payload)
            pinned = f"@{request.container_digest}" if request.container_digest else ""
            workflow, _ = self._source.workflow(f"{request.container_image}{pinned}")
            agreement.check(request.expected, workflow)
            workflow = workflow.model_copy(update={"source": request.source or request.registered_by})
            self._write(lambda c: _registration(records.register(c, workflow, self._now())), answer)
        except Exception as error:  # noqa: BLE001 - a pool thread has no caller but this answer
            self._refuse(answer, error)

    def _patch(self, payload: Any) -> Answer:
        change = WorkflowPatch.model_validate(payload["patch"])
        expected = payload.get("if_match", ())

        def patch(connection: Connection) -> bytes:
            if expected:
                etags.require(expected, _json(records.get(connection, payload["workflow_id"])))
            return _json(records.patch(connection, payload["workflow_id"], change, payload["by"], self._now()))

        return patch

    def _audit_find(self, payload: Any) -> Answer:
        query = AuditQuery.model_validate(payload)

        def run(connection: Connection) -> bytes:
            bodies, total = audit.find(connection, query, self._keeper.directory)
            pagination = _pagination(query.limit, query.offset, len(bodies), total)
            return b'{"data":[%s],"pagination":%s}' % (",".join(bodies).encode(), _json(pagination))

        return run

    def _timeline(self, payload: Any) -> Answer:
        name = payload["remediation_id"]
        return lambda c: (
            b'{"remediation_id":%s,"events":[%s]}'
            % (orjson.dumps(name), ",".join(audit.timeline(c, name, self._keeper.directory)).encode())
        )

    def _session_put(self, payload: Any) -> Answer:
        session = InvestigationSession.model_validate(payload["session"])

        def put(connection: Connection) -> bytes:
            sessions.put(connection, session, payload["expected_attempt"], self._now())
            return _json(session)

        return put

    def _execution_record(self, payload: Any) -> Answer:
        execution = ExecutionRecord.model_validate(payload)
        return lambda c: orjson.dumps({"recorded": executions.record(c, execution, self._now())})

    def _effectiveness_record(self, payload: Any) -> Answer:
        record = EffectivenessRecord.model_validate(payload)
        return lambda c: orjson.dumps({"recorded": assessments.record(c, record, self._now())})

    def _build(self) -> tuple[int, bytes]:
        fingerprint = self._embedder.fingerprint
        started = time.perf_counter()
        version, marks = self._store.read(lambda c: (records.version(c), records.marks(c)))
        changed = [workflow_id for workflow_id, mark in marks.items() if self._drafted.get(workflow_id) != mark]
        embedded = 0
        for first in range(0, len(changed), DRAFTED_AT_ONCE):
            embedded += self._draft_changed(fingerprint, changed[first : first + DRAFTED_AT_ONCE])
        self._drafted = marks
        data = self._draft.render(version, fingerprint, self._embedder.dimension)
        log.info(
            "catalog_snapshot_built",
            version=version,
            workflows=len(marks),
            changed=len(changed),
            embedded=embedded,
            seconds=round(time.perf_counter() - started, 3),
        )
        return version, data

    def _draft_changed(self, fingerprint: str, ids: list[str]) -> int:
        """Take these records into the draft; returns how many of them had to be embedded."""
        workflows, known = self._store.read(lambda c: (records.some(c, ids), records.vectors(c, fingerprint, ids)))
        missing = [w for w in workflows if w.workflow_id not in known]
        if missing:
            made = self._embedder.embed([document_text(w) for w in missing])
            fresh = [(w.workflow_id, vector) for w, vector in zip(missing, made, strict=True)]
            self._store.write(lambda c: records.keep_vectors(c, fingerprint, fresh)).result()
            known |= dict(fresh)
        self._draft.put((w, known[w.workflow_id]) for w in workflows)
        return len(missing)

    def _reply(self, answer: Future[bytes], result: bytes) -> None:
        answer.set_result(orjson.dumps({"version": self._version, "result": orjson.Fragment(result)}))

    def _refuse(self, answer: Future[bytes], error: BaseException) -> None:
        body: dict[str, Any] = {"kind": "Retryable", "message": "the catalog owner failed; its log has the cause"}
        match error:
            case InvalidInput():
                body = {
                    "kind": "InvalidInput",
                    "message": str(error),
                    "problems": error.problems,
                    "reason": error.reason,
                }
            case NotFound() | Conflict() | PreconditionFailed():
                body = {"kind": type(error).__name__, "message": str(error)}
            case Retryable():
                body = {"kind": "Retryable", "message": str(error), "after": error.after, "reason": error.reason}
            case Permanent():
                body = {"kind": "Permanent", "message": str(error), "reason": error.reason}
            case ValidationError():
                found = error.errors(include_url=False, include_context=False, include_input=False)
                body = {
                    "kind": "InvalidInput",
                    "message": "the catalog owner cannot read the request",
                    "problems": [(".".join(map(str, e["loc"])), str(e["msg"])) for e in found],
                }
            case ValueError():
                body = {"kind": "InvalidInput", "message": f"the catalog owner cannot read the request: {error}"}
            case _:
                log.error("catalog_owner_failed", exc_info=error)
        answer.set_result(orjson.dumps({"version": self._version, "error": body}))


def _json(result: Contract) -> bytes:
    return result.model_dump_json(exclude_none=True).encode()


def _registration(outcome: records.Registration) -> bytes:
    return orjson.dumps({"created": outcome.created, "workflow": orjson.Fragment(_json(outcome.workflow))})


def _workflow(payload: Any) -> Answer:
    return lambda c: _json(records.get(c, payload["workflow_id"]))


def _workflows(payload: Any) -> Answer:
    def run(connection: Connection) -> bytes:
        limit, offset = payload["limit"], payload["offset"]
        found, total = records.page(
            connection, status=payload["status"], name=payload["name"], limit=limit, offset=offset
        )
        return _json(WorkflowPage(workflows=found, pagination=_pagination(limit, offset, len(found), total)))

    return run


def _execution_statistics(payload: Any) -> Answer:
    since: datetime = parse_rfc3339(payload["since"])
    return lambda c: _json(executions.statistics(c, since))


def _pagination(limit: int, offset: int, found: int, total: int) -> Pagination:
    return Pagination(limit=limit, offset=offset, total=total, has_more=offset + found < total)
