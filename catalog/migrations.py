"""The schema of the DuckDB file, step by step. A step that was released is never edited; changes are new steps.

Instants are microseconds since the epoch, so that no time zone and no driver's idea of one comes between. Where a column says
how it is compressed, choosing was most of what a checkpoint did: bodies as ZSTD and hashes as they are take a fifth of the
time and a third of the space.
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from catalog.chaining import chain_events

Step = str | Callable[[duckdb.DuckDBPyConnection], None]
"""SQL, or what SQL cannot do."""

MIGRATIONS: tuple[tuple[str, tuple[Step, ...]], ...] = (
    (
        "workflows, audit, sessions and executions",
        (
            """
            CREATE TABLE meta (key VARCHAR PRIMARY KEY, value BIGINT NOT NULL)
            """,
            """
            INSERT INTO meta VALUES ('catalog_version', 0)
            """,
            """
            CREATE TABLE workflows (
                workflow_id VARCHAR PRIMARY KEY, workflow_name VARCHAR NOT NULL, version VARCHAR NOT NULL,
                status VARCHAR NOT NULL, is_latest BOOLEAN NOT NULL, record VARCHAR NOT NULL)
            """,
            """
            CREATE TABLE workflow_vectors (workflow_id VARCHAR PRIMARY KEY, fingerprint VARCHAR NOT NULL, vector BLOB NOT NULL)
            """,
            """
            CREATE TABLE audit_events (
                seq BIGINT NOT NULL, event_id UUID PRIMARY KEY, event_us BIGINT NOT NULL, stored_us BIGINT NOT NULL,
                correlation_id VARCHAR NOT NULL, event_type VARCHAR NOT NULL, event_category VARCHAR NOT NULL,
                event_outcome VARCHAR NOT NULL, severity VARCHAR NOT NULL, body VARCHAR NOT NULL)
            """,
            """
            CREATE TABLE sessions (
                session_id VARCHAR PRIMARY KEY, attempt INTEGER NOT NULL, state VARCHAR NOT NULL,
                updated_us BIGINT NOT NULL, body VARCHAR NOT NULL)
            """,
            """
            CREATE TABLE executions (
                execution_id VARCHAR PRIMARY KEY, workflow_id VARCHAR NOT NULL, success BOOLEAN NOT NULL,
                target VARCHAR NOT NULL, remediation_id VARCHAR NOT NULL, finished_us BIGINT NOT NULL)
            """,
        ),
    ),
    (
        "audit records in chains, checkpoints, archives",
        (
            """
            CREATE TABLE audit_records (
                seq BIGINT NOT NULL, position BIGINT NOT NULL,
                previous BLOB NOT NULL USING COMPRESSION UNCOMPRESSED, hash BLOB NOT NULL USING COMPRESSION UNCOMPRESSED,
                stored_us BIGINT NOT NULL, event_id UUID NOT NULL, event_us BIGINT NOT NULL,
                correlation_id VARCHAR NOT NULL, event_type VARCHAR NOT NULL, event_category VARCHAR NOT NULL,
                event_outcome VARCHAR NOT NULL, severity VARCHAR NOT NULL, body VARCHAR NOT NULL USING COMPRESSION ZSTD)
            """,
            chain_events,
            """
            DROP TABLE audit_events
            """,
            """
            ALTER TABLE audit_records RENAME TO audit_events
            """,
            """
            CREATE TABLE audit_checkpoints (
                number BIGINT PRIMARY KEY, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL, body VARCHAR NOT NULL,
                leaves BLOB NOT NULL)
            """,
            """
            CREATE TABLE audit_chains (correlation_id VARCHAR PRIMARY KEY, length BIGINT NOT NULL, head BLOB NOT NULL)
            """,
            """
            CREATE TABLE audit_archives (
                name VARCHAR PRIMARY KEY, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL,
                first_event_us BIGINT NOT NULL, last_event_us BIGINT NOT NULL, last_stored_us BIGINT NOT NULL,
                body VARCHAR NOT NULL)
            """,
            """
            CREATE TABLE audit_retired (
                name VARCHAR PRIMARY KEY, first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL, body VARCHAR NOT NULL)
            """,
            """
            CREATE TABLE audit_holds (correlation_id VARCHAR PRIMARY KEY, body VARCHAR NOT NULL)
            """,
            """
            CREATE TABLE audit_keys (key_id VARCHAR PRIMARY KEY, public_key VARCHAR NOT NULL)
            """,
        ),
    ),
    (
        "how long executions took",
        (
            """
            ALTER TABLE executions ADD COLUMN duration_s DOUBLE
            """,
        ),
    ),
    (
        "whether executions helped",
        (
            """
            CREATE TABLE assessments (
                execution_id VARCHAR PRIMARY KEY, workflow_id VARCHAR NOT NULL, environment VARCHAR NOT NULL,
                target VARCHAR NOT NULL, remediation_id VARCHAR NOT NULL, effective BOOLEAN NOT NULL, score DOUBLE NOT NULL,
                reason VARCHAR NOT NULL, assessed_us BIGINT NOT NULL)
            """,
        ),
    ),
)
