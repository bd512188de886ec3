"""``kubernaut-ray backup`` and ``restore`` as people run them: on a live server that is written to, and on directories at rest."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog.backup import BUNDLES, CATALOG, DATABASE, KEY, Sources, write
from catalog.bundles import Bundles
from catalog.embed import Lexicon
from catalog.events import columns, pack
from catalog.owner import Owner
from catalog.store import Store
from kubernaut_ray.cli import app
from kubernaut_ray.cli.connection import Exit
from kubernaut_ray.clients.data_storage import DataStorage
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.audit import AuditBatch
from kubernaut_ray.errors import Retryable
from tests import build
from tests.serve_apps.data_storage.test_real_http import free_port, running

RUN = CliRunner()


def command(*arguments: str | Path, code: int = Exit.DONE, url: str | None = None) -> str:
    env = {
        "COLUMNS": "240",
        "KUBERNAUT_TOKEN": "t",
        "KUBERNAUT_DATA_STORAGE_URL": url,
        "KUBERNAUT_DATA_DIR": "/nonexistent",
    }
    result = RUN.invoke(app, [str(one) for one in arguments], env=env)
    assert result.exit_code == code, result.output
    return result.output


def filled(data_dir: Path, events: int = 10) -> Path:
    """A data directory at rest."""
    bundles = data_dir / BUNDLES
    bundles.mkdir(parents=True)
    (bundles / "index.json").write_text("{}")
    owner = Owner(data_dir / CATALOG, embedder=Lexicon(), source=Bundles(bundles), now=utcnow)
    told = [build.audit_event(n, now=utcnow(), correlation_id=f"rr-{n % 3}") for n in range(events)]
    owner.call("audit_append", pack(columns(told))).result(30)
    owner.close()
    return data_dir


def stored(data_dir: Path) -> int:
    with Store(data_dir / CATALOG / DATABASE) as store:
        return int(store.read(lambda c: c.execute("SELECT count(*) FROM audit_events").fetchone()[0]))


async def test_a_running_system_and_back(tmp_path: Path) -> None:
    """Taken over HTTP while events come in; restored, it holds what was acknowledged before, is sound, and goes on."""
    live, again, file = tmp_path / "live", tmp_path / "again", tmp_path / "backup.tar"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    told = [0]

    async def tell(storage: DataStorage, until: asyncio.Event) -> None:
        while not until.is_set():
            events = tuple(
                build.audit_event(n, now=utcnow(), correlation_id=f"rr-{n % 5}") for n in range(told[0], told[0] + 50)
            )
            await storage.store_audit_events(AuditBatch(events=events))
            told[0] += 50

    async with running(live / CATALOG, port), DataStorage(url, lambda: "t") as storage:
        stop = asyncio.Event()
        telling = asyncio.create_task(tell(storage, stop))
        while told[0] < 500:
            await asyncio.sleep(0.01)
        before = told[0]
        said = await asyncio.to_thread(command, "backup", file, url=url)
        after = told[0]
        stop.set()
        await telling
        assert "backed up" in said
        assert file.stat().st_mode & 0o077 == 0
        assert "is there already" in await asyncio.to_thread(command, "backup", file, code=Exit.USAGE, url=url)
    assert list((live / CATALOG / "backups").glob("*")) == []

    said = await asyncio.to_thread(command, "restore", file, "--data-dir", again)
    assert "verified and sound" in said
    assert "signing key is not in this backup" in said
    assert not (again / CATALOG / KEY).exists()
    assert sorted(path.name for path in again.iterdir()) == [CATALOG, "lock"]
    held = stored(again)
    assert before <= held <= after + 50

    port = free_port()
    async with running(again / CATALOG, port), DataStorage(f"http://127.0.0.1:{port}", lambda: "t") as storage:
        page = await storage.audit_events(limit=1)
        assert page.pagination.total == held
        more = AuditBatch(
            events=tuple(build.audit_event(n, now=utcnow(), correlation_id=f"rr-{n % 5}") for n in range(held + 5))
        )
        assert (await storage.store_audit_events(more)).stored == 5
        state = await storage.audit_state()
        assert (state.last_sequence, len(state.public_keys)) == (held + 5, 2)


def test_a_stopped_system(tmp_path: Path) -> None:
    """Straight from its directory, with the key when asked; nothing there is an error of its own."""
    live = filled(tmp_path / "live")
    file = tmp_path / "with-key.tar"
    assert "10 audit events" in command("backup", file, "--with-signing-key", "--data-dir", live)
    assert "restored" in command("restore", file, "--data-dir", tmp_path / "new")
    for name in (f"{CATALOG}/{KEY}", f"{BUNDLES}/index.json"):
        assert (tmp_path / "new" / name).read_bytes() == (live / name).read_bytes()
    assert stored(tmp_path / "new") == 10

    (live / CATALOG / KEY).unlink()
    told = command("backup", tmp_path / "b.tar", "--with-signing-key", "--data-dir", live, code=Exit.NOT_FOUND)
    assert "the key lies elsewhere" in told
    told = command("backup", tmp_path / "b.tar", "--data-dir", tmp_path / "nothing", code=Exit.NOT_FOUND)
    assert "no catalog" in told
    assert not (tmp_path / "b.tar").exists()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """Refused without ``--force``; with it, what was there is kept beside."""
    live, other = filled(tmp_path / "live"), filled(tmp_path / "other", events=4)
    file = tmp_path / "b.tar"
    command("backup", file, "--data-dir", live)
    assert "has a catalog and a bundles already" in command("restore", file, "--data-dir", other, code=Exit.REFUSED)
    assert stored(other) == 4
    assert "kept in" in command("restore", file, "--force", "--data-dir", other)
    assert stored(other) == 10
    (aside,) = other.glob(f"{CATALOG}.before-*")
    aside.rename(tmp_path / CATALOG)
    assert stored(tmp_path) == 4


def test_a_directory_in_use(tmp_path: Path) -> None:
    """Held by ``up``, or its database open in another process: nothing is done to it, not even with ``--force``."""
    live = filled(tmp_path / "live")
    file = tmp_path / "b.tar"
    command("backup", file, "--data-dir", live)
    with (live / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "in use" in command("restore", file, "--force", "--data-dir", live, code=Exit.REFUSED)


async def test_a_database_that_is_open(tmp_path: Path) -> None:
    """An owner without a lock in its data directory, as in a pod, is noticed by its database."""
    live, file = tmp_path / "live", tmp_path / "b.tar"
    filled(live)
    await asyncio.to_thread(command, "backup", file, "--data-dir", live)
    async with running(live / CATALOG, free_port()):
        told = await asyncio.to_thread(command, "restore", file, "--force", "--data-dir", live, code=Exit.REFUSED)
        assert "in use" in told
        told = await asyncio.to_thread(command, "backup", tmp_path / "c.tar", "--data-dir", live, code=Exit.FAILED)
        assert "open in another process" in told
    assert stored(live) == 10


def test_a_damaged_backup(tmp_path: Path) -> None:
    """A byte that changed is told with the file it is in; nothing is left of what was unpacked."""
    file = tmp_path / "b.tar"
    command("backup", file, "--data-dir", filled(tmp_path / "live"))
    text = bytearray(file.read_bytes())
    text[len(text) // 2] ^= 1
    file.write_bytes(text)
    told = command("restore", file, "--data-dir", tmp_path / "new", code=Exit.REFUSED)
    assert "is damaged: catalog/catalog.duckdb" in told
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]


def test_a_trail_that_was_tampered_with(tmp_path: Path) -> None:
    """The findings are shown and nothing is restored, unless that is wanted."""
    live, file = filled(tmp_path / "live"), tmp_path / "b.tar"
    with Store(live / CATALOG / DATABASE) as store:
        store.write(
            lambda c: c.execute("UPDATE audit_events SET body = replace(body, 'rr-1', 'rr-9') WHERE seq = 2")
        ).result()
        write(store, Sources(live / CATALOG), file, utcnow())
    told = command("restore", file, "--data-dir", tmp_path / "new", code=Exit.REFUSED)
    assert "not sound: 1 findings" in told
    assert "record 2" in told
    assert not (tmp_path / "new" / CATALOG).exists()
    assert "NOT sound" in command("restore", file, "--unsound", "--data-dir", tmp_path / "new")
    assert stored(tmp_path / "new") == 10


async def test_a_server_that_goes_away(tmp_path: Path) -> None:
    """A backup that does not arrive leaves no file."""
    url = f"http://127.0.0.1:{free_port()}"
    await asyncio.to_thread(command, "backup", tmp_path / "b.tar", code=Exit.UNREACHABLE, url=url)
    async with DataStorage(url, lambda: "t") as storage:
        with pytest.raises(Retryable):
            async with storage.fetch_backup("kubernaut-20260101T000000Z"):
                pass
    assert list(tmp_path.iterdir()) == []
