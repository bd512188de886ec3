"""One whole system, as ``kubernaut-ray up`` starts it on one machine, for all tests of this folder: a start takes its time.

Each test has workloads of its own. The last to run are those that end the system and start it again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kubernaut_ray.kube.client import KubeClient
from tests.flow.running import Running, started
from tests.people import invite

ANN, BOB = "ann@example.com", "bob@example.com"
APPROVERS = ("kubernaut:viewers", "kubernaut:approvers")


@pytest.fixture(scope="package")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("laptop")


@pytest.fixture(scope="package")
def tokens(data_dir: Path) -> dict[str, str]:
    """People who may approve, by their names; known to the API server from its start."""
    return invite(data_dir, {ANN: APPROVERS, BOB: APPROVERS})


@pytest.fixture(scope="package")
def running(data_dir: Path, tokens: dict[str, str]) -> Iterator[Running]:
    with started(data_dir, "--simulate-workloads", "--no-dashboard") as system:
        yield system


@pytest.fixture
async def client(running: Running) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(running.kubeconfig) as connected:
        yield connected
