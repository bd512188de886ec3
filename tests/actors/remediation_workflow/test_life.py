"""What becomes of declared workflows in the catalog: the real engine, a real catalog, whole stories."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kubernaut_ray import conditions, names
from kubernaut_ray.contracts.catalog import RegisterWorkflow
from kubernaut_ray.crds.enums import RegistrationPhase as Phase
from kubernaut_ray.crds.remediation_workflow import RemediationWorkflow
from kubernaut_ray.errors import InvalidInput, Retryable
from tests import build
from tests.actors.remediation_workflow.world import NAMESPACE, Life, Shelf, Shop

ONE = "increase-memory-limits 1.0.0"
TWO = "increase-memory-limits 2.0.0"
MINE = f"remediationworkflow {NAMESPACE}/restart"
AWAY = Retryable("Data Storage did not answer", after=None)


def ready(own: RemediationWorkflow | None) -> tuple[str, str]:
    assert own is not None
    found = conditions.find(own.status.conditions, "Ready")
    assert found is not None
    return found.status, found.reason


async def test_three_lines_register_a_workflow(life: Life, shop: Shop) -> None:
    """The status says what is registered, and one fact tells of it."""
    own = await life.apply()
    assert own is not None
    status, record = own.status, build.workflow()
    assert (status.phase, status.workflow_name, status.version) == (Phase.REGISTERED, record.workflow_name, "1.0.0")
    assert (status.workflow_id, status.container_digest, status.content_hash, status.action_type) == (
        record.workflow_id, record.container_digest, record.content_hash, record.action_type,
    )  # fmt: skip
    assert own.metadata.finalizers == (names.FINALIZER_REMEDIATION_WORKFLOW,)
    assert ready(own) == ("True", "Registered")
    assert await shop.stands() == {ONE: "active"}
    assert (await shop.workflow(record.workflow_id)).source == MINE  # type: ignore[union-attr]
    await life.look_again()
    assert life.sink.told == ["registered"]


async def test_a_new_bundle_is_a_new_version(life: Life, shop: Shop, shelf: Shelf) -> None:
    """The status follows; the older version stays, and is no longer the latest."""
    await life.apply()
    own = await life.apply(bundle=shelf.put(build.workflow(version="2.0.0")))
    assert own is not None
    assert (own.status.version, own.status.observed_generation) == ("2.0.0", own.metadata.generation)
    old = await shop.workflow(names.workflow_id("increase-memory-limits", "1.0.0"))
    assert old is not None
    assert (old.is_latest_version, old.status.value) == (False, "active")
    assert life.sink.told == ["registered", "registered"]


async def test_going_back_to_an_older_version_says_that_it_is_not_offered(life: Life, shelf: Shelf) -> None:
    """Latest is by version: a rollback in Git needs a higher version, and the object says so."""
    await life.apply(bundle=shelf.put(build.workflow(version="2.0.0")))
    own = await life.apply()
    assert own is not None
    assert ready(own) == ("True", "NotLatest")
    assert "not offered" in own.status.message


async def test_suspend_and_resume(life: Life, shop: Shop) -> None:
    """Disabled with who and why while it is set, enabled when it is taken away; each told once."""
    await life.apply()
    off = await life.apply(suspend=True)
    assert off is not None
    assert (off.status.phase, ready(off)) == (Phase.SUSPENDED, ("True", "Suspended"))
    assert await shop.stands() == {ONE: f"disabled | {MINE} | spec.suspend is set"}
    on = await life.apply()
    assert on is not None
    assert (on.status.phase, (await shop.stands())[ONE].split(" | ")[0]) == (Phase.REGISTERED, "active")
    assert life.sink.told == ["registered", "suspended", "resumed"]


async def test_what_a_person_disabled_is_shown_and_not_overruled(life: Life, shop: Shop, shelf: Shelf) -> None:
    """Not by a look, not by a restart, not by an edit; only by setting suspend and taking it away."""
    own = await life.apply()
    assert own is not None
    await shop.by_hand(own.status.workflow_id, "disabled", "it broke prod")
    own = await life.look_again()
    life.restart()
    await life.apply(bundle=shelf.put(build.workflow(), "mirror.example/the-same:1"))
    own = await life.look_again()
    assert own is not None
    assert (own.status.phase, ready(own)) == (Phase.SUSPENDED, ("False", "DisabledInCatalog"))
    assert "ann disabled it in the catalog: it broke prod" in own.status.message
    assert "kubernaut-ray workflow enable" in own.status.message
    await life.apply(suspend=True)
    assert await shop.stands() == {ONE: "disabled | ann | it broke prod"}
    own = await life.apply()
    assert own is not None
    assert own.status.phase is Phase.REGISTERED


async def test_a_retired_workflow_stays_retired(life: Life, shop: Shop) -> None:
    """Deprecated and archived are a person's word too; suspending and resuming does not revive them."""
    own = await life.apply()
    assert own is not None
    await shop.by_hand(own.status.workflow_id, "deprecated", "use the other")
    for suspend in (True, False):
        own = await life.apply(suspend=suspend)
        assert own is not None
        assert ready(own) == ("False", "RetiredInCatalog")
    assert await shop.stands() == {ONE: "deprecated | ann | use the other"}


