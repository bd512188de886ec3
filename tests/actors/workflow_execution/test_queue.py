"""Limits, turns and budgets: never passed, never unfair, never waiting without a reason."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.workflow_execution.decide import decide
from actors.workflow_execution.observe import Observed, Reader
from actors.workflow_execution.queue import Entry, GiveBack, Go, Limits, Standing, Turn, Wait, judge, order
from kubernaut_ray import names
from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.enums import ExecutionFailureReason as Reason
from kubernaut_ray.crds.enums import WorkflowExecutionPhase as Phase
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.kube.resources import WORKFLOW_EXECUTION
from kubernaut_ray.settings import Settings
from tests import build
from tests.build import NOW, later
from tests.shelf import Shelf

SETTINGS = Settings()
NONE = Limits()


def entry(uid: str, namespace: str = "a", *, created: float = 0, **fields: Any) -> Entry:
    at = fields.pop("admitted", None)
    fields = {"queued": at is None} | fields
    return Entry(
        uid, f"we-{uid}", f"{namespace}/deployment/{uid}", later(created), None if at is None else later(at), **fields
    )


def running(uid: str, namespace: str = "a", admitted: float = 0, **fields: Any) -> Entry:
    return entry(uid, namespace, admitted=admitted, started=True, **fields)


def over(uid: str, namespace: str = "a", admitted: float = 0, **fields: Any) -> Entry:
    return running(uid, namespace, admitted, over=True, **fields)


@pytest.mark.parametrize(
    ("others", "limits", "says"),
    [
        pytest.param([running("x", "b")], Limits(running=1), "1 of 1 executions run", id="everywhere"),
        pytest.param([running("x")], Limits(per_namespace=1), "run in namespace a", id="in the namespace"),
        pytest.param([over("x", admitted=-3599)], Limits(budget=1), "1 of 1 executions of the last 60 minutes", id="the budget"),
        pytest.param([replace(running("x"), target="a/deployment/me")], NONE, "the target is we-x's", id="the target"),
        pytest.param([entry("x", created=-1)], Limits(running=1), "place 2 of 2", id="an older one waits too"),
        pytest.param([entry("x", admitted=0)], Limits(running=1), "1 of 1", id="another was admitted and has not begun"),
    ],
)  # fmt: skip
def test_it_waits_and_says_why(others: list[Entry], limits: Limits, says: str) -> None:
    """With its place in the queue."""
    answer = judge(entry("me"), others, limits, NOW)
    assert isinstance(answer, Wait)
    assert says in answer.why
    assert answer.at > NOW


@pytest.mark.parametrize(
    ("others", "limits"),
    [
        pytest.param([running("x")], NONE, id="no limits"),
        pytest.param([running("x"), over("y"), entry("z", created=1)], Limits(running=2), id="a free place, and it is the oldest"),
        pytest.param([running("x", "b")], Limits(per_namespace=1), id="another namespace is full"),
        pytest.param([over("x", admitted=-3600)], Limits(budget=1), id="the window has passed"),
        pytest.param([over("x", harmless=True)], Limits(budget=1), id="what changed nothing costs nothing"),
        pytest.param([over("x", "b")], Limits(budget=1), id="another namespace's budget"),
        pytest.param(
            [entry("x", created=-1, queued=False)], Limits(running=1), id="an older one waits for something else"
        ),
        pytest.param(
            [entry("x", created=-1, deadline=NOW)], Limits(running=1), id="an older one whose time is over"
        ),
        pytest.param([running("x"), entry("y", created=-1)], Limits(per_namespace=1, running=9), id="never: a full namespace"),
    ],
)  # fmt: skip
def test_its_turn(others: list[Entry], limits: Limits) -> None:
    """Whenever nothing stands against it; what is blocked itself blocks nobody."""
    me = entry("me", "b" if "y" in {e.uid for e in others} and limits.per_namespace else "a")
    assert isinstance(judge(me, others, limits, NOW), Turn)


def test_a_spent_budget_is_waited_for_until_it_returns() -> None:
    """To the second: the oldest of those that count leaves the window first."""
    spent = [over("x", admitted=-3000), over("y", admitted=-100)]
    answer = judge(entry("me"), spent, Limits(budget=2), NOW)
    assert isinstance(answer, Wait)
    assert later(600) == answer.at


def test_namespaces_take_turns() -> None:
    """One that floods the queue is served as often as the others; the one that was never served is first."""
    flood = [entry(f"a{i}", "a", created=i) for i in range(4)]
    waiting = [*flood, entry("b0", "b", created=50), entry("b1", "b", created=51), entry("c0", "c", created=60)]
    served = [over("old", "b", admitted=-9), over("older", "c", admitted=-10)]
    assert [e.uid for e in order([*waiting, *served])] == ["a0", "c0", "b0", "a1", "b1", "a2", "a3"]


def test_the_younger_of_two_gives_back() -> None:
    """Both admitted themselves at once; the older one waits until it sees that."""
    older, younger = entry("x", admitted=1), entry("y", created=1, admitted=0)
    limits = Limits(running=1)
    assert isinstance(judge(younger, [older], limits, NOW), GiveBack)
    assert isinstance(judge(older, [younger], limits, NOW), Wait)
    assert isinstance(judge(older, [replace(younger, admitted=None)], limits, NOW), Go)


def test_what_has_begun_never_gives_back() -> None:
    """The older one comes too late then."""
    assert isinstance(judge(entry("x", admitted=1), [running("y", created=1)], Limits(running=1), NOW), GiveBack)


LIMITS = st.builds(
    Limits, running=st.integers(0, 3), per_namespace=st.integers(0, 2), budget=st.integers(0, 4),
    window=st.just(timedelta(seconds=50)),
)  # fmt: skip
WORK = st.lists(st.tuples(st.sampled_from(["a", "b", "c", ""]), st.integers(0, 6)), min_size=1, max_size=12)


class Cluster:
    """Executions whose shards list and write in any order, each with a clock of its own."""

    def __init__(self, work: list[tuple[str, int]], limits: Limits, seed: int) -> None:
        self.limits, self.dice = limits, random.Random(seed)
        self.entries = {
            f"{i:02}": Entry(f"{i:02}", f"we-{i}", f"{ns}/deployment/{t}" if ns else f"node/{t}", later(i % 5))
            for i, (ns, t) in enumerate(work)
        }
        self.seen: dict[str, tuple[Entry, Standing]] = {}
        self.now = NOW
        self.skew = {uid: timedelta(seconds=self.dice.uniform(-3, 3)) for uid in self.entries}

    def clock(self, uid: str) -> datetime:
        return self.now + self.skew[uid]

    def step(self) -> None:
        self.now += timedelta(seconds=self.dice.choice([0, 0, 0.5, 2]))
        uid = self.dice.choice(sorted(self.entries))
        me = self.entries[uid]
        if me.over:
            return
        if me.started:
            if self.dice.random() < 0.4:
                self.entries[uid] = replace(me, over=True)
            return
        # Either it lists and judges now, or it acts on what it saw some time ago, if it has not changed itself since.
        if uid in self.seen and self.dice.random() < 0.7:
            self.act(uid, *self.seen.pop(uid))
        else:
            self.seen[uid] = me, judge(me, tuple(self.entries.values()), self.limits, self.clock(uid))

    def act(self, uid: str, seen: Entry, answer: Standing) -> None:
        assert seen == self.entries[uid]
        match answer:
            case Turn():
                self.entries[uid] = replace(seen, admitted=self.clock(uid))
            case GiveBack():
                self.entries[uid] = replace(seen, admitted=None)
            case Go():
                self.entries[uid] = replace(seen, started=True)
            case Wait():
                self.entries[uid] = replace(seen, queued=True)

    def check(self) -> None:
        busy = [e for e in self.entries.values() if e.started and not e.over]
        assert not self.limits.running or len(busy) <= self.limits.running
        assert len({e.target for e in busy}) == len(busy)
        for namespace in {e.namespace for e in busy}:
            here = [e for e in busy if e.namespace == namespace]
            assert not self.limits.per_namespace or len(here) <= self.limits.per_namespace


@given(WORK, LIMITS, st.integers(0, 2**32))
def test_no_limit_is_ever_passed_and_everybody_gets_there(
    work: list[tuple[str, int]], limits: Limits, seed: int
) -> None:
    """Whatever the shards see, however late they act on it, and though their clocks differ."""
    cluster = Cluster(work, limits, seed)
    for _ in range(6000):
        cluster.step()
        cluster.check()
        if all(e.over for e in cluster.entries.values()):
            break
    else:
        raise AssertionError([e for e in cluster.entries.values() if not e.over])


@given(WORK, st.integers(1, 4), st.integers(1, 60))
def test_a_budget_bounds_what_begins_in_any_window(work: list[tuple[str, int]], budget: int, pace: int) -> None:
    """Served one after the other, as fast as it goes: no window holds more than the budget, and nobody is forgotten."""
    limits = Limits(budget=budget, window=timedelta(seconds=100))
    entries = {
        f"{i:02}": Entry(f"{i:02}", f"we-{i}", f"{ns or 'z'}/deployment/{i}", NOW) for i, (ns, _) in enumerate(work)
    }
    now = NOW
    while any(not e.over for e in entries.values()):
        for uid, me in sorted(entries.items()):
            if not me.over and isinstance(judge(me, entries.values(), limits, now), Turn):
                entries[uid] = replace(me, admitted=now, started=True, over=True)
        now += timedelta(seconds=pace)
        assert now < NOW + timedelta(hours=1)
    for end in entries.values():
        assert end.admitted is not None
        within = [e for e in entries.values() if e.namespace == end.namespace and e.admitted is not None
                  and end.admitted - limits.window < e.admitted <= end.admitted]  # fmt: skip
        assert len(within) <= budget


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=15))
def test_the_order_is_fair(work: list[tuple[str, int]]) -> None:
    """Everybody once; the oldest first within a namespace; and no namespace twice while another that waits has not had a turn."""
    waiting = [entry(f"{i:02}", ns, created=at) for i, (ns, at) in enumerate(work)]
    turns = order(waiting)
    assert sorted(e.uid for e in turns) == [e.uid for e in waiting]
    for namespace in "abc":
        ages = [e.age for e in turns if e.namespace == namespace]
        assert ages == sorted(ages)
    for i, turn in enumerate(turns):
        later_ones = {e.namespace for e in turns[i:]}
        since = [e.namespace for e in turns[:i]]
        if turn.namespace in since:
            last = len(since) - 1 - since[::-1].index(turn.namespace)
            assert later_ones - {turn.namespace} <= set(since[last + 1 :])
    assert turns == order(list(reversed(waiting)))


def pending(name: str = "rr-1", *, namespace: str = "shop", **spec: Any) -> Any:
    made = build.workflow_execution(build.remediation_request(name), Phase.PENDING)
    return made.replace(spec=made.spec.replace(target_resource=f"{namespace}/deployment/{name}", **spec))


def test_an_execution_is_admitted_before_anything_is_created() -> None:
    """Two writes and two looks: the second look comes after the first write."""
    made = pending()
    seen = Observed(made, workflow=build.registered(made))
    first = decide(seen, NOW, SETTINGS)
    assert (first.reason, first.effects, first.wake_at) == ("Admitted", (), NOW)
    assert first.status is not None
    assert first.status.admitted_at == NOW
    admitted = replace(seen, execution=made.replace(status=first.status))
    assert decide(admitted, NOW, SETTINGS).reason == "PipelineRunRequested"
    late = running("x", created=-1)
    crowded = replace(admitted, others=tuple(replace(late, uid=f"u{i}", target=f"b/deployment/{i}") for i in range(20)))
    back = decide(crowded, NOW, SETTINGS)
    assert (back.reason, back.effects) == ("AdmissionGivenBack", ())
    assert back.status is not None
    assert back.status.admitted_at is None


def test_a_turn_that_does_not_come_ends_before_the_deadline() -> None:
    """While there would still be time to say so, and as something that never ran."""
    made = pending(deadline=later(1800))
    full = tuple(running(f"u{i}", "b") for i in range(20))
    seen = Observed(made, workflow=build.registered(made), others=full)
    at = NOW
    while (decision := decide(seen, at, SETTINGS)).reason == "Queued":
        assert decision.wake_at is not None
        at = decision.wake_at
    assert later(1740) == at
    assert decision.status is not None
    details = decision.status.failure_details
    assert details is not None
    assert (details.reason, details.was_execution_failure) == (Reason.RESOURCE_EXHAUSTED, False)
    assert "20 of 20 executions run" in details.message


@pytest.mark.integration
async def test_the_listing_on_an_api_server(kube: KubeClient, namespace: str) -> None:
    """What runs or waits anywhere, what is over in the target's namespace, and nobody's dry run."""
    states: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "rr-me": ("shop", {"phase": "Pending"}, {}),
        "rr-waits": ("b", {"phase": "Pending", "queuedAt": "2026-01-01T00:00:00Z"}, {}),
        "rr-runs": ("b", {"phase": "Running", "pipelineRunRef": {"name": "x"}}, {}),
        "rr-over": ("b", {"phase": "Completed", "lockReleased": True}, {}),
        "rr-spent": ("shop", {"phase": "Completed", "lockReleased": True, "admittedAt": "2026-01-01T00:00:00Z"}, {}),
        "rr-dry": ("shop", {"phase": "Pending"}, {"dry_run": True}),
    }
    for name, (home, status, spec) in states.items():
        made = pending(name, namespace=home, **spec)
        body = made.to_object()
        body["metadata"] = {"name": made.name, "labels": {names.LABEL_SOURCE_NAMESPACE: home}}
        await kube.create(WORKFLOW_EXECUTION, body, namespace)
        await kube.patch(WORKFLOW_EXECUTION, made.name, {"status": status}, namespace, subresource="status")
    for limits, listed in (
        ({"max_running": 0}, {"we-rr-me", "we-rr-spent"}),
        ({"max_running": 0, "budget_per_namespace": 0}, {"we-rr-me", "we-rr-spent"}),
        ({"max_running": 0, "budget_per_namespace": 0, "max_running_per_namespace": 0}, {"we-rr-me"}),
    ):
        some = await Reader(kube, Settings.load(execution=limits), Shelf()).observe(Key(namespace, "we-rr-me"))
        assert some is not None
        assert {e.name for e in some.others} == listed, "no more than these limits need"
    reader = Reader(kube, SETTINGS, Shelf())
    seen = await reader.observe(Key(namespace, "we-rr-me"))
    assert seen is not None
    found = {e.name: e for e in seen.others}
    assert set(found) == {"we-rr-me", "we-rr-waits", "we-rr-runs", "we-rr-spent"}
    assert (found["we-rr-runs"].active, found["we-rr-waits"].waiting, found["we-rr-spent"].over) == (True, True, True)
