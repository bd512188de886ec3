"""Backups: the database, the archives and the bundles of one data directory in one tar, and back again.

``write`` takes a consistent copy of a store while it is read and written: the database as one transaction sees it, archives
that never change, bundles whose index is taken before what it names. ``unpack`` gives back files of which each has the hash
that the manifest says, or none. Neither opens what it restores; the caller verifies the trail before putting it in place.
The private signing key is left out unless asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import ValidationError

from catalog import archives
from catalog.store import Store, open_read_only
from catalog.trail import read_tip
from kubernaut_ray import __version__
from kubernaut_ray.contracts.backup import MANIFEST, BackedUp, Manifest
from kubernaut_ray.errors import InvalidInput, Permanent

CATALOG, BUNDLES = "catalog", "bundles"
DATABASE = "catalog.duckdb"
ARCHIVE = "archive"
KEY = "audit-signing.key"
PIECE = 1 << 20
MANIFEST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the parts lie: the catalog's directory, the bundle store and the key, where there are such."""

    catalog: Path
    bundles: Path | None = None
    signing_key: Path | None = None


def write(store: Store, sources: Sources, file: Path, now: datetime) -> Manifest:
    """Write a backup that appears under its name when it is whole and on disk.

    While it runs, archives must not come or go. The key is in it when ``sources`` names it. Raises ``Retryable`` when the
    database fails, ``Permanent`` when a file cannot be read or written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.part")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as name:
            copied = Path(name) / DATABASE
            store.copy(copied)
            with open_read_only(copied) as connection:
                last, listed = read_tip(connection).sequence, archives.listed(connection)
            parts = [(f"{CATALOG}/{DATABASE}", copied)]
            for archive in listed:
                one = archives.file_of(sources.catalog / ARCHIVE, archive.name)
                parts.append((f"{CATALOG}/{ARCHIVE}/{one.name}", one))
            if sources.signing_key is not None:
                parts.append((f"{CATALOG}/{KEY}", sources.signing_key))
            with _bundles(sources.bundles, Path(name)) as found:
                parts += found
                manifest = Manifest(
                    version=__version__,
                    created_at=now,
                    last_sequence=last,
                    signing_key=sources.signing_key is not None,
                    files=tuple(_describe(name, path) for name, path in parts),
                )
                _pack(draft, manifest, parts)
        draft.replace(file)
        _sync(file.parent)
    except OSError as error:
        raise Permanent(
            f"the backup {file} cannot be written: {error.filename or ''} {error.strerror}", reason="BackupFailed"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return manifest


def unpack(file: Path, directory: Path) -> Manifest:
    """Unpack a backup into a new directory, each file checked and on disk. Raises ``InvalidInput`` when it is damaged."""
    directory.mkdir(mode=0o700)
    try:
        with tarfile.open(file, "r:") as packed:
            members = iter(packed)
            manifest = _manifest(packed, next(members, None), file)
            missing = {one.name: one for one in manifest.files}
            for member in members:
                wanted = missing.pop(member.name, None)
                if wanted is None:
                    raise InvalidInput(f"{file}: {member.name!r} is not in its manifest, or there twice")
                _unpack_one(packed, member, wanted, directory, file)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInput(f"{file} is no backup, or was cut off: {error}") from error
    except OSError as error:
        raise InvalidInput(f"{file} cannot be unpacked into {directory}: {error.strerror or error}") from error
    if missing:
        raise InvalidInput(f"{file} was cut off: {len(missing)} files are missing, among them {min(missing)}")
    for folder in sorted({path.parent for path in directory.rglob("*")} | {directory}):
        _sync(folder)
    return manifest


def manifest_of(file: Path) -> Manifest:
    """Read what is in a backup. Raises ``InvalidInput``."""
    try:
        with tarfile.open(file, "r:") as packed:
            return _manifest(packed, packed.next(), file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InvalidInput(f"{file} is no backup: {error}") from error


def put_in_place(unpacked: Path, data_dir: Path, stamp: str) -> list[Path]:
    """Move unpacked parts to where they belong; what was there is kept beside. Returns what was moved aside."""
    aside = []
    for part in (CATALOG, BUNDLES):
        if not (unpacked / part).is_dir():
            continue
        place = data_dir / part
        if occupied(place):
            kept = data_dir / f"{part}.before-{stamp}"
            place.rename(kept)
            aside.append(kept)
        elif place.exists():
            place.rmdir()
        (unpacked / part).rename(place)
    _sync(data_dir)
    return aside


def occupied(directory: Path) -> bool:
    """Whether there is anything in a directory."""
    return directory.is_dir() and any(directory.iterdir())


def private(path: str, flags: int) -> int:
    """Open a file that only its owner may read: what ``open`` takes as ``opener``."""
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _bundles(directory: Path | None, scratch: Path) -> Iterator[list[tuple[str, Path]]]:
    """List the bundle store's files. Its indexes change: they are copied first, so that all that they name is there."""
    found: list[tuple[str, Path]] = []
    if directory is not None and directory.is_dir():
        for number, index in enumerate(sorted(directory.rglob("index.json"))):
            kept = scratch / f"index-{number}.json"
            shutil.copyfile(index, kept)
            found.append((_below(index, directory), kept))
        taken = {name for name, _ in found}
        found += [
            (_below(path, directory), path)
            for path in sorted(directory.rglob("*"))
            if path.is_file() and not path.name.startswith(".") and _below(path, directory) not in taken
        ]
    yield found


