"""The actor class without Ray: it watches from its constructor on, tells how it is, and drains."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from actors.event_watcher.actor import EventWatcherActor
from actors.resident import EVENT_WATCHER, ActorSpec
from kubernaut_ray.kube.client import KubeClient
from tests.actors.event_watcher.world import door, settings, until, warn


def spec(data_dir: Path, kubeconfig: Path, namespace: str, gateway: str) -> ActorSpec:
    given = settings(namespace).model_copy(update={"data_dir": data_dir})
    return ActorSpec(
        "events",
        0,
        63,
        given.model_dump(mode="json"),
        {"gateway": gateway},
        str(kubeconfig),
        str(data_dir / "token"),
        str(data_dir),
        role=EVENT_WATCHER,
        digest="d1",
    )


@pytest.mark.integration
async def test_it_watches_from_its_constructor_on(
    api_server: Path, kube: KubeClient, namespace: str, tmp_path: Path
) -> None:
    """No call is needed to start; health says what stands in the way, stats count, drain ends it."""
    async with door() as gateway:
        actor = EventWatcherActor(asdict(spec(tmp_path, api_server, namespace, gateway.url)))
        await warn(kube, namespace, "w")

        async def says_why() -> bool:
            return "token file" in (await actor.health())["error"]

        await until(says_why)
        (tmp_path / "token").write_text("t\n")
        await until(lambda: gateway.names() == ["w"])
        health = await actor.health()
        assert (health["ok"], health["state"], health["name"], health["digest"]) == (
            True,
            "running",
            "event-watcher",
            "d1",
        )
        stats = await actor.drain()
    assert (stats["state"], stats["forwarded"], stats["underWay"]) == ("stopped", 1, 0)
    assert gateway.tokens == ["Bearer t"]
    assert (await actor.health())["error"] == ""


async def test_it_says_why_it_cannot_start(tmp_path: Path) -> None:
    """A kubeconfig that is not there is told by health, and a drain does not wait for it."""
    actor = EventWatcherActor(asdict(spec(tmp_path, tmp_path / "missing", "default", "http://127.0.0.1:9")))

    async def told() -> bool:
        return "no such file" in (await actor.health())["error"]

    await until(told)
    assert await actor.drain() == {"state": "stopped"}
