"""One local Ray for the whole test session, in a home of its own: Ray writes its token file there, and nowhere else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Start Ray once. The folder is short, for Ray's sockets lie in it."""
    import ray

    folder = Path(tempfile.mkdtemp(prefix="kr"))
    kept = {name: os.environ.get(name) for name in ("HOME", "RAY_worker_niceness")}
    os.environ.update({"HOME": str(folder), "RAY_worker_niceness": "0"})
    try:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            namespace="kubernaut",
            _temp_dir=str(folder),
            logging_level="error",
            log_to_driver=False,
        )
        yield
    finally:
        ray.shutdown()
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
