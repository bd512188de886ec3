"""What was acknowledged survives ``kill -9``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from tests.conftest import end_embedded, start_embedded

WRITERS = 16


@pytest.mark.parametrize("durability", ["power-loss", "process-crash"])
async def test_acknowledged_writes_survive_kill_9(tmp_path: Path, durability: str) -> None:
    """Many writers, the process killed in the middle, twice: every acknowledged object, change and deletion is there."""
    alive: dict[str, str] = {}
    deleted: set[str] = set()
    for life in range(2):
        process = await asyncio.to_thread(start_embedded, tmp_path, "--durability", durability)
        async with await KubeClient.connect(tmp_path / "kubeconfig", timeout=5.0) as client:

            async def write(writer: int, client: KubeClient = client, life: int = life) -> None:
                for i in range(10_000):
                    name = f"l{life}-w{writer}-{i}"
                    try:
                        await client.create(resources.CONFIG_MAP, {"metadata": {"name": name}}, "default")
                        alive[name] = ""
                        await client.patch(resources.CONFIG_MAP, name, {"data": {"k": name}}, "default")
                        alive[name] = name
                        if i % 3 == 0:
                            alive.pop(name)
                            await client.delete(resources.CONFIG_MAP, name, "default")
                            deleted.add(name)
                    except KubernautError:
                        return

            writers = [asyncio.create_task(write(w)) for w in range(WRITERS)]
            while len(alive) < 100 * (life + 1):
                await asyncio.sleep(0.01)
            process.kill()
            await asyncio.gather(*writers)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    process = await asyncio.to_thread(start_embedded, tmp_path)
    try:
        async with await KubeClient.connect(tmp_path / "kubeconfig") as client:
            found = {
                o["metadata"]["name"]: o.get("data", {}).get("k", "")
                for o in (await client.list(resources.CONFIG_MAP, "default")).items
            }
    finally:
        end_embedded(process)
    assert [n for n, value in alive.items() if n not in found or (value and found[n] != value)] == []
    assert not deleted & found.keys()
