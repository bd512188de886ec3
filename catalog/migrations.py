"""The schema of the DuckDB file, step by step. A step that was released is never edited; changes are new steps.

Instants are microseconds since the epoch, so that no time zone and no driver's idea of one comes between.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
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
        "how long executions took",
        (
            """
            ALTER TABLE executions ADD COLUMN duration_s DOUBLE
            """,
        ),
    ),
)
