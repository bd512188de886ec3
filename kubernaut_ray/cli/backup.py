"""``kubernaut-ray backup`` and ``restore``: the catalog, the audit trail and the bundles in one file, and back."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from kubernaut_ray import clock
from kubernaut_ray.cli import connection, trail
from kubernaut_ray.cli.connection import CommandError, DataDir, Exit, err, out
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.contracts.backup import Manifest

POLL_SECONDS = 0.3
SHOWN = 20


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it: a tar.")],
    with_signing_key: Annotated[
        bool,
        typer.Option(
            "--with-signing-key",
            help="Put the private key in that signs the audit trail. Who has that backup can forge checkpoints.",
        ),
    ] = False,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Back up the catalog, the audit trail and the local bundles: of a running system, or of a stopped one.

    Nothing has to stop for it. Incidents in the Kubernetes API are not in it, nor is the API server.

    Examples:

      kubernaut-ray backup kubernaut-$(date +%F).tar

      KUBERNAUT_DATA_STORAGE_URL=http://127.0.0.1:8000/storage kubernaut-ray backup cluster.tar
    """

    async def main() -> None:
        if file.exists():
            raise CommandError(f"{file} is there already; name another file, or remove it", Exit.USAGE)
        if os.environ.get("KUBERNAUT_DATA_STORAGE_URL") or _runs(data_dir):
            async with trail.storage(data_dir) as storage:
                last = await _fetched(storage, file, with_signing_key=with_signing_key)
        else:
            last = await asyncio.to_thread(_of_stopped, data_dir, file, with_signing_key=with_signing_key)
        out.print(f"[green]backed up[/] {last:,} audit events, {file.stat().st_size:,} bytes: {file}", highlight=False)

    connection.run(main)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.", exists=True, dir_okay=False)],
    force: Annotated[
        bool, typer.Option("--force", help="Also where there is a catalog already, which is kept beside it.")
    ] = False,
    unsound: Annotated[
        bool, typer.Option("--unsound", help="Also when the verifier finds that the trail was tampered with.")
    ] = False,
    data_dir: DataDir = connection.DEFAULT_DATA_DIR,
) -> None:
    """Restore a backup into a data directory that nothing runs on, having checked every file and verified the trail.

    Without the signing key in the backup a new one is made at the next start; what the old one signed stays verifiable.

    Example: kubernaut-ray restore kubernaut-2026-03-01.tar --data-dir /var/lib/kubernaut
    """

    async def main() -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _held(data_dir):
            await _restored(file, data_dir, force=force, unsound=unsound)

    connection.run(main)


async def _fetched(storage: DataStorage, file: Path, *, with_signing_key: bool) -> int:
    """Have a backup made and fetch it; returns the last sequence of the trail in it."""
    from catalog.backup import manifest_of

    begun = await storage.begin_backup(with_signing_key=with_signing_key)
    draft = file.with_name(f".{file.name}.part")
    try:
        with err.status("the owner makes the backup"):
            while not await _stored(storage, begun.name, draft):
                await asyncio.sleep(POLL_SECONDS)
        manifest = await asyncio.to_thread(manifest_of, draft)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    await storage.delete_backup(begun.name)
    return manifest.last_sequence


async def _stored(storage: DataStorage, name: str, file: Path) -> bool:
    """Write a backup to a file, whole and on disk; false while it is being made."""
    async with storage.fetch_backup(name) as answer:
        if answer is None:
            return False
        wanted, pieces = answer
        digest = await _written(file, pieces)
    if digest != wanted:
        raise CommandError("the backup did not arrive as it was made: its SHA-256 differs; try again")
    return True


async def _written(file: Path, pieces: AsyncIterator[bytes]) -> str:
    digest = hashlib.sha256()
    with _on_disk(file) as opened:
        async for piece in pieces:
            digest.update(piece)
            opened.write(piece)
    return digest.hexdigest()


@contextmanager
def _on_disk(file: Path) -> Iterator[BinaryIO]:
    """Write a file that only its owner may read, and wait until it is on disk."""
    from catalog.backup import private

    with open(file, "wb", opener=private) as opened:
        yield opened
        opened.flush()
        os.fsync(opened.fileno())


