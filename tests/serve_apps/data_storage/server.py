"""Data Storage on a real socket for tests: ``python -m tests.serve_apps.data_storage.server DIRECTORY PORT``.

A process of its own, so that it can be killed: one in-process owner, no gate.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from catalog.bundles import Bundles
from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.owner import Owner
from kubernaut_ray.clock import utcnow
from kubernaut_ray.contracts.audit import AuditEvent
from serve_apps.data_storage.app import create_app
from serve_apps.data_storage.deps import Deps


class Straight:
    """Writes what Data Storage says about itself straight into the trail."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def record(self, event: AuditEvent) -> None:
        await self._catalog.append_audit([event])


def main(directory: Path, port: int) -> None:
    bundles = directory / "bundles"
    owner = Owner(directory, embedder=Lexicon(), source=Bundles(bundles), now=utcnow, bundles=bundles)
    catalog = Catalog(InProcess(owner), Lexicon())
    app = create_app(Deps(catalog, None, Straight(catalog)))
    try:
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
    finally:
        owner.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
