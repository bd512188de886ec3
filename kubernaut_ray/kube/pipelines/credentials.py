"""A step's own way to the API server: a kubeconfig with a short-lived token of the run's service account.

The server and its CA are taken from the runner's kubeconfig; the runner's own credentials are not.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson
import yaml

from kubernaut_ray.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the API server is: the URL and the CA as kubeconfig's base64 PEM."""

    server: str
    authority: str
    insecure: bool = False

    @classmethod
    def read(cls, kubeconfig: Path, context: str = "") -> Self:
        """Read the cluster of a kubeconfig's (current) context. Raises ``InvalidInput``."""
        try:
            document = yaml.safe_load(kubeconfig.read_text())
            chosen = _named(document["contexts"], context or document["current-context"])["context"]["cluster"]
            cluster = _named(document["clusters"], chosen)["cluster"]
            authority = cluster.get("certificate-authority-data", "")
            if not authority and (file := cluster.get("certificate-authority")):
                authority = base64.b64encode((kubeconfig.parent / file).read_bytes()).decode()
            return cls(cluster["server"], authority, bool(cluster.get("insecure-skip-tls-verify")))
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise InvalidInput(f"kubeconfig {kubeconfig}: {type(error).__name__}: {error}") from error

    def write(self, path: Path, *, token: str, namespace: str) -> None:
        """Write a kubeconfig (mode 600) for this token. JSON is YAML."""
        cluster: dict[str, Any] = {"server": self.server}
        if self.authority:
            cluster["certificate-authority-data"] = self.authority
        if self.insecure:
            cluster["insecure-skip-tls-verify"] = True
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": "step", "user": {"token": token}}],
            "contexts": [{"name": "step", "context": {"cluster": "cluster", "user": "step", "namespace": namespace}}],
            "current-context": "step",
        }
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(document))


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)