async def test_a_wiped_catalog_is_filled_again(life: Life, shop: Shop) -> None:
    """At the next look, under the same id; suspended ones come back suspended."""
    before = await life.apply()
    shop.open()
    after = await life.look_again()
    assert before is not None
    assert after is not None
    assert (after.status.phase, after.status.workflow_id) == (Phase.REGISTERED, before.status.workflow_id)
    await life.apply(suspend=True)
    shop.open()
    await life.look_again()
    assert (await shop.stands())[ONE].startswith("disabled")


async def test_deleting_disables_and_creating_again_enables(life: Life, shop: Shop) -> None:
    """Who and why are on record; creating it anew, under whatever name, takes that back."""
    await life.apply()
    assert await life.delete() is None
    assert await shop.stands() == {ONE: f"disabled | {MINE} | the RemediationWorkflow was deleted"}
    await life.apply("renamed")
    assert (await shop.stands())[ONE].startswith("active")
    assert await life.delete("renamed") is None
    await shop.by_hand(names.workflow_id("increase-memory-limits", "1.0.0"), "disabled", "no more")
    own = await life.apply()
    assert ready(own) == ("False", "DisabledInCatalog")
    assert life.sink.told == ["registered", "withdrawn", "registered", "withdrawn", "registered", "suspended"]


async def test_what_another_object_declares_is_not_disabled(life: Life, shop: Shop) -> None:
    """Two objects, one version: it goes when the last one goes, and a suspension goes with its object."""
    await life.apply("a")
    await life.apply("b")
    assert await life.delete("a") is None
    assert await shop.stands() == {ONE: "active"}
    await life.apply("a", suspend=True)
    seen = await life.look_again("b")
    assert ready(seen) == ("False", "DisabledInCatalog")
    assert await life.delete("a") is None
    assert (await shop.stands())[ONE].startswith("active")
    assert await life.delete("b") is None
    assert (await shop.stands())[ONE].startswith("disabled")


async def test_an_object_that_comes_to_name_another_workflow_lets_the_first_go(
    life: Life, shop: Shop, shelf: Shelf
) -> None:
    """What nobody declares any more is not offered; what somebody declares is."""
    other = shelf.put(build.workflow("relax-pdb"))
    await life.apply()
    await life.apply(bundle=other)
    assert await shop.stands() == {
        ONE: f"disabled | {MINE} | the RemediationWorkflow names another workflow now",
        "relax-pdb 1.0.0": "active",
    }
    await life.apply()
    await life.apply("second")
    await life.apply(bundle=other)
    assert {name: told.split(" | ")[0] for name, told in (await shop.stands()).items()} == {
        ONE: "active", "relax-pdb 1.0.0": "active",
    }  # fmt: skip


