"""Exports: whatever goes on meanwhile, what is read is a history that stands on its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.ledger import export as module
from catalog.ledger.bundle import Header
from catalog.ledger.export import Wanted, export
from catalog.ledger.finding import Kind
from catalog.ledger.record import Entry, Item
from catalog.ledger.signing import keyring
from catalog.ledger.verify import verifier, verify
from kubernaut_ray.contracts.ledger import Checkpoint, Retired, Statement
from kubernaut_ray.errors import Permanent
from tests import build
from tests.catalog.ledger.owner import TrailOwner
from tests.catalog.ledger.test_verify import NAMES, trails
from tests.catalog.ledger.trail import Trail, correlation_of


async def read(owner: TrailOwner, wanted: Wanted) -> tuple[Header, list[Item]]:
    header, items = await export(Catalog(InProcess(owner), Lexicon()), wanted)
    return header, [item async for item in items]


def check(header: Header, items: list[Item]) -> list[Kind]:
    history = verifier(header.scope, keyring(header.public_keys), correlation_id=header.correlation_id)
    return [found.kind for found in verify(items, history)]


@settings(max_examples=50)
@given(trails(least=0), st.integers(1, 5))
async def test_what_is_exported_is_sound(trail: Trail, page: int) -> None:
    """Everything, and any correlation, page by page."""
    owner = TrailOwner(trail)
    owner.page = page
    header, items = await read(owner, Wanted())
    assert (header.scope, check(header, items)) == ("store", [])
    assert [one.sequence for one in trail.records] == [i.record.sequence for i in items if isinstance(i, Entry)]
    for name in NAMES:
        header, items = await read(owner, Wanted(name))
        assert ("correlation", name, []) == (header.scope, header.correlation_id, check(header, items))
        mine = [one.sequence for one in trail.records if correlation_of(one) == name]
        assert mine == [i.record.sequence for i in items if isinstance(i, Entry)]
        assert all((i.proof is not None) == (i.record.sequence <= trail.sealed) for i in items if isinstance(i, Entry))
    header, items = await read(owner, Wanted(event_type="gateway.signal.received"))
    assert (header.scope, check(header, items)) == ("selection", [])


@settings(max_examples=50)
@given(trails(least=3, retiring=False), st.data())
async def test_written_sealed_and_retired_meanwhile(trail: Trail, data: st.DataObject) -> None:
    """A trail is exported while it lives: no alarm, and nothing in it that came later."""
    owner, last = TrailOwner(trail), trail.last
    owner.page = data.draw(st.integers(1, 3))
    deeds = data.draw(st.lists(st.sampled_from(["write", "seal", "retire", "nothing"]), max_size=8))

    def during() -> None:
        match deeds.pop() if deeds else "nothing":
            case "write":
                trail.write("rr-a")
            case "seal":
                trail.seal()
            case "retire":
                first = trail.retired[-1].last_sequence + 1 if trail.retired else 1
                end = data.draw(st.integers(first, max(first, trail.last)))
                if end <= trail.last:
                    trail.seal()
                    trail.retire(first, end)

    owner.during = during
    wanted = data.draw(st.sampled_from([Wanted(), Wanted("rr-a"), Wanted(until=build.NOW + timedelta(days=1))]))
    header, items = await read(owner, wanted)
    assert check(header, items) == []
    assert all(item.record.sequence <= last for item in items if isinstance(item, Entry))


async def test_retired_together_with_what_was_written_meanwhile() -> None:
    """The chain that the statement tells of is shorter than what was retired in the end, which is no addition."""
    trail = Trail()
    for _ in range(3):
        trail.write("rr-a")
    trail.seal()
    owner, deeds = TrailOwner(trail), [1]

    def during() -> None:
        if deeds:
            deeds.pop()
            trail.write("rr-a")
            trail.seal()
            trail.retire(1, 4)

    owner.during = during
    header, items = await read(owner, Wanted("rr-a"))
    assert [type(item) for item in items] == [Checkpoint, Retired, Statement]
    assert check(header, items) == []
    longer = trail.retire(5, 5).model_copy(
        update={"chains": trail.retired[0].chains, "first_sequence": 1, "last_sequence": 3}
    )
    assert check(header, [items[0], trail.key.sign(longer), items[2]]) == [Kind.ADDED]


async def test_proofs_of_a_chain_spread_far_and_wide() -> None:
    """A correlation's checkpoints are found without reading all of them."""
    trail = Trail()
    for number in range(600):
        trail.write("rr-a" if number in {3, 4, 250, 599} else "rr-b")
        trail.seal()
    trail.write("rr-a")
    owner = TrailOwner(trail)
    header, items = await read(owner, Wanted("rr-a"))
    assert check(header, items) == []
    assert [item.number for item in items if isinstance(item, Checkpoint)] == [600, 4, 5, 251]
    assert owner.calls.count("audit_checkpoints") < 80