def _of_stopped(data_dir: Path, file: Path, *, with_signing_key: bool) -> int:
    from catalog import backup as backups
    from catalog.store import Store

    catalog, key = data_dir / backups.CATALOG, data_dir / backups.CATALOG / backups.KEY
    if not (catalog / backups.DATABASE).exists():
        raise CommandError(f"there is no catalog in {data_dir}, so there is nothing to back up", Exit.NOT_FOUND)
    if with_signing_key and not key.exists():
        raise CommandError(f"{key} does not exist: the key lies elsewhere; back it up from there", Exit.NOT_FOUND)
    sources = backups.Sources(catalog, data_dir / backups.BUNDLES, key if with_signing_key else None)
    with _held(data_dir), Store(catalog / backups.DATABASE) as store:
        return backups.write(store, sources, file.resolve(), clock.utcnow()).last_sequence


async def _restored(file: Path, data_dir: Path, *, force: bool, unsound: bool) -> None:
    from catalog import backup as backups
    from catalog.store import in_use

    if in_use(data_dir / backups.CATALOG / backups.DATABASE):
        raise CommandError(f"the catalog in {data_dir} is in use; stop the system that runs on it", Exit.REFUSED)
    there = [part for part in (backups.CATALOG, backups.BUNDLES) if backups.occupied(data_dir / part)]
    if there and not force:
        raise CommandError(
            f"{data_dir} has a {' and a '.join(there)} already; restore into another --data-dir, "
            "or say --force: what is there is kept beside what is restored",
            Exit.REFUSED,
        )
    unpacked = data_dir / f".restore-{secrets.token_hex(4)}"
    try:
        with err.status("checking every file"):
            manifest = await asyncio.to_thread(backups.unpack, file, unpacked)
        with err.status("verifying the trail"):
            outcome = await _verified(unpacked / backups.CATALOG)
        for finding in outcome.findings[:SHOWN]:
            err.print(f"[red]{finding}[/]", highlight=False, soft_wrap=True)
        if not outcome.sound and not unsound:
            raise CommandError(
                f"the trail in {file} is not sound: {len(outcome.findings) + outcome.more} findings; nothing was restored. "
                "Restore it all the same with --unsound",
                Exit.REFUSED,
            )
        stamp = f"{clock.utcnow():%Y%m%dT%H%M%SZ}"
        aside = await asyncio.to_thread(backups.put_in_place, unpacked, data_dir, stamp)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    _tell(manifest, outcome, aside, data_dir)


async def _verified(catalog: Path) -> trail.Outcome:
    """Open what was unpacked as its owner will, and verify the whole trail in it."""
    from catalog.at_rest import AtRest
    from catalog.backup import DATABASE
    from catalog.ledger.export import Wanted, export
    from catalog.ledger.finding import Account
    from catalog.store import Store

    Store(catalog / DATABASE).close()  # It may be of an older release.
    async with AtRest(catalog) as source:
        header, items = await export(source, Wanted())
        return await trail.verify(header, items, {}, Account())


def _tell(manifest: Manifest, outcome: trail.Outcome, aside: list[Path], data_dir: Path) -> None:
    sound = "sound" if outcome.sound else "NOT sound"
    out.print(
        f"[green]restored[/] the backup of {clock.rfc3339(manifest.created_at)} into {data_dir}: {len(manifest.files)} files, "
        f"{outcome.account.records:,} audit events verified and {sound}",
        highlight=False,
    )
    for kept in aside:
        out.print(f"what was there is kept in {kept}", highlight=False)
    if not manifest.signing_key:
        out.print(
            "the signing key is not in this backup: put audit-signing.key back, or a new one is made at the next start",
            highlight=False,
        )


def _runs(data_dir: Path) -> bool:
    """Whether a system runs on a data directory."""
    if not (data_dir / "lock").exists():
        return False
    try:
        with _held(data_dir):
            return False
    except CommandError:
        return True


@contextmanager
def _held(data_dir: Path) -> Iterator[None]:
    """Hold a data directory as ``up`` does, so that neither starts while the other is at it. Raises ``CommandError``."""
    try:
        lock = (data_dir / "lock").open("a+")
    except OSError as error:
        raise CommandError(f"{data_dir}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CommandError(
                f"{data_dir} is in use by a running kubernaut-ray; stop it first", Exit.REFUSED
            ) from None
        yield
