"""Fixtures for tests against an API server: the embedded one, or the cluster that KUBERNAUT_TEST_KUBECONFIG names.

``api_server`` is a kubeconfig path with our CRDs installed, ``kube`` a connected client, ``namespace`` a fresh namespace.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient

REPOSITORY = Path(__file__).parent.parent

# Machines are shared and slow at times, which says nothing about the code.
settings.register_profile("shared", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
settings.register_profile("deep", settings.get_profile("shared"), max_examples=1000)
START_SECONDS = 30.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the simulation in ``flow/test_simulation.py``."""
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, action="append", help="simulate this seed (may be given several times)")
    group.addoption("--incidents", type=int, help="open so many incidents in each simulation")


def start_embedded(data_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the embedded server as a process and wait for its ready line. The caller ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kubernaut_ray.kube.embedded", "--data-dir", str(data_dir), *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(START_SECONDS):
            process.kill()
            raise TimeoutError(f"the embedded API server was not ready within {START_SECONDS} s")
    line = process.stdout.readline()
    if not line.startswith("ready"):
        process.kill()
        process.wait()
        raise RuntimeError(f"the embedded API server did not start: {line!r}, see its error output")
    return process


def end_embedded(process: subprocess.Popen[str]) -> None:
    """End the process in order."""
    process.terminate()
    process.wait(timeout=20)
    if process.stdout is not None:
        process.stdout.close()


def kubectl(kubeconfig: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run kubectl against an API server."""
    home = kubeconfig.parent / "kubectl-cache"
    return subprocess.run(
        ["kubectl", f"--kubeconfig={kubeconfig}", f"--cache-dir={home}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,  # type: ignore[call-overload]
    )


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of an API server that serves our kinds."""
    given = os.environ.get("KUBERNAUT_TEST_KUBECONFIG")
    process = None
    if given:
        kubeconfig = Path(given).resolve()
    else:
        data_dir = tmp_path_factory.mktemp("embedded")
        process = start_embedded(data_dir)
        kubeconfig = data_dir / "kubeconfig"
    try:
        applied = kubectl(
            kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "manifests" / "crds")
        )
        if applied.returncode != 0:
            raise RuntimeError(f"our CRDs could not be installed: {applied.stderr}")
        established = kubectl(kubeconfig, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        if established.returncode != 0:
            raise RuntimeError(f"our CRDs were not established: {established.stderr}")
        yield kubeconfig
    finally:
        if process is not None:
            end_embedded(process)


@pytest.fixture
async def kube(api_server: Path) -> AsyncIterator[KubeClient]:
    """A client connected to the API server."""
    async with await KubeClient.connect(api_server) as client:
        yield client


@pytest.fixture
async def namespace(kube: KubeClient) -> AsyncIterator[str]:
    """A fresh namespace, deleted (without waiting) afterwards."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    await kube.create(resources.NAMESPACE, {"metadata": {"name": name}})
    yield name
    await kube.delete(resources.NAMESPACE, name)
