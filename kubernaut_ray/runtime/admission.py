"""Installing the admission webhook for ``up``: its certificate, its tokens, its key, and the configurations that call it.

The order matters: files first, then the replica that serves, then the configurations. Once they are installed, decisions and
runs of executions are refused while the replica is away. Nothing here answers a review; ``serve_apps.admission`` does.
"""

from __future__ import annotations

import base64
import copy
import secrets
from pathlib import Path
from typing import Any

import yaml

from kubernaut_ray import names, shipped
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.embedded import pki
from kubernaut_ray.kube.embedded.server import WEBHOOK_KUBECONFIG
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.runtime.bootstrap import apply, write_private
from kubernaut_ray.settings import Settings
from kubernaut_ray.signing import SigningKey

ISSUER = pki.Issuer(
    authority="kubernaut-admission-ca",
    subject="kubernaut-admission",
    names=("localhost", "kubernaut-admission.kubernaut-system.svc"),
    days=90,
)
CHECK = 12 * 3600.0
"""How often the certificate's age is looked at; it is renewed in its last thirty days."""
NAMESPACE_NAME = "kubernetes.io/metadata.name"
_INSTALLED = (
    (resources.MUTATING_WEBHOOKS, "kubernaut-approvals"),
    (resources.VALIDATING_WEBHOOKS, "kubernaut-approvals"),
    (resources.VALIDATING_WEBHOOKS, "kubernaut-fencing"),
)


def folder(settings: Settings) -> Path:
    return settings.data_dir / "admission"


def prepare(settings: Settings) -> Settings:
    """Make what the webhook and the embedded API server need on disk. Returns the settings with the caller's token."""
    home = folder(settings)
    home.mkdir(mode=0o700, exist_ok=True)
    renew(settings)
    SigningKey.load_or_create(settings.approval_key)
    token = home / "caller-token"
    if not token.exists():
        write_private(token, secrets.token_urlsafe(32))
    user = {"name": _host(settings), "user": {"tokenFile": str(token)}}
    document = {"apiVersion": "v1", "kind": "Config", "users": [user]}
    kube = settings.data_dir / "kube"
    kube.mkdir(mode=0o700, exist_ok=True)
    write_private(kube / WEBHOOK_KUBECONFIG, yaml.safe_dump(document, sort_keys=False))
    return settings.model_copy(update={"admission": settings.admission.model_copy(update={"caller_token": token})})


def renew(settings: Settings) -> None:
    """Make the certificate anew when it is worn out; the replica notices by itself."""
    pki.identity(folder(settings), [settings.admission.host], ISSUER)


def configurations(settings: Settings) -> list[dict[str, Any]]:
    """Return the shipped configurations, calling this machine instead of a Service."""
    bundle = base64.b64encode((folder(settings) / "ca.crt").read_bytes()).decode()
    text = (shipped.directory() / "webhooks" / "webhooks.yaml").read_text()
    named = {names.SYSTEM_NAMESPACE: settings.namespace, names.WORKFLOW_NAMESPACE: settings.execution.namespace}
    made = []
    for document in yaml.safe_load_all(text):
        configuration = copy.deepcopy(document)
        configuration["metadata"].pop("annotations", None)
        for webhook in configuration["webhooks"]:
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": f"https://{_host(settings)}{path}", "caBundle": bundle}
            webhook["timeoutSeconds"] = settings.admission.timeout
            labels = webhook["namespaceSelector"]["matchLabels"]
            labels[NAMESPACE_NAME] = named.get(labels[NAMESPACE_NAME], labels[NAMESPACE_NAME])
        made.append(configuration)
    return made


async def install(client: KubeClient, settings: Settings) -> None:
    """Have the API server call the webhook from now on."""
    await apply(client, configurations(settings))


async def remove(client: KubeClient) -> None:
    """Take back what an earlier run installed: a webhook that nobody serves would refuse every decision and every run."""
    for kind, name in _INSTALLED:
        try:
            await client.delete(kind, name)
        except NotFound:
            continue


def _host(settings: Settings) -> str:
    return f"{settings.admission.host}:{settings.admission.port}"
