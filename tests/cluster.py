"""What a cluster has once Kubernaut is installed: namespaces, accounts and rights, from the shipped manifests."""

from __future__ import annotations

from pathlib import Path

import yaml

from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import AlreadyExists
from kubernaut_ray.kube.resources import BY_KIND

MANIFESTS = Path(__file__).parent.parent / "manifests"


async def install_accounts(kube: KubeClient) -> None:
    """Create what ``manifests/rbac`` holds and is not there yet."""
    for file in sorted((MANIFESTS / "rbac").glob("*.yaml"), key=lambda f: (f.stem != "namespaces", f.stem)):
        for document in filter(None, yaml.safe_load_all(file.read_text())):
            try:
                await kube.create(BY_KIND[document["kind"]], document, document["metadata"].get("namespace"))
            except AlreadyExists:
                continue
