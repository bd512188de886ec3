"""Ports and short paths: free ones, the same as last time where they still are free, so that URLs outlive a restart."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import tempfile
from pathlib import Path

_FILE = "ports.json"
_RANGE = range(20_000, 30_000)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
        return True


def _any_free() -> int:
    """Pick a free port below the range from which the kernel gives ports to clients, so that none is taken before we bind."""
    while True:
        port = random.choice(_RANGE)  # noqa: S311 - spreading, not secrecy
        if is_free(port):
            return port


def choose(data_dir: Path, **wanted: int) -> dict[str, int]:
    """Return a port for each name: the wanted one (when not 0), else the one used before if free, else any free one."""
    file = data_dir / _FILE
    try:
        before: dict[str, int] = json.loads(file.read_text())
    except (OSError, ValueError):
        before = {}
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        if port == 0:
            port = before.get(name, 0)  # noqa: PLW2901
            while port == 0 or port in chosen.values() or not is_free(port):
                port = _any_free()  # noqa: PLW2901
        chosen[name] = port
    file.write_text(json.dumps(chosen, indent=2) + "\n")
    return chosen


def short_directory(data_dir: Path) -> Path:
    """Return a private folder for this data directory whose path is short.

    HAProxy takes Unix socket paths of 97 characters at most, and Ray puts a node id of 56 into them; so ``/tmp`` even where
    ``TMPDIR`` says otherwise.
    """
    tag = hashlib.sha256(f"{os.getuid()}:{data_dir.resolve()}".encode()).hexdigest()[:10]
    base = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108 - made private below
    folder = base / f"kn-{tag}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it or set TMPDIR")
    folder.chmod(0o700)
    return folder
