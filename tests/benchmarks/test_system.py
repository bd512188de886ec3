"""Finding the processes of a system by what Ray and the kernel call them."""

from __future__ import annotations

import pytest

from benchmarks._system import PARTS


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("ray::ServeReplica:gateway:gateway", "gateway"),
        ("ray::ServeReplica:gateway:gateway.handle_request", "gateway"),
        ("ray::ControllerHost", "controller"),
        ("ray::controller:notificationrequests:32-63:ControllerHost.__init__", "controller"),
        ("ray::CatalogOwner", "catalog owner"),
        ("ray::catalog-owner:CatalogOwner.append", "catalog owner"),
        ("/venv/bin/python -m kubernaut_ray.kube.embedded --data-dir /data --port 1", "API server"),
        ("/venv/bin/python -m kubernaut_ray.cli up --data-dir /kubernaut_ray.kube.embedded", ""),
        ("ray::ServeController.listen_for_change", ""),
        ("ray::ServeReplica:console:console", ""),
        ("ray::ProxyActor", ""),
        ("", ""),
    ],
)
def test_a_process_belongs_to_the_part_that_its_command_line_says(command: str, part: str) -> None:
    """One part at most, and Serve's own processes to none."""
    assert [name for name, begins in PARTS.items() if begins.match(command)] == ([part] if part else [])
