"""The reconciler: nothing that is missing goes unreported, nothing that is there is called missing."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._reconcile import Claim, Thing, Uncounted, Verdict, claims, reconcile, uncounted

IDS = st.sampled_from([f"id-{n}" for n in range(8)])
HOLDERS = st.sampled_from(["", "rr-1", "rr-2", "rr-3"])
TIMES = st.one_of(st.none(), st.floats(0, 1000))
CLAIMS = st.lists(st.builds(Claim, IDS, HOLDERS), max_size=30)
THINGS = st.lists(st.builds(Thing, IDS, HOLDERS, TIMES, TIMES, st.booleans()), max_size=30)


@given(CLAIMS, THINGS, IDS, HOLDERS)
def test_an_acknowledged_id_that_is_absent_is_always_lost(
    claimed: list[Claim], things: list[Thing], absent: str, holder: str
) -> None:
    """Whatever else was claimed and exists."""
    claim = Claim(absent, holder)
    verdict = reconcile([*claimed, claim], [thing for thing in things if thing.id != absent])
    assert claim in verdict.lost


@given(CLAIMS)
def test_what_exists_once_as_claimed_is_neither_lost_nor_doubled(claimed: list[Claim]) -> None:
    """One thing for each claim and no more, open for ever."""
    first = {claim.id: Thing(claim.id, claim.holder, 1.0) for claim in reversed(claimed)}
    kept = [claim for claim in claimed if claim.holder in {"", first[claim.id].holder}]
    assert reconcile(kept, first.values()) == Verdict()


@given(CLAIMS, THINGS)
def test_lost_are_claims_and_each_claim_is_judged_alone(claimed: list[Claim], things: list[Thing]) -> None:
    """The verdict on all is the verdicts on each, in order."""
    together = reconcile(claimed, things).lost
    assert together == tuple(lost for claim in claimed for lost in reconcile([claim], things).lost)


@given(THINGS, st.randoms())
def test_the_order_of_things_does_not_matter(things: list[Thing], dice: object) -> None:
    """Servers list in any order."""
    shuffled = list(things)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reconcile([], things) == reconcile([], shuffled)


@given(IDS, st.floats(0, 1000), st.floats(0, 1000))
def test_two_open_things_of_one_id_are_doubled(one: str, first: float, second: float) -> None:
    """Whenever they were created."""
    assert reconcile([], [Thing(one, "a", first), Thing(one, "b", second)]).doubled == (one,)


@pytest.mark.parametrize(
    ("why", "things", "doubled", "twice"),
    [
        ("one ended before the next was created", [Thing("x", "a", 1, 5.2), Thing("x", "b", 7)], False, False),
        ("within one second, which whole seconds cannot order", [Thing("x", "a", 1, 5.2), Thing("x", "b", 5)], False, False),
        ("the next was created before the first ended", [Thing("x", "a", 1, 5.2), Thing("x", "b", 4)], True, False),
        ("a short one within a long one", [Thing("x", "a", 1, 90), Thing("x", "b", 2, 3), Thing("x", "c", 80)], True, False),
        ("nobody knows when they were", [Thing("x"), Thing("x")], True, False),
        ("only one, of unknown age", [Thing("x")], False, False),
        ("different ids", [Thing("x", "a", 1), Thing("y", "b", 1)], False, False),
        ("open, and folded into another", [Thing("x", "a", 1), Thing("x", "b", 2, member=True)], False, True),
        ("folded after its own ended", [Thing("x", "a", 1, 9.5), Thing("x", "b", 3, member=True)], False, False),
        ("folded, which was acknowledged after its own ended", [Thing("x", "a", 1, 9.9), Thing("x", "b", 3, member=True)], False, False),
        ("folded into two that are open", [Thing("x", "b", 2, member=True), Thing("x", "c", 2, member=True)], False, True),
        ("folded into one after the other ended", [Thing("x", "b", 2, 11, member=True), Thing("x", "c", 2, member=True)], False, False),
        ("folded into another that nobody was told of", [Thing("x", "a", 1), Thing("x", "d", 2, member=True)], False, False),
    ],
)  # fmt: skip
def test_what_is_there_twice(why: str, things: list[Thing], doubled: bool, twice: bool) -> None:
    """Overlap in time is what counts; b was first acknowledged as a holder in second 10, and c in 12."""
    told = [Claim("x", "b", 10), Claim("x", "b", 15), Claim("x", "c", 12)]
    verdict = reconcile(told, things)
    assert (verdict.doubled == ("x",), verdict.twice == ("x",)) == (doubled, twice), why


@pytest.mark.parametrize(
    ("claim", "lost"),
    [
        (Claim("x"), False),
        (Claim("x", "rr-1"), False),
        (Claim("x", "rr-storm"), False),
        (Claim("x", "rr-2"), True),
        (Claim("y", "rr-1"), True),
        (Claim("y"), True),
    ],
)
def test_a_claim_that_names_its_holder_must_be_in_it(claim: Claim, lost: bool) -> None:
    """Another object of the same id does not make up for the one that was promised."""
    things = [Thing("x", "rr-1", 1), Thing("x", "rr-storm", 5, member=True)]
    assert bool(reconcile([claim], things).lost) == lost


def _outcome(status: str, name: str = "") -> dict[str, str]:
    return {"status": status, "reason": "r", **({"remediationRequestName": name} if name else {})}


@pytest.mark.parametrize(
    ("why", "status", "answer", "claimed"),
    [
        ("outcomes that were taken", 207, {"results": [_outcome("created", "rr-1"), _outcome("accepted", "rr-9")]},
         [Claim("a", "rr-1"), Claim("b", "rr-9")]),
        ("one was refused", 207, {"results": [_outcome("failed"), _outcome("duplicate", "rr-2")]}, [Claim("b", "rr-2")]),
        ("one is silenced, one not managed", 207, {"results": [_outcome("silenced"), _outcome("rejected")]}, []),
        ("it does not say what became of each", 200, {"results": [_outcome("created")]}, [Claim("a"), Claim("b")]),
        ("its list is of something else", 200, {"results": ["ok", "ok"]}, [Claim("a"), Claim("b")]),
        ("a word of its own", 200, {"status": "success"}, [Claim("a"), Claim("b")]),
        ("no JSON", 204, "", [Claim("a"), Claim("b")]),
        ("it asks to come again, though it took one", 503, {"results": [_outcome("created", "rr-1"), _outcome("failed")]}, []),
        ("too many requests", 429, {}, []),
        ("no answer", 0, "", []),
    ],
)  # fmt: skip
def test_what_an_answer_claims(why: str, status: int, answer: object, claimed: list[Claim]) -> None:
    """Only a 2xx claims anything, and no more than it says."""
    text = answer if isinstance(answer, str) else orjson.dumps(answer).decode()
    assert claims(["a", "b"], status, text) == claimed, why


def test_an_answer_about_one_alert_is_its_outcome() -> None:
    """A request of one alert is answered without a list."""
    assert claims(["a"], 201, orjson.dumps(_outcome("created", "rr-1")).decode()) == [Claim("a", "rr-1")]
    assert claims(["a"], 200, orjson.dumps(_outcome("rejected")).decode()) == []


@pytest.mark.parametrize(
    ("told", "counts", "missing"),
    [
        (["rr-1"] * 5, {"rr-1": 5}, 0),
        (["rr-1"] * 5, {"rr-1": 3}, 2),
        (["rr-1"] * 5 + ["rr-2"], {"rr-1": 9, "rr-2": 0}, 1),
        (["", "rr-gone"], {}, 0),
    ],
)
def test_missing_counts_are_summed_by_holder(told: list[str], counts: dict[str, int], missing: int) -> None:
    """One that was counted too often does not hide another that was not; what is gone is lost, not uncounted."""
    assert uncounted([Claim("x", holder) for holder in told], counts) == Uncounted(missing, missing)


@pytest.mark.parametrize(
    ("counted", "crashes", "expected"),
    [
        (4, [(1.5, 2.5)], Uncounted(0, 0)),
        (3, [(1.5, 2.5)], Uncounted(1, 0)),
        (2, [(1.5, 2.5)], Uncounted(2, 1)),
        (0, [(0, 2.5), (2, 9)], Uncounted(4, 0)),
        (3, [], Uncounted(1, 1)),
    ],
)
def test_a_crash_explains_only_what_was_in_memory(
    counted: int, crashes: list[tuple[float, float]], expected: Uncounted
) -> None:
    """Four were acknowledged, in the seconds 1 to 4."""
    told = [Claim("x", "rr-1", at) for at in (1.0, 2.0, 3.0, 4.0)]
    assert uncounted(told, {"rr-1": counted}, crashes) == expected
