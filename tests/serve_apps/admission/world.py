"""The webhook as a cluster has it: over HTTPS beside an embedded API server that calls it, and people with their tokens."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from kubernaut_ray import clock, names
from kubernaut_ray.contracts.audit import Pagination
from kubernaut_ray.contracts.catalog import Workflow, WorkflowPage
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest as Approval
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object, UserInfo
from kubernaut_ray.kube.embedded.server import EmbeddedServer
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.runtime import admission, bootstrap, ports
from kubernaut_ray.settings import AdmissionSettings, Settings
from kubernaut_ray.signing import SigningKey
from serve_apps.admission.app import Deps, create_app
from serve_apps.admission.approvals import Desk
from serve_apps.admission.listen import listening
from tests import build
from tests.people import invite

HOME = names.SYSTEM_NAMESPACE
APPROVERS = ("kubernaut:viewers", "kubernaut:approvers")
PEOPLE = {"ann@example.com": APPROVERS, "bob@example.com": APPROVERS, "eve@example.com": ("writers",)}
ANN, BOB, EVE = PEOPLE
"""``ann`` and ``bob`` may decide; ``eve`` may write the status, and no more."""


@dataclass
class Catalog:
    """Data Storage's catalog; ``away`` makes it answer nothing."""

    held: list[Workflow] = field(default_factory=list)
    away: bool = False

    async def workflow(self, workflow_id: str) -> Workflow | None:
        self._answers()
        return next((w for w in self.held if w.workflow_id == workflow_id), None)

    async def workflows(self, *, limit: int = 100, offset: int = 0, status: str = "", name: str = "") -> WorkflowPage:
        self._answers()
        found = tuple(w for w in self.held if w.workflow_name == name and status in ("", w.status))
        return WorkflowPage(
            workflows=found, pagination=Pagination(limit=limit, offset=offset, total=len(found), has_more=False)
        )

    def _answers(self) -> None:
        if self.away:
            raise Retryable("Data Storage did not answer")


@dataclass
class World:
    kube: KubeClient
    """The administrator's."""
    settings: Settings
    server: EmbeddedServer
    catalog: Catalog
    key: SigningKey
    tokens: dict[str, str]

    def of(self, person: str) -> KubeClient:
        return self.kube.bearing(self.tokens[person])

    async def ask(self, name: str, **spec: Any) -> Approval:
        """Create an approval request that the controller has taken up."""
        made = build.approval_request(
            build.remediation_request(name), required_by=clock.utcnow() + timedelta(minutes=15)
        )
        body = made.replace(spec=made.spec.replace(**spec)).to_object()
        body.pop("status")
        body["metadata"] = {"name": body["metadata"]["name"], "namespace": HOME}
        stored = await self.kube.create(resources.APPROVAL_REQUEST, body)
        platform = self.of("platform")
        taken = {"status": {"createdAt": clock.rfc3339(clock.utcnow()), "targetUid": "uid-web"}}
        await platform.patch(resources.APPROVAL_REQUEST, stored["metadata"]["name"], taken, HOME, subresource="status")
        return await self.found(stored["metadata"]["name"])

    async def write(self, person: str, name: str, **status: Any) -> Approval:
        written = await self.of(person).patch(
            resources.APPROVAL_REQUEST, name, {"status": status}, HOME, subresource="status"
        )
        return Approval.from_object(written)

    async def http(self, method: str, url: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        """Send a request of any kind to the API server or to the webhook."""
        trust = ssl.create_default_context(cafile=str(self.server.data_dir / "ca.crt"))
        trust.load_verify_locations(cafile=str(admission.folder(self.settings) / "ca.crt"))
        data = orjson.dumps(body) if body is not None else None
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, force_close=True)) as session,
            session.request(method, url, data=data, headers=headers) as answer,
        ):
            return answer.status, orjson.loads(await answer.read())

    async def configurations(self) -> list[Object]:
        kinds = (resources.MUTATING_WEBHOOKS, resources.VALIDATING_WEBHOOKS)
        return [await self.kube.get(kind, "kubernaut-approvals") for kind in kinds]

    async def certificate(self) -> str:
        """The certificate that the webhook shows to a new connection."""
        address = ("127.0.0.1", self.settings.admission.port)
        return await asyncio.to_thread(ssl.get_server_certificate, address)

    def wear_out_certificate(self) -> None:
        """Have the certificate made anew, as it is in its last thirty days."""
        (admission.folder(self.settings) / "server.crt").unlink()
        admission.renew(self.settings)

    async def found(self, name: str) -> Approval:
        return Approval.from_object(await self.kube.get(resources.APPROVAL_REQUEST, name, HOME))


async def _allow_writing(kube: KubeClient) -> None:
    """Let ``eve`` write the status, as a too generous role would."""
    rule = {"apiGroups": [names.GROUP], "resources": ["remediationapprovalrequests/status"], "verbs": ["patch"]}
    await kube.create(resources.CLUSTER_ROLE, {"metadata": {"name": "writers"}, "rules": [rule]})
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "test-writers"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "writers"},
        "subjects": [{"kind": "Group", "apiGroup": group, "name": "writers"}],
    }
    await kube.create(resources.CLUSTER_ROLE_BINDING, binding)


@asynccontextmanager
async def world(data_dir: Path) -> AsyncIterator[World]:
    """Bring up API server and webhook."""
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    port = ports.choose(data_dir, admission=0)["admission"]
    settings = admission.prepare(Settings(data_dir=data_dir, admission=AdmissionSettings(mode="required", port=port)))
    tokens = invite(data_dir, PEOPLE)
    server = EmbeddedServer(data_dir, synchronous="NORMAL")
    await server.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        kube = await stack.enter_async_context(await KubeClient.connect(server.kubeconfig))
        await bootstrap.install(kube)
        key, catalog = SigningKey.load(settings.approval_key), Catalog()

        async def may(user: UserInfo) -> bool:
            return await kube.may(user, verb="update", group=names.GROUP, resource="approvals")

        async def lease(name: str) -> Object | None:
            try:
                return await kube.get(resources.LEASE, name, HOME)
            except NotFound:
                return None

        desk = Desk(key, catalog, may, names.PLATFORM_USER, clock.utcnow)
        app = create_app(Deps(desk, lease, settings.admission.caller_token))
        folder = admission.folder(settings)
        await stack.enter_async_context(
            listening(app, "127.0.0.1", port, folder / "server.crt", folder / "server.key", check_seconds=0.05)
        )
        await admission.install(kube, settings)
        await _allow_writing(kube)
        tokens["platform"] = await kube.service_account_token(HOME, names.SERVICE_ACCOUNT)
        yield World(kube, settings, server, catalog, key, tokens)
