"""The catalog owner as an actor: one of it, replaced when its settings change, and nothing lost by ``kill -9``."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import catalog_owner
from catalog.client import Catalog
from catalog.embed import Lexicon
from kubernaut_ray.errors import Retryable
from kubernaut_ray.settings import Settings
from tests import build

pytestmark = [
    pytest.mark.rayed,
    # Ray Serve's own models, when it is imported.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field` is deprecated"),
]


def args(directory: Path, **catalog: Any) -> dict[str, Any]:
    return {"settings": Settings(data_dir=directory).model_dump(mode="json") | {"catalog": catalog}}


@pytest.fixture
def directory(ray_session: None, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    catalog_owner.stop()


def reach() -> Catalog:
    """Reach the actor as a replica does."""
    from serve_apps.data_storage.serve import ActorTransport

    return Catalog(ActorTransport(), Lexicon())


async def test_one_owner_that_survives_kill_nine(directory):
    """Two calls of ``ensure`` give one actor; killed, it comes back with every acknowledged event."""
    first = await asyncio.to_thread(catalog_owner.ensure, args(directory))
    process = (await first.identity.remote())["pid"]
    assert first == await asyncio.to_thread(catalog_owner.ensure, args(directory))
    catalog = reach()
    acknowledged = 0
    for n in range(0, 100, 10):
        acknowledged += (await catalog.append_audit([build.audit_event(i) for i in range(n, n + 10)])).stored
    assert acknowledged == 100
    os.kill(process, signal.SIGKILL)

    async def again() -> int:
        async with asyncio.timeout(30):
            while True:
                try:
                    return (await catalog.append_audit([build.audit_event(i) for i in range(101)])).stored
                except Retryable:
                    await asyncio.sleep(0.1)

    assert await again() == 1
    assert (await catalog.snapshot()).version == 0


async def test_other_settings_replace_it(directory):
    """An owner made from other settings makes way; the file is handed over."""
    await asyncio.to_thread(catalog_owner.ensure, args(directory))
    catalog = reach()
    await catalog.append_audit([build.audit_event(1)])
    await asyncio.to_thread(
        catalog_owner.ensure, args(directory, registry_access={"registry.test": {"plain_http": True}})
    )
    successor = reach()
    assert (await successor.append_audit([build.audit_event(1)])).duplicates == 1
