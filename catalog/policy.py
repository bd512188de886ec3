"""What the owner is told about the audit trail: when it seals, what it keeps in the database, how long it keeps anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from kubernaut_ray.settings import CatalogSettings


@dataclass(frozen=True, slots=True)
class TrailPolicy:
    """See ``CatalogSettings`` for what each means."""

    checkpoint_events: int = 4096
    checkpoint_interval: float = 60.0
    hot_months: int = 1
    retention: timedelta = timedelta(days=2555)
    signing_key: Path | None = None

    @classmethod
    def of(cls, settings: CatalogSettings) -> TrailPolicy:
        return cls(
            checkpoint_events=settings.audit_checkpoint_events,
            checkpoint_interval=settings.audit_checkpoint_interval,
            hot_months=settings.audit_hot_months,
            retention=timedelta(days=settings.audit_retention_days),
            signing_key=settings.audit_signing_key,
        )
