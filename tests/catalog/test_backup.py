"""Backups: consistent while the store is written, whole or refused, and nothing outside of their place when unpacked."""

from __future__ import annotations

import io
import tarfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import backup
from catalog.at_rest import AtRest
from catalog.embed import Lexicon
from catalog.events import columns, pack
from catalog.ledger.export import Wanted, export
from catalog.ledger.record import Entry
from catalog.ledger.signing import keyring
from catalog.ledger.verify import verifier, verify
from catalog.owner import Owner
from catalog.policy import TrailPolicy
from catalog.store import Store, in_use
from kubernaut_ray.contracts.backup import MANIFEST
from kubernaut_ray.errors import InvalidInput
from tests import build
from tests.catalog.test_keeper import Kept, Nothing, story


def ask(owner: Owner, method: str, **payload: object) -> dict[str, object]:
    answer = orjson.loads(owner.call(method, orjson.dumps(payload)).result(30))
    assert "error" not in answer, answer
    result: dict[str, object] = answer["result"]
    return result


async def sound(catalog: Path) -> int:
    """Open an unpacked catalog, verify it, and return how many records it has."""
    async with AtRest(catalog) as source:
        header, items = await export(source, Wanted())
        read = [item async for item in items]
    assert list(verify(read, verifier("store", keyring(header.public_keys)))) == []
    return sum(isinstance(item, Entry) for item in read)


def made(tmp_path: Path, events: int = 3) -> Path:
    """A backup of a small store."""
    kept = Kept(tmp_path / "kept")
    kept.tell(*story(0, events))
    kept.owner.close()
    with Store(tmp_path / "kept" / backup.DATABASE) as store:
        backup.write(store, backup.Sources(tmp_path / "kept"), tmp_path / "b.tar", build.NOW)
    return tmp_path / "b.tar"


async def test_while_it_is_written(tmp_path: Path) -> None:
    """Everything acknowledged before it began is in it, archives and bundles too, and the trail in it is sound."""
    bundles = tmp_path / "bundles"
    (bundles / "repo" / "blobs").mkdir(parents=True)
    (bundles / "repo" / "index.json").write_text('{"manifests": []}')
    (bundles / "repo" / "blobs" / "b1").write_text("blob")
    kept = Kept(tmp_path / "catalog")
    kept.tell(*story(0, 40))
    kept.time.now = datetime(2026, 3, 3, tzinfo=UTC)
    kept.ask("audit_archive")
    kept.owner.close()

    owner = Owner(
        tmp_path / "catalog", embedder=Lexicon(), source=Nothing(), now=kept.time, bundles=bundles,
        policy=TrailPolicy(checkpoint_events=16),
    )  # fmt: skip
    told, stop, some = [40], threading.Event(), threading.Event()

    def tell() -> None:
        while not stop.is_set():
            events = columns(story(told[0], 20, f"rr-{told[0] % 7}"))
            owner.call("audit_append", pack(events)).result(30)
            told[0] += 20
            if told[0] > 200:
                some.set()

    writer = threading.Thread(target=tell)
    writer.start()
    some.wait(30)
    before = told[0]
    name = ask(owner, "backup_start")["name"]
    while (state := ask(owner, "backup_state", name=name))["state"] == "running":
        stop.wait(0.01)
    after = told[0]
    stop.set()
    writer.join()
    owner.close()
    assert state["state"] == "done", state

    manifest = backup.unpack(tmp_path / "catalog" / "backups" / f"{name}.tar", tmp_path / "restored")
    assert before <= await sound(tmp_path / "restored" / "catalog") - 1 <= after + 20  # one more tells of the archive
    assert before < manifest.last_sequence
    names = [one.name for one in manifest.files]
    assert names[:2] == ["catalog/catalog.duckdb", "catalog/archive/audit-2026-01.parquet"]
    assert sorted(names[2:]) == ["bundles/repo/blobs/b1", "bundles/repo/index.json"]
    assert not manifest.signing_key


def test_one_at_a_time_and_only_the_last(tmp_path: Path) -> None:
    """A second is refused while one is made; the key is in it only when asked; what was fetched can be deleted."""
    kept = Kept(tmp_path)
    try:
        kept.tell(*story(0, 3))
        with kept.owner._keeper.maintaining:
            first = kept.ask("backup_start", with_signing_key=True)
            for method, payload in (
                ("backup_start", {}),
                ("backup_delete", {"name": first["name"]}),
                ("backup_read", {"name": first["name"], "offset": 0}),
            ):
                answer = orjson.loads(kept.owner.call(method, orjson.dumps(payload)).result(10))
                assert answer["error"]["kind"] == "Conflict"
        while (state := kept.ask("backup_state", name=first["name"]))["state"] == "running":
            pass
        file = tmp_path / "backups" / f"{first['name']}.tar"
        assert (state["bytes"], state["last_sequence"]) == (file.stat().st_size, 3)
        assert file.stat().st_mode & 0o077 == 0
        backup.unpack(file, tmp_path / "out")
        assert (tmp_path / "out/catalog/audit-signing.key").read_bytes() == (
            tmp_path / "audit-signing.key"
        ).read_bytes()
        assert kept.ask("backup_delete", name=first["name"]) == state
        answer = orjson.loads(kept.owner.call("backup_state", orjson.dumps({"name": first["name"]})).result(10))
        assert answer["error"]["kind"] == "NotFound"
    finally:
        kept.owner.close()