async def test_a_refusal_lists_everything_and_takes_nothing_back(life: Life, shop: Shop, shelf: Shelf) -> None:
    """Other content under a registered version is refused; the message has both digests and what to do."""
    await life.apply()
    other = build.workflow(content="changed", container_image="r.example/other:1")
    own = await life.apply(bundle=shelf.put(other))
    assert own is not None
    assert (own.status.phase, ready(own)) == (Phase.REJECTED, ("False", "VersionConflict"))
    for said in (
        other.container_digest,
        build.workflow().container_digest,
        "raise the version",
        f"{ONE} stays registered",
    ):
        assert said in own.status.message
    assert conditions.is_true(own.status.conditions, "Stalled")
    assert own.status.container_digest == build.workflow().container_digest
    await life.look_again()
    assert life.sink.told == ["registered", "rejected"]
    own = await life.apply()
    assert own is not None
    assert (own.status.phase, own.status.problems) == (Phase.REGISTERED, ())
    assert await shop.stands() == {ONE: "active"}


async def test_a_bundle_that_comes_later(life: Life, shelf: Shelf) -> None:
    """Not found is refused, and looked for again soon: images are often pushed after the object."""
    own = await life.apply(bundle="r.example/late:1")
    assert own is not None
    assert ready(own) == ("False", "BundleNotFound")
    assert own.status.next_check_at is not None
    shelf.put(build.workflow(), "r.example/late:1")
    life.now = own.status.next_check_at
    own = await life.settle()
    assert own is not None
    assert own.status.phase is Phase.REGISTERED


async def test_a_fault_backs_off_and_loses_nothing(life: Life, shop: Shop, shelf: Shelf) -> None:
    """Pauses grow, the condition names the cause, what was registered stays so, and an edit is tried at once."""
    await life.apply()
    shop.fault = Retryable("registry r.example cannot be reached", reason="RegistryUnavailable")
    own, pauses = await life.look_again(), []
    for _ in range(4):
        assert own is not None
        assert own.status.next_check_at is not None
        pauses.append((own.status.next_check_at - life.now).total_seconds())
        life.now = own.status.next_check_at
        own = await life.settle()
    assert own is not None
    assert pauses == sorted(pauses)
    assert pauses[-1] > 2 * pauses[0]
    assert (own.status.phase, ready(own)) == (Phase.REGISTERED, ("Unknown", "RegistryUnavailable"))
    assert conditions.is_true(own.status.conditions, "Registered")
    own = await life.apply(bundle=shelf.put(build.workflow(version="2.0.0")))
    assert own is not None
    assert not conditions.is_true(own.status.conditions, "Registered")
    assert f"{ONE} stays registered" in own.status.message
    shop.fault = None
    own = await life.look_again()
    assert own is not None
    assert (own.status.version, own.status.failures, ready(own)) == ("2.0.0", 0, ("True", "Registered"))


async def test_suspending_does_not_wait_for_the_registry(life: Life, shop: Shop, shelf: Shelf) -> None:
    """The bundle is gone and the workflow must stop: it stops."""
    await life.apply()
    shelf.workflows.clear()
    own = await life.apply(suspend=True)
    assert own is not None
    assert (own.status.phase, ready(own)) == (Phase.REJECTED, ("False", "BundleNotFound"))
    assert f"{ONE} stays registered and disabled" in own.status.message
    own = await life.apply(bundle="r.example/none:1")
    assert own is not None
    assert f"{ONE} stays registered and disabled" in own.status.message
    assert await shop.stands() == {ONE: f"disabled | {MINE} | spec.suspend is set"}


async def test_a_deletion_waits_for_the_catalog(life: Life, shop: Shop) -> None:
    """The object stays, says why, and goes when the workflow is disabled; a corrected fault is tried again."""
    await life.apply()
    shop.fault = AWAY
    own = await life.delete()
    assert own is not None
    assert ready(own) == ("Unknown", "DataStorageUnavailable")
    assert "must be disabled in the catalog first" in own.status.message
    shop.fault = None
    assert own.status.next_check_at is not None
    life.now = own.status.next_check_at
    assert await life.settle() is None
    assert (await shop.stands())[ONE].startswith("disabled")


async def test_deleting_takes_earlier_versions_along(life: Life, shop: Shop, shelf: Shelf) -> None:
    """An approver could still name one of them, though none is offered."""
    await life.apply()
    await life.apply(bundle=shelf.put(build.workflow(version="2.0.0")))
    assert await life.delete() is None
    assert {stands.partition(" ")[0] for stands in (await shop.stands()).values()} == {"disabled"}