async def test_a_store_of_many_checkpoints_is_read_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones many at a time, large ones few."""
    trail = Trail()
    for number in range(400):
        trail.write("rr-a")
        if number < 300 or number % 50 == 49:
            trail.seal()
    owner = TrailOwner(trail)
    monkeypatch.setattr(module, "LEAVES_AT_ONCE", 100)
    header, items = await read(owner, Wanted())
    assert check(header, items) == []
    assert owner.calls.count("audit_checkpoints") < 12


async def test_filters() -> None:
    """By instant and type; what is left out is no finding."""
    trail = Trail()
    for number in range(6):
        trail.write(NAMES[number % 2], now=build.NOW + timedelta(minutes=number), event_type=f"a.b.c{number % 3}")
    trail.seal()
    owner = TrailOwner(trail)

    async def found(**filters: Any) -> list[int]:
        header, items = await read(owner, Wanted(**filters))
        assert (header.scope, check(header, items)) == ("selection", [])
        assert isinstance(items[-1], Statement)
        return [item.record.sequence for item in items if isinstance(item, Entry)]

    assert await found(event_type="a.b.c0") == [1, 4]
    assert await found(since=build.NOW + timedelta(minutes=4)) == [5, 6]
    assert await found(until=build.NOW + timedelta(minutes=2)) == [1, 2]
    assert await found(correlation_id="rr-b", since=build.NOW + timedelta(minutes=2)) == [4, 6]


async def test_a_correlation_that_is_all_retired() -> None:
    """Nothing is left, and the retirement says why."""
    trail = Trail()
    for _ in range(3):
        trail.write("rr-a")
    trail.seal()
    trail.retire(1, 3)
    header, items = await read(TrailOwner(trail), Wanted("rr-a"))
    assert check(header, items) == []
    assert [Retired, Checkpoint, Statement] == [type(item) for item in items]


async def test_a_checkpoint_that_is_gone_ends_in_findings_not_in_failure() -> None:
    """A tampered store is still exported, and verifying tells."""
    trail = Trail()
    for _ in range(4):
        trail.write("rr-a")
        trail.seal()
    said = TrailOwner(trail)
    statement, chain = trail.statement(), trail.statement("correlation", "rr-a")
    said.audit_statement = lambda asked: (chain if asked["correlation_id"] else statement).to_json()  # type: ignore[method-assign]
    del trail.checkpoints[1]
    assert Kind.CHECKPOINT_REMOVED in check(*await read(said, Wanted()))
    assert Kind.UNPROVEN in check(*await read(said, Wanted("rr-a")))
    trail.checkpoints.clear()
    assert Kind.CHECKPOINT_REMOVED in check(*await read(said, Wanted()))
    assert Kind.CHECKPOINT_REMOVED in check(*await read(said, Wanted("rr-a")))


async def test_leaves_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them there are no proofs, and that is said of each record."""
    trail = Trail()
    for _ in range(3):
        trail.write("rr-a")
    trail.seal()
    trail.checkpoints[0] = trail.checkpoints[0].model_copy(update={"leaves": "AAAA"})
    assert check(*await read(TrailOwner(trail), Wanted("rr-a"))) == [Kind.UNPROVEN] * 3
    assert check(*await read(TrailOwner(trail), Wanted())) == [Kind.CHECKPOINT_MISFIT]


async def test_a_record_that_cannot_be_read() -> None:
    """What is no JSON at all is said to be that."""

    class Broken(TrailOwner):
        def audit_records(self, asked: dict[str, Any]) -> bytes:
            return b'{"records":[{"sequence":1,"event":{]}],"last":1,"more":false}'

    trail = Trail()
    trail.write("rr-a")
    with pytest.raises(Permanent, match="cannot be read"):
        await read(Broken(trail), Wanted())