def test_what_cannot_be_made_says_why(tmp_path: Path) -> None:
    """A missing archive fails the backup, not the owner."""
    kept = Kept(tmp_path)
    try:
        kept.tell(*story(0, 3))
        kept.time.now = datetime(2026, 4, 1, tzinfo=UTC)
        kept.ask("audit_archive")
        (tmp_path / "archive" / "audit-2026-01.parquet").unlink()
        name = kept.ask("backup_start")["name"]
        while (state := kept.ask("backup_state", name=name))["state"] == "running":
            pass
        assert state["state"] == "failed"
        assert "audit-2026-01.parquet" in state["error"]
        assert list((tmp_path / "backups").iterdir()) == []
    finally:
        kept.owner.close()


@given(st.data())
def test_damage_anywhere_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """One changed byte of what is in it, or an end that is missing: refused, with the name of what is wrong."""
    folder = tmp_path_factory.getbasetemp() / "damage"
    if not (folder / "b.tar").exists():
        folder.mkdir()
        made(folder)
    whole = (folder / "b.tar").read_bytes()
    with tarfile.open(folder / "b.tar") as packed:
        spans = [(m.offset_data, m.offset_data + m.size) for m in packed if m.name != MANIFEST]
    first, last = data.draw(st.sampled_from(spans))
    at = data.draw(st.integers(first, last - 1))
    if data.draw(st.booleans()):
        broken = whole[:at]
    else:
        broken = whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :]
    file = tmp_path_factory.mktemp("broken") / "broken.tar"
    file.write_bytes(broken)
    with pytest.raises(InvalidInput, match=r"broken\.tar"):
        backup.unpack(file, file.parent / "out")


def packed_with(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(file, "w") as packed:
        for member, content in members:
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return file


def manifest(*names: str) -> tuple[tarfile.TarInfo, bytes]:
    files = [{"name": name, "bytes": 1, "sha256": "ab" * 32} for name in names]
    told = {"version": "1", "created_at": "2026-01-01T00:00:00Z", "last_sequence": 0, "files": files}
    return tarfile.TarInfo(MANIFEST), orjson.dumps(told)


def link(name: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return made


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ((), "no backup"),
        (((tarfile.TarInfo("x"), b"x"),), "does not begin with"),
        (((tarfile.TarInfo(MANIFEST), b"{}"),), "cannot be read"),
        ((manifest("../evil"),), "no place"),
        ((manifest("/catalog/evil"),), "no place"),
        ((manifest("catalog/../../evil"),), "no place"),
        ((manifest("lock"),), "no place"),
        ((manifest("catalog/a"), (tarfile.TarInfo("catalog/b"), b"x")), "not in its manifest"),
        ((manifest("catalog/a"), (link("catalog/a"), b"")), "kind and size"),
        ((manifest("catalog/a"), (tarfile.TarInfo("catalog/a"), b"xx")), "kind and size"),
        ((manifest("catalog/a"), (tarfile.TarInfo("catalog/a"), b"x")), "damaged"),
        ((manifest("catalog/a"),), "cut off"),
    ],
)
def test_what_is_no_backup(tmp_path: Path, members: tuple[tuple[tarfile.TarInfo, bytes], ...], told: str) -> None:
    """Refused with the reason, and nothing lies outside of where it was unpacked."""
    file = packed_with(tmp_path / "b.tar", *members)
    with pytest.raises(InvalidInput, match=told):
        backup.unpack(file, tmp_path / "out")
    assert {"b.tar", "out"} == {path.name for path in tmp_path.iterdir()}


def test_into_place(tmp_path: Path) -> None:
    """What was there is kept beside; an empty directory is not worth keeping."""
    unpacked, data_dir = tmp_path / "unpacked", tmp_path / "data"
    for part in (backup.CATALOG, backup.BUNDLES):
        (unpacked / part).mkdir(parents=True)
        (unpacked / part / "new").touch()
    (data_dir / backup.CATALOG).mkdir(parents=True)
    (data_dir / backup.CATALOG / "old").touch()
    (data_dir / backup.BUNDLES).mkdir()
    assert [data_dir / "catalog.before-now"] == backup.put_in_place(unpacked, data_dir, "now")
    assert {"catalog/new", "catalog.before-now/old", "bundles/new"} == {
        path.relative_to(data_dir).as_posix() for path in data_dir.rglob("*") if path.is_file()
    }


def test_who_has_it_open(tmp_path: Path) -> None:
    """A database that is not there, or is none, is in nobody's use."""
    assert not in_use(tmp_path / "nothing.duckdb")
    (tmp_path / "none.duckdb").write_text("none" * 10_000)
    assert not in_use(tmp_path / "none.duckdb")
