"""What must be in the API server before anything runs: our kinds, namespaces, service accounts, rights, and a token.

Applied server-side under one field manager, so that running it again changes nothing and people's own edits of other
fields stay.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog
import yaml

from kubernaut_ray import names, shipped
from kubernaut_ray.errors import Permanent
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound

SERVICE_ACCOUNT = names.SERVICE_ACCOUNT
TOKEN_LIFETIME = 24 * 3600
"""Seconds asked for; a cluster may give less, so the token is renewed at half of an hour's margin."""
_log = structlog.get_logger()


def documents(*folders: str) -> Iterable[dict[str, Any]]:
    """Yield the shipped manifests of these folders under ``manifests/``, in file order."""
    for folder in folders:
        for file in sorted((shipped.directory() / folder).glob("*.yaml")):
            for document in yaml.safe_load_all(file.read_text()):
                if isinstance(document, dict) and document.get("kind") not in (None, "Kustomization"):
                    yield document


async def apply(client: KubeClient, objects: Iterable[Mapping[str, Any]]) -> int:
    """Apply objects server-side, namespaces first. Returns how many."""
    ordered = sorted(objects, key=lambda o: {"Namespace": 0, "CustomResourceDefinition": 1}.get(o["kind"], 2))
    for obj in ordered:
        resource = resources.BY_KIND.get(obj["kind"])
        if resource is None:
            raise Permanent(f"manifest of kind {obj['kind']} {obj['metadata']['name']}: this kind is not known here")
        meta = obj["metadata"]
        await client.patch(
            resource,
            meta["name"],
            obj,
            meta.get("namespace"),
            kind="apply",
            field_manager="kubernaut-ray-up",
            force=True,
        )
    return len(ordered)


async def install(client: KubeClient) -> None:
    """Install CRDs, namespaces, service accounts and RBAC, and wait until our kinds are served."""
    await apply(client, documents("crds"))
    await apply(client, documents("rbac"))
    await established(client)


async def established(client: KubeClient, timeout: float = 30.0) -> None:
    """Wait until the API server serves every kind of ours."""

    async def wait() -> None:
        for resource in (r for r in resources.BY_KIND.values() if r.group == names.GROUP):
            while True:
                try:
                    await client.list(resource, names.SYSTEM_NAMESPACE, limit=1)
                    break
                except NotFound:
                    await asyncio.sleep(0.1)

    try:
        await asyncio.wait_for(wait(), timeout)
    except TimeoutError:
        raise Permanent(
            f"the API server did not serve our kinds within {timeout:.0f} s of installing their CRDs"
        ) from None


async def write_token(client: KubeClient, file: Path) -> None:
    """Write a fresh bearer token of our service account, readable by its owner only, in one step."""
    token = await client.service_account_token(
        names.SYSTEM_NAMESPACE, SERVICE_ACCOUNT, expiration_seconds=TOKEN_LIFETIME
    )
    write_private(file, token)


def write_private(file: Path, text: str) -> None:
    """Write a file of mode 600 atomically."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    temporary.replace(file)


def write_system_kubeconfig(admin: Path, token_file: Path, out: Path) -> None:
    """Write the platform's own kubeconfig: the admin's cluster, but our service account's token and so only its rights."""
    config = yaml.safe_load(admin.read_text())
    context = config["contexts"][0]["context"]
    config["users"] = [{"name": "kubernaut", "user": {"tokenFile": str(token_file.resolve())}}]
    config["contexts"] = [{"name": "kubernaut", "context": {**context, "user": "kubernaut"}}]
    config["current-context"] = "kubernaut"
    write_private(out, yaml.safe_dump(config, sort_keys=False))
