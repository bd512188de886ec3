"""The routes of backups: who may, what is told while one is made, and the file piece by piece."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from catalog import backup, backup_jobs
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.owner import Owner
from kubernaut_ray.kube.client import UserInfo
from serve_apps.data_storage.app import create_app
from serve_apps.data_storage.deps import Deps
from tests import build
from tests.catalog.test_keeper import Nothing
from tests.serve_apps.data_storage.test_ledger import Said
from tests.serving import serving


class Watchdog:
    """``operator`` may have backups made, ``officer`` with the key in them."""

    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo(token)

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        del verb
        return user.username == "officer" or (user.username == "operator" and resource == "backups")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[tuple[str, Owner]]:
    owner = Owner(tmp_path, embedder=Lexicon(), source=Nothing(), now=lambda: build.NOW)
    deps = Deps(Catalog(InProcess(owner), Lexicon()), Watchdog(), Said(), now=lambda: build.NOW)
    async with serving(create_app(deps)) as url:
        yield f"{url}/api/v1/backups", owner
    owner.close()


async def ask(method: str, url: str, *, token: str = "operator", **rest: Any) -> tuple[int, Any, bytes]:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.request(method, url, headers=headers, **rest) as answer:
        return answer.status, answer.headers, await answer.read()


async def done(url: str) -> tuple[int, Any, bytes]:
    while (answer := await ask("GET", url))[0] == 202:
        pass
    return answer


async def test_made_fetched_and_deleted(
    storage: tuple[str, Owner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """202 until it is done, then a tar whose SHA-256 is its ETag, in pieces; deleted it is gone."""
    monkeypatch.setattr(backup_jobs, "PIECE", 100_000)
    url, owner = storage
    with owner._keeper.maintaining:
        status, _, body = await ask("POST", url, json={})
        name = orjson.loads(body)["name"]
        assert (status, (await ask("GET", f"{url}/{name}"))[0]) == (202, 202)
        assert (await ask("POST", url, json={}))[0] == 409
        assert (await ask("DELETE", f"{url}/{name}"))[0] == 409
    status, headers, body = await done(f"{url}/{name}")
    assert (status, headers["Content-Type"], int(headers["Content-Length"])) == (200, "application/x-tar", len(body))
    assert headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert len(body) > 500_000
    (tmp_path / "b.tar").write_bytes(body)
    assert not backup.unpack(tmp_path / "b.tar", tmp_path / "out").signing_key
    assert (await ask("DELETE", f"{url}/{name}"))[0] == 200
    assert [(await ask(method, f"{url}/{name}"))[0] for method in ("GET", "DELETE")] == [404, 404]


async def test_who_may(storage: tuple[str, Owner], tmp_path: Path) -> None:
    """Not everybody, and the key only with a right of its own."""
    url, _ = storage
    assert (await ask("POST", url, token="guest", json={}))[0] == 403
    status, _, body = await ask("POST", url, json={"with_signing_key": True})
    assert status == 403
    assert b"signingkeys" in body
    status, _, body = await ask("POST", url, token="officer", json={"with_signing_key": True})
    assert status == 202
    name = orjson.loads(body)["name"]
    (tmp_path / "b.tar").write_bytes((await done(f"{url}/{name}"))[2])
    assert backup.unpack(tmp_path / "b.tar", tmp_path / "out").signing_key


async def test_refusals(storage: tuple[str, Owner], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is none, a body with something else in it, and one that failed."""
    url, _ = storage
    assert (await ask("GET", f"{url}/..%2Fcatalog.duckdb"))[0] in {400, 404}
    assert (await ask("GET", f"{url}/kubernaut-20260101T000000Z"))[0] == 404
    assert (await ask("POST", url, json={"with_everything": True}))[0] == 400
    failed = threading.Event()

    def fail(*_: object) -> None:
        failed.set()
        raise ValueError("disk on fire")

    monkeypatch.setattr(backup, "write", fail)
    _, _, body = await ask("POST", url, json={})
    name = orjson.loads(body)["name"]
    status, _, body = await done(f"{url}/{name}")
    assert status == 500
    assert b"the log of the catalog owner has the cause" in body
    assert b"fire" not in body
