"""Where the parts of a running system listen: written by ``up`` to ``endpoints.json``, read by every other command."""

from __future__ import annotations

from pathlib import Path

from kubernaut_ray.contracts.base import Contract

FILE = "endpoints.json"


class Endpoints(Contract):
    """Base URLs without a trailing slash; empty where a part does not run."""

    gateway: str = ""
    signals: str = ""
    """The gateway too, past Ray Serve's proxy: where sources of many signals are pointed."""
    holmesgpt: str = ""
    data_storage: str = ""
    console: str = ""
    admission: str = ""
    """Over HTTPS, for the API server."""
    kubernetes: str = ""
    ray_dashboard: str = ""

    @classmethod
    def load(cls, data_dir: Path) -> Endpoints:
        """Read ``endpoints.json``. Raises ``FileNotFoundError`` when nothing runs in this data directory."""
        return cls.model_validate_json((data_dir / FILE).read_bytes())

    def save(self, data_dir: Path) -> None:
        """Write atomically."""
        temporary = data_dir / f"{FILE}.new"
        temporary.write_text(self.model_dump_json(indent=2) + "\n")
        temporary.replace(data_dir / FILE)
