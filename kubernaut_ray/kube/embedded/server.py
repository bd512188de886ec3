"""The server as one thing to start and stop: data directory in, HTTPS address and kubeconfig out.

``EmbeddedServer`` runs on the caller's event loop; ``__main__`` runs it as a process. Only one server may have a data
directory at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import structlog
import yaml

from kubernaut_ray.kube.embedded import crd, pki, rbac
from kubernaut_ray.kube.embedded.admission import Admission
from kubernaut_ray.kube.embedded.app import App
from kubernaut_ray.kube.embedded.authn import Authenticator
from kubernaut_ray.kube.embedded.builtins import builtin_kinds
from kubernaut_ray.kube.embedded.gc import CRD_FINALIZER, CRDS, Collector
from kubernaut_ray.kube.embedded.http1 import Listener, server_tls
from kubernaut_ray.kube.embedded.hub import Event
from kubernaut_ray.kube.embedded.kinds import Kind, Registry
from kubernaut_ray.kube.embedded.log import CommitLog, Synchronous
from kubernaut_ray.kube.embedded.meta import now_text
from kubernaut_ray.kube.embedded.objects import Objects, Options
from kubernaut_ray.kube.embedded.pki import write_private
from kubernaut_ray.kube.embedded.status import Obj, invalid
from kubernaut_ray.kube.embedded.store import Store
from kubernaut_ray.kube.embedded.webhook_calls import Caller, Credentials

_log = structlog.get_logger(__name__)
_DRAIN_SECONDS = 2
WEBHOOK_KUBECONFIG = "webhook.kubeconfig"
"""Beside the keys, where there is one: who we are to admission webhooks; see ``webhook_calls.Credentials``."""


class EmbeddedServer:
    """An API server on ``data_dir``. Files: ``kubeconfig`` (mode 600), ``ca.crt``, and ``kube/`` with the rest."""

    def __init__(
        self, data_dir: Path, port: int = 0, host: str = "127.0.0.1", *, synchronous: Synchronous = "FULL"
    ) -> None:
        self.data_dir, self.host, self.port = Path(data_dir), host, port
        self.kubeconfig = self.data_dir / "kubeconfig"
        self.on_fault: Callable[[BaseException], None] | None = None
        self._synchronous: Synchronous = synchronous
        self._store: Store | None = None
        self._collecting: asyncio.Task[None] | None = None
        self._webhooks: Caller | None = None
        self._http: Listener | None = None

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else "[::1]" if self.host == "::" else self.host  # noqa: S104
        return f"https://{host}:{self.port}"

    async def start(self) -> None:
        """Open the store, listen, and write the kubeconfig. Ready to serve when it returns."""
        folder = self.data_dir / "kube"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        listener = self._listen()
        try:
            identity = pki.identity(folder, [self.host, socket.gethostname()])
            ca = identity.ca.read_bytes()
            store = self._store = Store(CommitLog(folder / "objects.sqlite", synchronous=self._synchronous))
            store.on_fault = self.on_fault
            registry = Registry()
            registry.add(builtin_kinds())
            objects = Objects(store)
            _serve_definitions(store, registry, objects)
            collector = Collector(objects, registry, ca.decode())
            authenticator = Authenticator(folder, collector.account_uid)
            store.start()
            await _furnish(objects, registry)
            self._webhooks = Caller(Credentials(folder / WEBHOOK_KUBECONFIG))
            admission = Admission(objects, registry, self._webhooks)
            authorizer = rbac.Authorizer(store)
            app = App(objects, registry, authenticator, authorizer, admission, address=f"{self.host}:{self.port}")
            self._http = Listener(app, listener, server_tls(str(identity.certificate), str(identity.key)))
            await self._http.start()
        except BaseException:
            listener.close()
            if self._store is not None:
                self._store.close()
            raise
        self._collecting = asyncio.create_task(collector.run(), name="embedded-collector")
        (self.data_dir / "ca.crt").write_bytes(ca)
        write_private(self.kubeconfig, pki.kubeconfig(url=self.url, ca=ca, token=authenticator.admin_token))

    async def stop(self) -> None:
        """End watches, answer what is in flight, commit, and close."""
        if self._store is not None:
            self._store.hub.close()
        if self._collecting is not None:
            self._collecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._collecting
        if self._http is not None:
            await self._http.stop(_DRAIN_SECONDS)
        if self._webhooks is not None:
            await self._webhooks.close()
        if self._store is not None:
            self._store.close()
            self._store = None
        self._http = self._collecting = None

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
        except OSError as error:
            listener.close()
            raise OSError(
                f"cannot listen on {self.host}:{self.port}: {error.strerror}; choose another --port"
            ) from error
        self.port = listener.getsockname()[1]
        return listener


def _serve_definitions(store: Store, registry: Registry, objects: Objects) -> None:
    """Keep the registry in step with the stored CustomResourceDefinitions."""

    def before_write(kind: Kind, obj: Obj, old: Obj | None) -> None:
        if kind.table != CRDS:
            return
        crd.default(obj)
        if causes := crd.problems(obj, old, registry):
            raise invalid(kind.kind, kind.group, obj["metadata"]["name"], causes)
        if old is None:
            obj["metadata"]["finalizers"] = sorted({*obj["metadata"].get("finalizers", ()), CRD_FINALIZER})
        obj["status"] = crd.established(obj, now_text())

    def listen(event: Event) -> None:
        if event.resource != CRDS:
            return
        obj = event.entry.obj
        registry.remove(obj["spec"]["group"], obj["spec"]["names"]["plural"])
        if event.type == "DELETED":
            store.hub.drop(event.entry.obj["metadata"]["name"])
        else:
            registry.add(crd.kinds_of(obj))

    objects.before_write.append(before_write)
    store.listeners.append(listen)
    for entry in store.scan(CRDS):
        registry.add(crd.kinds_of(entry.obj))


async def _furnish(objects: Objects, registry: Registry) -> None:
    """Create what every cluster has from the start, and Tekton's definitions; what is there is left as it is."""
    documents: list[Obj] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("default", "kube-system")
    ]
    documents += rbac.bootstrap()
    text = resources.files(__package__).joinpath("data", "tekton.yaml").read_text()
    documents += [d for d in yaml.safe_load_all(text) if d]
    for document in documents:
        kind = registry.of(document["apiVersion"], document["kind"])
        if kind is not None and objects.store.get(kind.table, "", document["metadata"]["name"]) is None:
            objects.create(kind, "", document, Options(manager="kube-apiserver"))
    await objects.store.settled()