async def test_deleting_what_was_never_registered(life: Life, shop: Shop) -> None:
    """A rejected object goes at once and touches nothing."""
    await life.apply(bundle="r.example/none:1")
    assert await life.delete() is None
    assert await shop.stands() == {}


async def test_deleting_in_the_middle_of_a_registration(life: Life, shop: Shop) -> None:
    """Registered, and the process died before the status could say so: the deletion finds it by its source."""
    await shop.register(RegisterWorkflow(container_image=build.workflow().container_image, source=MINE))
    await life.apply(bundle="r.example/none:1")
    assert await life.delete() is None
    assert (await shop.stands())[ONE].startswith("disabled")


ACTIONS = st.lists(
    st.sampled_from(
        ["apply a", "apply b", "suspend a", "suspend b", "newer a", "broken a", "delete a", "delete b", "by hand",
         "wipe", "fault", "restart"]
    ),
    max_size=9,
)  # fmt: skip


@example(["apply b", "suspend a", "newer a"])
@given(ACTIONS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
async def test_whatever_happens_the_catalog_says_what_the_objects_say(tmp_path_factory, actions) -> None:  # type: ignore[no-untyped-def]
    """No illegal transition, and in the end: offered if and only if declared, unsuspended and not disabled by a person."""
    first, second = build.workflow(), build.workflow(version="2.0.0")
    shelf = Shelf(first, second)
    shop = Shop(Path(tmp_path_factory.mktemp("catalog")), shelf)
    life = Life(shop)
    declared: dict[str, tuple[str, bool]] = {}
    by_hand: set[str] = set()
    try:
        for action in actions:
            verb, _, name = action.partition(" ")
            if verb in {"apply", "suspend", "newer"}:
                image = (second if verb == "newer" else first).container_image
                held = any(o != name and suspended and of == image for o, (of, suspended) in declared.items())
                if declared.get(name) == (image, True) and verb != "suspend" and not held:
                    by_hand.discard(image)
                declared[name] = (image, verb == "suspend")
                await life.apply(name, bundle=image, suspend=verb == "suspend")
            elif verb == "broken":
                if name in declared:
                    await life.apply(name, bundle="r.example/none:1", suspend=declared[name][1])
                    await life.apply(name, bundle=declared[name][0], suspend=declared[name][1])
            elif verb == "delete" and name in declared:
                del declared[name]
                assert await life.delete(name) is None
            elif action == "by hand":
                for record in (first, second):
                    found = await shop.workflow(record.workflow_id)
                    if found is not None and found.status.value == "active":
                        await shop.by_hand(record.workflow_id, "disabled")
                        by_hand.add(record.container_image)
            elif action == "wipe":
                shop.open()
                by_hand.clear()
            elif action == "fault":
                shop.fault = AWAY
                for other in declared:
                    await life.look_again(other)
                shop.fault = None
            elif action == "restart":
                life.restart()
            for other in sorted(declared):
                await life.look_again(other)
        for record in (first, second):
            claims = [suspended for image, suspended in declared.values() if image == record.container_image]
            found = await shop.workflow(record.workflow_id)
            if claims:
                assert found is not None
                offered = not any(claims) and record.container_image not in by_hand
                assert (found.status.value == "active") is offered, (actions, declared, by_hand, found)
            elif not declared and found is not None:
                assert found.status.value == "disabled" or not found.is_latest_version
    finally:
        shop.shut()


async def test_a_broken_schema_is_told_with_every_problem(life: Life, shelf: Shelf) -> None:
    """The problems arrive in the status, path by path."""

    def refuse(_: str) -> tuple[object, object]:
        problems = (("spec.labels.severity", 'is "low" here, ["high"] in the bundle\'s schema'), ("spec.version", "x"))
        raise InvalidInput("the declaration differs", problems=problems, reason="SpecDiffers")

    shelf.workflow = refuse  # type: ignore[method-assign,assignment]
    own = await life.apply()
    assert own is not None
    assert [(p.path, p.message) for p in own.status.problems][1] == ("spec.version", "x")
    assert ready(own) == ("False", "SpecDiffers")
