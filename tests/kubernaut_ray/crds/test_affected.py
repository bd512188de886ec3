"""What an incident took with it: complete counts, a bounded list, nothing that does not fit an object."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubernaut_ray.crds.affected import MAX_SIGNALS, MAX_WORKLOADS, affected, by_workload
from kubernaut_ray.crds.remediation_request import Member
from tests import build


def member(target: str, resource: str, signals: tuple[str, ...] = (), over: tuple[str, ...] = ()) -> Member:
    return Member(target=target, resource=resource, signals=signals, over=over, first_seen_at=build.NOW)


def test_without_members_there_is_nothing_to_tell() -> None:
    """No section, no field."""
    assert affected(()) is None


def test_members_are_told_by_workload_the_most_hit_first() -> None:
    """Counts, the most frequent signals first, and how much is over."""
    told = affected(
        (
            member("shop/deployment/db", "shop/pod/db-1", ("Down",)),
            member("shop/deployment/web", "shop/pod/web-1", ("NotReady", "Down")),
            member("shop/deployment/web", "shop/pod/web-2", ("NotReady",)),
            member("shop/deployment/web", "shop/pod/web-3", (), ("NotReady",)),
        )
    )
    assert told is not None
    assert str(told) == "4 resources of 2 workloads (1 over)"
    assert [(w.target, w.resources, w.over, w.signals) for w in told.workloads] == [
        ("shop/deployment/web", 3, 1, ("NotReady", "Down")),
        ("shop/deployment/db", 1, 0, ("Down",)),
    ]
    assert told.unlisted == 0


def test_a_single_one_is_told_in_the_singular() -> None:
    """People read it."""
    assert str(affected((member("t", "r", ("S",)),))) == "1 resource of 1 workload"


def test_every_member_is_listed_with_its_workload() -> None:
    """For whoever shows all of them, sorted."""
    groups = by_workload((member("b", "r2"), member("a", "r1"), member("b", "r1")))
    assert [(w.target, [m.resource for m in found]) for w, found in groups] == [("b", ["r1", "r2"]), ("a", ["r1"])]


@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.lists(st.sampled_from([f"S{n}" for n in range(20)]), max_size=15)),
        min_size=1,
        max_size=300,
    )
)
def test_counts_are_complete_and_lists_bounded(given_: list[tuple[int, list[str]]]) -> None:
    """Whatever is folded, the summary fits and every member is counted once."""
    members = [
        member(f"shop/deployment/w{target}", f"shop/pod/{n}", tuple(dict.fromkeys(signals)))
        for n, (target, signals) in enumerate(given_)
    ]
    told = affected(members)
    assert told is not None
    assert told.resources == len(members)
    assert told.workload_count == len({one.target for one in members}) == len(told.workloads) + told.unlisted
    assert len(told.workloads) <= MAX_WORKLOADS
    assert all(len(one.signals) <= MAX_SIGNALS for one in told.workloads)
    assert sum(one.resources for one, _ in by_workload(members)) == told.resources
