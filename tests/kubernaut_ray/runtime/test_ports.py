"""Ports and paths of a data directory."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from kubernaut_ray.runtime import ports


def test_a_restart_keeps_its_ports(tmp_path: Path) -> None:
    """The ports of the last run are taken again while they are free; a wanted port wins."""
    first = ports.choose(tmp_path, http=0, dashboard=0)
    assert ports.choose(tmp_path, http=0, dashboard=0) == first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["http"]))
        taken.listen()
        moved = ports.choose(tmp_path, http=0, dashboard=0)
    assert moved["http"] != first["http"]
    assert moved["dashboard"] == first["dashboard"]
    assert ports.choose(tmp_path, http=54321, dashboard=0)["http"] == 54321


def test_the_scratch_directory_is_short_and_private(tmp_path: Path) -> None:
    """Unix sockets of Ray and HAProxy fit in it, and nobody else can look."""
    folder = ports.short_directory(tmp_path / ("long" * 40))
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(str(folder / "h" / ("n" * 56) / "admin.sock")) < 97
        assert ports.short_directory(tmp_path / ("long" * 40)) == folder
    finally:
        folder.rmdir()


def test_haproxy_pages_stay_on_loopback(tmp_path: Path) -> None:
    """The stand-in binary moves wildcard binds to loopback and passes everything on."""
    import os
    import subprocess

    config = tmp_path / "haproxy.cfg"
    config.write_text("frontend a\n    bind :9101\nlisten stats\n  bind *:8404\nfrontend b\n    bind 127.0.0.1:8000\n")
    real = tmp_path / "haproxy"
    real.write_text('#!/bin/sh\necho "$@"\n')
    real.chmod(0o755)
    script = Path(ports.__file__).with_name("haproxy_loopback.sh")
    done = subprocess.run(
        [str(script), "-db", "-f", str(config)],
        env={**os.environ, "KUBERNAUT_HAPROXY": str(real)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["-db", "-f", str(config)]
    binds = [line.split()[1] for line in config.read_text().splitlines() if "bind" in line]
    assert binds == ["127.0.0.1:9101", "127.0.0.1:8404", "127.0.0.1:8000"]