def _below(path: Path, directory: Path) -> str:
    return f"{BUNDLES}/{path.relative_to(directory).as_posix()}"


def _describe(name: str, path: Path) -> BackedUp:
    return BackedUp(name=name, bytes=path.stat().st_size, sha256=archives.sha256_of(path))


def _pack(file: Path, manifest: Manifest, parts: Iterable[tuple[str, Path]]) -> None:
    with open(file, "xb", opener=private) as opened:
        with tarfile.open(fileobj=opened, mode="w", format=tarfile.PAX_FORMAT) as packed:
            text = manifest.model_dump_json(indent=1).encode()
            _add(packed, MANIFEST, len(text), io.BytesIO(text), manifest.created_at)
            for described, (name, path) in zip(manifest.files, parts, strict=True):
                with path.open("rb") as part:
                    _add(packed, name, described.bytes, part, manifest.created_at)
        opened.flush()
        os.fsync(opened.fileno())


def _add(packed: tarfile.TarFile, name: str, size: int, content: IO[bytes], at: datetime) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(at.timestamp())
    packed.addfile(member, content)


def _manifest(packed: tarfile.TarFile, member: tarfile.TarInfo | None, file: Path) -> Manifest:
    if member is None or member.name != MANIFEST or not member.isreg() or member.size > MANIFEST_BYTES:
        raise InvalidInput(f"{file} is no backup of kubernaut-ray: it does not begin with {MANIFEST}")
    opened = packed.extractfile(member)
    assert opened is not None  # noqa: S101 - it is a regular file
    try:
        manifest = Manifest.model_validate_json(opened.read())
    except ValidationError as error:
        raise InvalidInput(f"{file}: its {MANIFEST} cannot be read: {error.errors()[0]['msg']}") from error
    for one in manifest.files:
        path = PurePosixPath(one.name)
        if path.is_absolute() or ".." in path.parts or path.parts[0] not in {CATALOG, BUNDLES} or len(path.parts) < 2:
            raise InvalidInput(f"{file}: {one.name!r} is no place in a data directory")
    return manifest


def _unpack_one(
    packed: tarfile.TarFile, member: tarfile.TarInfo, wanted: BackedUp, directory: Path, file: Path
) -> None:
    opened = packed.extractfile(member) if member.isreg() else None
    if opened is None or member.size != wanted.bytes:
        raise InvalidInput(f"{file}: {wanted.name} is not of the kind and size that the manifest says")
    target = directory / wanted.name
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    with open(target, "xb", opener=private) as written:
        while piece := opened.read(PIECE):
            digest.update(piece)
            written.write(piece)
        written.flush()
        os.fsync(written.fileno())
    if digest.hexdigest() != wanted.sha256:
        raise InvalidInput(f"{file} is damaged: {wanted.name} has not the SHA-256 that the manifest says")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
