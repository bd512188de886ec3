"""What every Serve application is given when it is built, as JSON, and how a replica turns it into values.

Secrets never travel in these arguments: they come to the replica by its environment, and the bearer token by a file that
is read anew at each use, because it is renewed while we run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kubernaut_ray.clients.service import read_token
from kubernaut_ray.contracts.endpoints import Endpoints
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.settings import Settings


@dataclass(frozen=True, slots=True)
class Wiring:
    """``kubeconfig`` ``None`` means the pod's own service account."""

    settings: Settings
    endpoints: Endpoints
    kubeconfig: Path | None
    token_file: Path | None

    @classmethod
    def parse(cls, args: Mapping[str, Any]) -> Self:
        """Read ``{"settings": {…}, "endpoints": {…}, "kubeconfig": path or null, "token_file": path or null}``."""
        try:
            settings = Settings(**args.get("settings", {}))
            endpoints = Endpoints.model_validate(args.get("endpoints", {}))
        except ValueError as error:
            raise InvalidInput(f"arguments of a Serve application: {error}") from error
        kubeconfig, token_file = args.get("kubeconfig"), args.get("token_file")
        return cls(
            settings,
            endpoints,
            Path(kubeconfig) if kubeconfig else None,
            Path(token_file) if token_file else None,
        )

    def token(self) -> str:
        """Return our own bearer token. Raises ``Retryable`` when the file is away (it is replaced when renewed)."""
        return read_token(self.token_file)
