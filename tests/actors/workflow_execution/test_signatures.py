"""What becomes of executions whose bundle is signed, unsigned, or cannot be checked."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from actors.workflow_execution.decide import SIGNED, decide
from actors.workflow_execution.observe import Observed
from actors.workflow_execution.signatures import UNASKED, Signature, Signatures, Unknown
from catalog.bundles import Bundles
from kubernaut_ray import names
from kubernaut_ray.conditions import find
from kubernaut_ray.control.decision import Audit, Create
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.pipelines.cosign import Unverified, Verified
from kubernaut_ray.kube.pipelines.oci import Stores
from kubernaut_ray.kube.pipelines.reference import Reference
from kubernaut_ray.kube.resources import SECRET
from kubernaut_ray.settings import Settings
from tests import build, cosigner, registry
from tests.build import NOW, later
from tests.cluster import MANIFESTS
from tests.memory_kube import MemoryKube
from tests.trail import fits

KEY = ec.generate_private_key(ec.SECP256R1())
UNSIGNED = Unverified("x is not signed")
AWAY = Unknown("the registry is away")


def seen(signature: Signature) -> Observed:
    made = build.workflow_execution(build.remediation_request(), Phase.PENDING, admitted_at=NOW)
    made = made.replace(spec=made.spec.replace(deadline=later(15)))
    return Observed(made, workflow=build.registered(made), signature=signature)


def settings(policy: str, **more: object) -> Settings:
    return Settings.load(execution={"signatures": policy, **more})


@pytest.mark.parametrize(
    ("policy", "signature", "reason", "condition"),
    [
        pytest.param("off", UNASKED, "PipelineRunRequested", None, id="off"),
        pytest.param("warn", Verified("k"), "PipelineRunRequested", ("True", "Signed"), id="warn, signed"),
        pytest.param("warn", UNSIGNED, "PipelineRunRequested", ("False", "Unsigned"), id="warn, unsigned"),
        pytest.param("warn", AWAY, "PipelineRunRequested", ("False", "NotChecked"), id="warn, registry away"),
        pytest.param("required", Verified("k"), "PipelineRunRequested", ("True", "Signed"), id="required, signed"),
        pytest.param("required", UNSIGNED, "ConfigurationError", None, id="required, unsigned"),
        pytest.param("required", AWAY, "SignatureUnknown", None, id="required, registry away"),
    ],
)  # fmt: skip
def test_policy_decides(policy: str, signature: Signature, reason: str, condition: tuple[str, str] | None) -> None:
    """What is not signed runs only where that is allowed, and then its execution says so."""
    decision = decide(seen(signature), NOW, settings(policy))
    assert reason == decision.reason
    assert any(isinstance(e, Create) for e in decision.effects) == (reason == "PipelineRunRequested")
    assert decision.status is not None
    told = find(decision.status.conditions, SIGNED)
    assert condition == (None if told is None else (told.status, told.reason))


def test_a_refusal_says_why_and_that_nothing_ran() -> None:
    """As a failure before execution."""
    status = decide(seen(UNSIGNED), NOW, settings("required")).status
    assert status is not None
    assert status.failure_details is not None
    assert (
        status.failure_details.reason, status.failure_details.was_execution_failure,
    ) == (Reason.CONFIGURATION_ERROR, False)  # fmt: skip
    assert "only signed bundles may run here: x is not signed" in status.failure_details.message


def test_an_unsigned_run_is_on_record() -> None:
    """The fact of its start carries it."""
    first = seen(UNSIGNED)
    asked = decide(first, NOW, settings("warn")).status
    assert asked is not None
    made = first.execution.replace(status=asked)
    (audit,) = decide(Observed(made, build.pipeline_run(made), mine=True), NOW, settings("warn")).effects
    assert isinstance(audit, Audit)
    assert fits(audit.event).event_data["signature"] == "Unsigned: x is not signed"


def test_what_cannot_be_checked_waits_until_the_deadline() -> None:
    """And never runs unchecked."""
    decision = decide(seen(AWAY), NOW, settings("required"))
    assert later(10) == decision.wake_at
    status = decide(seen(AWAY), later(15), settings("required")).status
    assert status is not None
    assert status.failure_details is not None
    assert Reason.DEADLINE_EXCEEDED is status.failure_details.reason


def execution(image: str, digest: str) -> WorkflowExecution:
    made = build.workflow_execution(build.remediation_request(), Phase.PENDING)
    ref = made.spec.workflow_ref.replace(container_image=image, container_digest=digest)
    return made.replace(spec=made.spec.replace(workflow_ref=ref))


async def test_a_bundle_in_a_registry_with_keys_in_a_secret(tmp_path: Path) -> None:
    """Unsigned, then signed; and what was verified stays so while the registry is away."""
    kube: KubeClient = MemoryKube(lambda: NOW)
    with registry.running(tmp_path) as host:
        access = registry.plain(host)
        pushed = Bundles(None, access=access).push(MANIFESTS / "workflows" / "scale-replicas", f"{host}/w/scale:1")
        made = execution(pushed.image, pushed.digest)
        catalog = {"registry_access": {host: {"plain_http": True}}}
        wanted = Settings.load(execution={"signatures": "required"}, catalog=catalog, data_dir=tmp_path)
        signatures = Signatures(kube, wanted)
        without = await signatures.of(made)
        assert isinstance(without, Unknown)
        assert "kubernaut-system/kubernaut-cosign, key cosign.pub" in without.why
        data = {"cosign.pub": base64.b64encode(cosigner.pem(KEY)).decode()}
        await kube.create(SECRET, {"metadata": {"name": names.BUNDLE_KEYS}, "data": data}, names.SYSTEM_NAMESPACE)
        assert isinstance(await signatures.of(made), Unverified)
        reference = Reference.parse(f"{pushed.image}@{pushed.digest}")
        cosigner.sign(KEY, Stores(None, access=access).of(reference), reference)
        assert isinstance(await signatures.of(made), Verified)
    assert isinstance(await signatures.of(made), Verified)
    assert isinstance(await Signatures(kube, wanted).of(made), Unknown)


async def test_keys_in_a_file(tmp_path: Path) -> None:
    """It wins over the Secret; a key that is taken out no longer counts."""
    pushed = Bundles(tmp_path / "bundles").push(MANIFESTS / "workflows" / "scale-replicas")
    reference = Reference.parse(str(pushed))
    cosigner.sign(KEY, Stores(tmp_path / "bundles").of(reference), reference)
    file = tmp_path / "cosign.pub"
    wanted = Settings.load(execution={"signatures": "warn", "signature_keys": {"file": str(file)}}, data_dir=tmp_path)
    signatures = Signatures(MemoryKube(lambda: NOW), wanted)
    made = execution(pushed.image, pushed.digest)
    assert isinstance(await signatures.of(made), Unknown)
    file.write_bytes(cosigner.pem(KEY))
    assert isinstance(await signatures.of(made), Verified)
    file.write_bytes(cosigner.pem(ec.generate_private_key(ec.SECP256R1())))
    assert isinstance(await signatures.of(made), Unverified)
