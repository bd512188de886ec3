"""Whether somebody we know signed the bundle that is about to run: asks the registry, with the keys of a file or a Secret.

Only a verified digest is remembered, together with the keys that were known then. Policy decides what an unsigned one may do;
see ``start.py``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass

from kubernaut_ray.contracts.grants import pinned
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.errors import InvalidInput, KubernautError
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.errors import NotFound
from kubernaut_ray.kube.pipelines import cosign
from kubernaut_ray.kube.pipelines.cosign import PublicKeys, Unverified, Verified
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.reference import Reference
from kubernaut_ray.settings import Settings

KEPT = 256


@dataclass(frozen=True, slots=True)
class Unknown:
    """It could not be checked: the registry or the keys are not to be had."""

    why: str


@dataclass(frozen=True, slots=True)
class Unasked:
    """Signatures are not looked at here."""


Signature = Verified | Unverified | Unknown | Unasked
UNASKED = Unasked()


class Signatures:
    def __init__(self, client: KubeClient, settings: Settings) -> None:
        self._client = client
        self._wanted = settings.execution.signatures != "off"
        self._keys = settings.execution.signature_keys
        self._namespace = self._keys.namespace or settings.namespace
        catalog = settings.catalog
        self._stores = Stores(
            settings.data_dir / "bundles", access=catalog.registry_access, registry_config=catalog.registry_config
        )
        self._verified: OrderedDict[tuple[str, tuple[str, ...]], Verified] = OrderedDict()

    async def of(self, execution: WorkflowExecution) -> Signature:
        """Check the signature of an execution's bundle."""
        if not self._wanted:
            return UNASKED
        try:
            keys = await self._public_keys()
            reference = Reference.parse(pinned(execution.spec.workflow_ref))
            known = (str(reference), keys.ids)
            if known in self._verified:
                return self._verified[known]
            verdict = await asyncio.to_thread(cosign.check, reference, self._stores.of(reference), keys)
        except KubernautError as error:
            return Unknown(str(error))
        if isinstance(verdict, Verified):
            self._verified[known] = verdict
            if len(self._verified) > KEPT:
                self._verified.popitem(last=False)
        return verdict

    async def _public_keys(self) -> PublicKeys:
        if (file := self._keys.file) is not None:
            try:
                return PublicKeys.read(await asyncio.to_thread(file.read_bytes), str(file))
            except OSError as error:
                raise InvalidInput(f"execution.signature_keys.file: {file}: {error.strerror}") from error
        where = f"Secret {self._namespace}/{self._keys.secret}, key {self._keys.key}"
        try:
            data = (await self._client.get(resources.SECRET, self._keys.secret, self._namespace)).get("data") or {}
            return PublicKeys.read(base64.b64decode(data[self._keys.key]), where)
        except (NotFound, KeyError, binascii.Error) as error:
            raise InvalidInput(f"{where} is not there; execution.signature_keys names it") from error
