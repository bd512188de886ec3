"""What the doctor says about the event watcher, from what that leaves in the API server."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from actors.event_watcher.position import ALL, Point, PositionStore
from kubernaut_ray import clock, names
from kubernaut_ray.cli.doctor import event_watcher
from kubernaut_ray.control.lease import Lease
from kubernaut_ray.kube.client import KubeClient

pytestmark = pytest.mark.integration


async def test_the_event_watcher_is_told_from_its_lease(kube: KubeClient, namespace: str, tmp_path: Path) -> None:
    """Absent and ended in order are worth knowing; silent is wrong; at work it says how far it has got."""
    now = clock.utcnow()
    assert (await event_watcher(kube, namespace, now)).ok is None

    lease = Lease(kube, namespace, names.EVENT_WATCHER, "here")
    await lease.acquire()
    await PositionStore(kube, namespace).write({ALL: Point("7", now)})
    at_work = await event_watcher(kube, namespace, now)
    assert at_work.ok is True
    assert clock.rfc3339(now)[:19] in at_work.detail

    silent = await event_watcher(kube, namespace, now + timedelta(minutes=2))
    assert (silent.ok, "no sign for 1" in silent.detail) == (False, True)

    await lease.release()
    ended = await event_watcher(kube, namespace, now)
    assert (ended.ok, "ended in order" in ended.detail) == (None, True)
