"""The actor class without Ray: it works from its constructor on, tells how it is, and drains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from actors.controller_actor import BUILDERS, ControllerActor, load_builder
from actors.resident import ActorSpec, place
from kubernaut_ray import crds
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import NOTIFICATION_REQUEST
from kubernaut_ray.settings import Settings
from tests import courier


def spec(data_dir: Path, kubeconfig: Path, namespace: str = "default", **changes: Any) -> ActorSpec:
    made = ActorSpec(
        plural="notificationrequests",
        first_shard=0,
        last_shard=63,
        settings=Settings(data_dir=data_dir, namespace=namespace).model_dump(mode="json"),
        endpoints={"data_storage": "http://127.0.0.1:9/storage"},
        kubeconfig=str(kubeconfig),
        token_file=None,
        data_dir=str(data_dir),
        builder="tests.courier:build",
        digest="d1",
    )
    return replace(made, **changes)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.mark.integration
async def test_it_works_from_its_constructor_on(
    api_server: Path, kube: KubeClient, namespace: str, tmp_path: Path
) -> None:
    """No call is needed to start; health and stats tell; drain ends it and delivers nothing twice."""
    await kube.create(NOTIFICATION_REQUEST, courier.request("n1", namespace))
    actor = ControllerActor(asdict(spec(tmp_path, api_server, namespace)))

    async def sent() -> bool:
        obj = await kube.get(NOTIFICATION_REQUEST, "n1", namespace)
        return (obj.get("status") or {}).get("phase") == "Sent"

    await until(sent)
    health = await actor.health()
    assert (health["ok"], health["state"], health["digest"]) == (True, "running", "d1")
    stats = await actor.drain()
    assert stats["state"] == "stopped"
    assert stats["audit"]["recorded"] == 1
    assert stats["transitions"] == {"(new) → Pending": 1, "Pending → Sending": 1, "Sending → Sent": 1}


async def test_it_says_why_it_cannot_start_and_keeps_trying(tmp_path: Path) -> None:
    """A kubeconfig that is not there is told by health; the actor goes on once it is there, or drains at once."""
    actor = ControllerActor(asdict(spec(tmp_path, tmp_path / "missing")))

    async def told() -> bool:
        return "no such file" in (await actor.health())["error"]

    await until(told)
    health = await actor.health()
    assert (health["ok"], health["state"]) == (True, "starting")
    assert await asyncio.wait_for(actor.drain(), 2) == {"state": "stopped"}


def test_every_kind_has_a_controller() -> None:
    """The registry names a builder for each of our kinds that somebody carries out."""
    assert set(BUILDERS) == {model.META.plural for model in (*crds.KINDS, *crds.DECLARED)}


def test_an_unknown_kind_is_refused() -> None:
    """The error names what is known."""
    with pytest.raises(InvalidInput, match="known are remediationrequests"):
        load_builder("", "teapots")


def test_a_place_is_the_same_after_a_restart_and_another_elsewhere(tmp_path: Path) -> None:
    """The Lease's holder stem follows host and data directory."""
    here = spec(tmp_path, tmp_path)
    assert place(here) == place(replace(here, digest="other"))
    assert place(here) != place(replace(here, data_dir=str(tmp_path / "other")))
