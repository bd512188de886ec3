"""Backups of the catalog and the audit trail (contract of Data Storage): what is in one, and how the making of one stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from kubernaut_ray.contracts.base import Contract, StrictContract
from kubernaut_ray.contracts.ledger import Hash
from kubernaut_ray.crds.base import Timestamp

FORMAT = "kubernaut-backup/1"
MANIFEST = "manifest.json"
"""The first thing in a backup, which is a tar."""


class BackedUp(Contract):
    """A file in a backup: its path below the data directory."""

    name: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Hash


class Manifest(Contract):
    format: Literal["kubernaut-backup/1"] = "kubernaut-backup/1"
    version: str
    """The release that made it."""
    created_at: Timestamp
    last_sequence: Annotated[int, Field(ge=0)]
    """Of the audit trail."""
    signing_key: bool = False
    """Whether the private key that signs checkpoints is in it."""
    files: tuple[BackedUp, ...]


class BackupState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class BackupRequest(StrictContract):
    with_signing_key: bool = False
    """Put the private key in too. Who has such a backup can forge checkpoints."""


class Backup(Contract):
    """One on its way. When it is ``done`` its file can be fetched; what ``failed`` says why."""

    name: str
    state: BackupState
    bytes: Annotated[int, Field(ge=0)] = 0
    sha256: str = ""
    """Of the file."""
    last_sequence: Annotated[int, Field(ge=0)] = 0
    error: str = ""
