"""Who may change a record's status: the rules as one table, without a catalog. Then errands against one that answers badly."""

from __future__ import annotations

from typing import Any

import pytest

from actors.remediation_workflow import errands
from actors.remediation_workflow.desk import Answer, Away, Refused, run
from actors.remediation_workflow.errands import DELETED, LEFT, SUSPENDED, Register, Withdraw
from kubernaut_ray.clients.data_storage import Conflict
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.crds.enums import RegistrationReason as Reason
from kubernaut_ray.errors import InvalidInput, KubernautError, Permanent, Retryable
from tests import build

ME, OTHER = "remediationworkflow ns/me", "remediationworkflow ns/other"
ID = build.workflow().workflow_id


def record(status: str = "active", by: str = "", reason: str = "") -> Workflow:
    return build.workflow(status=status, status_changed_by=by, status_changed_reason=reason)


@pytest.mark.parametrize(
    ("found", "errand", "becomes"),
    [
        pytest.param(record(), {}, None, id="offered, as declared"),
        pytest.param(record(), {"suspend": True}, "disabled", id="suspended"),
        pytest.param(
            record("disabled", "ann", "bad"), {"suspend": True}, None, id="suspended, and ann's word stays on record"
        ),
        pytest.param(record("disabled", ME, SUSPENDED), {}, "active", id="its own suspension"),
        pytest.param(record("disabled", ME, DELETED), {}, "active", id="its own deletion"),
        pytest.param(record("disabled", OTHER, DELETED), {}, "active", id="what another left behind"),
        pytest.param(record("disabled", OTHER, LEFT), {}, "active", id="what another let go"),
        pytest.param(record("disabled", OTHER, SUSPENDED), {}, None, id="another's suspension"),
        pytest.param(record("disabled", "ann", DELETED), {}, None, id="a person who uses our words"),
        pytest.param(record("disabled", "ann", "bad"), {}, None, id="a person's word"),
        pytest.param(
            record("disabled", "ann", "bad"), {"overrule": True, "known_id": ID}, "active", id="suspend taken away"
        ),
        pytest.param(
            record("disabled", "ann", "bad"), {"overrule": True, "known_id": "x"}, None, id="of another workflow"
        ),
        pytest.param(record("deprecated", ME, "old"), {"overrule": True, "known_id": ID}, None, id="retired"),
        pytest.param(record("archived"), {"suspend": True}, None, id="retired and suspended"),
    ],
)
def test_what_a_declared_record_becomes(found: Workflow, errand: dict[str, Any], becomes: str | None) -> None:
    """And every change says who and why."""
    change = errands.declared(found, Register(ME, "r.example/w:1", **errand))
    assert becomes == (change and change.status.value)
    assert change is None or (change.source, bool(change.reason)) == (ME, True)


@pytest.mark.parametrize(
    ("found", "claimed", "held", "becomes"),
    [
        pytest.param(record(), False, False, "disabled", id="nobody else declares it"),
        pytest.param(record(), True, False, None, id="somebody else does"),
        pytest.param(record("disabled", ME, SUSPENDED), False, False, "disabled", id="suspended becomes left behind"),
        pytest.param(record("disabled", ME, DELETED), False, False, None, id="done before"),
        pytest.param(record("disabled", ME, SUSPENDED), True, False, "active", id="the suspension goes with it"),
        pytest.param(record("disabled", ME, SUSPENDED), True, True, None, id="but another suspends it too"),
        pytest.param(record("disabled", "ann", "bad"), False, False, None, id="a person's word"),
        pytest.param(record("disabled", "ann", "bad"), True, False, None, id="a person's word for the others"),
        pytest.param(record("deprecated", "ann", "old"), False, False, None, id="retired"),
    ],
)
def test_what_a_withdrawn_record_becomes(found: Workflow, claimed: bool, held: bool, becomes: str | None) -> None:
    """Never worse than the others that declare it want it."""
    ids = frozenset({found.workflow_id})
    errand = Withdraw(ME, found.workflow_id, ids if claimed else frozenset(), ids if held else frozenset())
    change = errands.withdrawn(found, errand)
    assert becomes == (change and change.status.value)
    assert change is None or change.reason != SUSPENDED


@pytest.mark.parametrize(
    ("found", "now", "claimed", "becomes"),
    [
        pytest.param(record(), "another", False, "disabled", id="for another workflow"),
        pytest.param(record(), "the same", False, None, id="for another version of it"),
        pytest.param(record(), "another", True, None, id="and somebody else declares it"),
        pytest.param(
            record("disabled", ME, SUSPENDED), "the same", True, "active", id="suspended, and somebody else declares it"
        ),
        pytest.param(
            record("disabled", ME, SUSPENDED), "the same", False, "disabled", id="suspended becomes left behind"
        ),
        pytest.param(record("disabled", "ann", "bad"), "another", True, None, id="a person's word"),
        pytest.param(record("deprecated"), "another", False, None, id="retired"),
    ],
)
def test_what_a_record_becomes_that_is_let_go(found: Workflow, now: str, claimed: bool, becomes: str | None) -> None:
    """A suspension never outlives the declaration that it belonged to."""
    errand = Register(ME, "r.example/w:1", known_id=ID, claimed=frozenset({ID}) if claimed else frozenset())
    change = errands.left(found, errand, found.workflow_name if now == "the same" else "another")
    assert becomes == (change and change.status.value)
    assert change is None or change.reason in {LEFT, errands.DECLARED}


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (Retryable("x", reason="RegistryUnavailable"), Away, Reason.REGISTRY_UNAVAILABLE),
        (Retryable("x", reason="RegistryDenied"), Away, Reason.REGISTRY_DENIED),
        (Retryable("x", after=7), Away, Reason.DATA_STORAGE_UNAVAILABLE),
        (InvalidInput("x", reason="InvalidSchema"), Refused, Reason.INVALID_SCHEMA),
        (InvalidInput("x", reason="SpecDiffers"), Refused, Reason.SPEC_DIFFERS),
        (InvalidInput("x", reason="NotFound"), Refused, Reason.BUNDLE_NOT_FOUND),
        (InvalidInput("x", reason="NotAWorkflow"), Refused, Reason.BUNDLE_UNUSABLE),
        (InvalidInput("x"), Refused, Reason.REFUSED),
        (Conflict("x"), Refused, Reason.VERSION_CONFLICT),
        (Permanent("x"), Refused, Reason.REFUSED),
    ],
)
async def test_what_an_error_means(error: KubernautError, kind: type[Answer], reason: Reason) -> None:
    """Passing faults are asked again; the rest is for people, and each has its name."""

    class Catalog:
        async def register(self, _: object) -> Workflow:
            raise error

    answer: Any = await run(Catalog(), Register(ME, "r.example/w:1"))  # type: ignore[arg-type]
    assert (type(answer), answer.reason) == (kind, reason)
    assert getattr(answer, "after", None) == getattr(error, "after", None)
