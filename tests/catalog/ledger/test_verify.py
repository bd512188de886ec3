"""The verifier: whatever is done to a history is found and named, and nothing is found where nothing was done."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from catalog.ledger.canonical import canonical
from catalog.ledger.finding import Finding, Kind
from catalog.ledger.order import WINDOW
from catalog.ledger.record import Entry, Item, Record, event_text
from catalog.ledger.signing import SigningKey
from catalog.ledger.verify import verifier, verify
from kubernaut_ray.contracts.ledger import ChainHead, Checkpoint, Retired, Statement
from tests.catalog.ledger.trail import ANOTHER_KEY, KEY, KEYS, Trail, correlation_of, entries, record, rehashed

NAMES = ("rr-a", "rr-b", "rr-c", "rr-d")


def check(items: Sequence[Item], keys: dict[str, bytes] = KEYS) -> list[Finding]:
    """Verify a history of the kind that its statement says."""
    statement = next((item for item in items if isinstance(item, Statement)), None)
    scope, name = (statement.scope, statement.correlation_id) if statement else ("store", "")
    return list(verify(items, verifier(scope, keys, correlation_id=name)))


@st.composite
def trails(draw: st.DrawFn, *, least: int = 1, retiring: bool = True) -> Trail:
    """Trails with several chains, seals wherever, more than one key over time, a tail that is sealed or not."""
    trail = Trail()
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=least, max_size=16)):
        trail.write(name)
        if draw(st.integers(0, 4)) == 0:
            trail.seal()
        if draw(st.integers(0, 9)) == 0:
            trail.key = ANOTHER_KEY
    if retiring and trail.last and draw(st.booleans()):
        cuts = sorted(draw(st.sets(st.integers(0, trail.last), min_size=2, max_size=5)))
        trail.seal()  # What is old enough to be retired was sealed long ago.
        gone = [(a + 1, b) for a, b in itertools.pairwise(cuts)]
        for first, last in draw(st.lists(st.sampled_from(gone), min_size=1, unique=True)):
            trail.retire(first, last)
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
            trail.write(name)
    return trail


def tampered(one: Record, **fields: Any) -> Record:
    return msgspec.structs.replace(one, **fields)


def edited(one: Record, **fields: Any) -> Record:
    """The record with other things in its event."""
    return tampered(one, event=event_text(canonical(orjson.loads(bytes(one.event)) | fields)))


def put(items: Sequence[Item], index: int, one: Record | None) -> list[Item]:
    """The history with another record at a place, or with none."""
    entry = items[index]
    assert isinstance(entry, Entry)
    middle = [] if one is None else [Entry(one, entry.proof)]
    return [*items[:index], *middle, *items[index + 1 :]]


def names(findings: Sequence[Finding], one: Record) -> bool:
    """Whether a finding tells of this record: by its sequence, or by its place in its chain."""
    place = (one.position, correlation_of(one))
    text = f"record {one.sequence} "
    return any(
        f.sequence == one.sequence or (f.position, f.correlation_id) == place or text in f"{f.message} "
        for f in findings
    )


@given(trails(least=0), st.data())
def test_an_untouched_history_never_alarms(trail: Trail, data: st.DataObject) -> None:
    """Whole store, any correlation, any selection; retired here and there, sealed or not, signed by more than one key."""
    assert check(trail.store()) == []
    for name in NAMES:
        assert check(trail.correlation(name)) == []
    chosen = data.draw(st.sets(st.integers(1, max(1, trail.last))))
    assert check(trail.selection(sorted(chosen))) == []


@given(trails(least=2, retiring=False), st.data())
def test_checkpoints_without_leaves_do_as_well(trail: Trail, data: st.DataObject) -> None:
    """Their roots are computed from the records."""
    assert check(trail.store(leaves=False)) == []


@given(trails(least=2, retiring=False), st.data())
def test_retired_while_it_is_read(trail: Trail, data: st.DataObject) -> None:
    """An archive may go while its records are read: some were seen, some are gone, and all is well."""
    trail.seal()
    whole = trail.store()
    first = data.draw(st.integers(1, trail.last))
    last = data.draw(st.integers(first, trail.last))
    seen = data.draw(st.integers(first - 1, last))
    retired = trail.retire(first, last)
    items: list[Item] = []
    for item in whole:
        if isinstance(item, Entry) and seen < item.record.sequence <= last:
            continue
        if isinstance(item, Entry) and item.record.sequence > last and retired not in items:
            items.append(retired)
        items.append(item)
    if retired not in items:
        items.insert(-1, retired)
    assert check(items) == []


def change_of(data: st.DataObject, one: Record) -> Record:
    """One field of a record or of its event, changed in any way."""
    other_hash = st.text("0123456789abcdef", min_size=64, max_size=64)
    field, changed = data.draw(
        st.one_of(
            st.tuples(st.just("sequence"), st.integers(1, 60) | st.just(10**12)),
            st.tuples(st.just("position"), st.integers(1, 30) | st.just(10**12)),
            st.tuples(st.just("previous"), other_hash),
            st.tuples(st.just("hash"), other_hash),
            st.tuples(st.just("stored_us"), st.integers()),
            st.tuples(st.just("correlation_id"), st.sampled_from(NAMES)),
            st.tuples(st.just("event_id"), st.uuids().map(str)),
            st.tuples(st.just("event_data"), st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False))),
            st.tuples(st.just("new_field"), st.none() | st.text()),
        )
    )  # fmt: skip
    if field in {"sequence", "position", "previous", "hash", "stored_us"}:
        made = tampered(one, **{field: changed})
    else:
        made = edited(one, **{field: changed})
    assume(made != one and bytes(made.event) + repr(made).encode() != bytes(one.event) + repr(one).encode())
    return made


def histories(trail: Trail) -> st.SearchStrategy[list[Item]]:
    """The same trail in all three ways it can be read; those with records."""
    every = [trail.store(), trail.selection(range(1, trail.last + 1)), *(trail.correlation(name) for name in NAMES)]
    if not trail.retired:
        every.append(trail.store(leaves=False))
    return st.sampled_from([items for items in every if any(True for _ in entries(items))])


@given(trails(), st.data())
def test_an_edited_record_is_named(trail: Trail, data: st.DataObject) -> None:
    """Any field of any record, in any kind of history."""
    assume(trail.records)
    items = data.draw(histories(trail))
    index, entry = data.draw(st.sampled_from(list(entries(items))))
    made = change_of(data, entry.record)
    findings = check(put(items, index, made))
    assert [f.kind for f in findings].count(Kind.EDITED) == 1
    found = next(f for f in findings if f.kind is Kind.EDITED)
    assert found.event_id
    assert found.event_id in bytes(made.event).decode()
    if made.sequence == entry.record.sequence:
        assert found.sequence == made.sequence


@given(trails(retiring=False), st.data())
def test_an_edited_event_is_all_that_is_found(trail: Trail, data: st.DataObject) -> None:
    """What hangs on it is not accused: one deed, one finding, even when the records around it are fine or doubtful."""
    items = data.draw(histories(trail))
    index, entry = data.draw(st.sampled_from(list(entries(items))))
    findings = check(put(items, index, edited(entry.record, event_action="nothing")))
    assert [(Kind.EDITED, entry.record.sequence)] == [(f.kind, f.sequence) for f in findings]
    assert all(word in findings[0].message for word in ("gateway.signal.received", f"{entry.record.sequence}"))


@given(trails(retiring=False), st.data())
def test_a_rewritten_record_is_named(trail: Trail, data: st.DataObject) -> None:
    """Edited and hashed anew: named by its checkpoint's leaf or its proof, or because the next one hangs on another."""
    items = data.draw(st.sampled_from([trail.store(), trail.selection(range(1, trail.last + 1))]))
    index, entry = data.draw(st.sampled_from(list(entries(items))))
    one = entry.record
    assume(one.sequence <= trail.sealed or trail.heads[correlation_of(one)].sequence != one.sequence)
    made = rehashed(edited(one, event_outcome="failure"))
    findings = check(put(items, index, made))
    assert [one.sequence] == [f.sequence for f in findings]
    assert {f.kind for f in findings} <= {Kind.REWRITTEN, Kind.UNPROVEN}


def rewritten_chain(items: Sequence[Item], index: int) -> list[Item]:
    """Edit an event, hash it anew, and every record after it in its chain."""
    entry = items[index]
    assert isinstance(entry, Entry)
    name, made = correlation_of(entry.record), rehashed(edited(entry.record, event_outcome="failure"))
    bent = put(items, index, made)
    for at, later in entries(bent):
        if at > index and correlation_of(later.record) == name:
            made = rehashed(tampered(later.record, previous=made.hash))
            bent = put(bent, at, made)
    return bent


@given(trails(retiring=False), st.data())
def test_a_rewritten_chain_does_not_get_past_a_checkpoint(trail: Trail, data: st.DataObject) -> None:
    """The first record that was changed is named; those that had to follow are one finding more."""
    items = data.draw(st.sampled_from([trail.store(), trail.selection(range(1, trail.last + 1))]))
    index, entry = data.draw(st.sampled_from(list(entries(items))))
    assume(entry.record.sequence <= trail.sealed)
    findings = check(rewritten_chain(items, index))
    assert findings[0].sequence == entry.record.sequence
    assert findings[0].kind in {Kind.REWRITTEN, Kind.UNPROVEN}
    assert [f.kind for f in findings[1:]] in ([], [Kind.RECHAINED])


@given(trails(retiring=False), st.data())
def test_a_rewritten_chain_without_leaves_is_told_by_its_checkpoint(trail: Trail, data: st.DataObject) -> None:
    """Without leaves the root still says that the run of records is not the one that was sealed."""
    items = trail.store(leaves=False)
    index, entry = data.draw(st.sampled_from(list(entries(items))))
    assume(entry.record.sequence <= trail.sealed)
    findings = check(rewritten_chain(items, index))
    assert findings
    assert {Kind.CHECKPOINT_MISFIT} == {f.kind for f in findings}


@given(trails(), st.data())
def test_the_end_of_a_chain_cannot_be_rewritten(trail: Trail, data: st.DataObject) -> None:
    """In the bundle of a correlation the statement knows the last hash, sealed or not."""
    name = data.draw(st.sampled_from(NAMES))
    items = trail.correlation(name)
    assume(any(True for _ in entries(items)))
    index, entry = data.draw(st.sampled_from(list(entries(items))))
    findings = check(rewritten_chain(items, index))
    assert findings
    assert entry.record.sequence > trail.sealed or findings[0].sequence == entry.record.sequence


@given(trails(), st.data())
def test_a_removed_record_is_named(trail: Trail, data: st.DataObject) -> None:
    """By its sequence in a store, by its position in a chain; and nothing else is accused."""
    assume(trail.records)
    every = [trail.store(), *(trail.correlation(name) for name in NAMES)]
    items = data.draw(st.sampled_from([items for items in every if list(entries(items))]))
    index, entry = data.draw(st.sampled_from(list(entries(items))))
    one = entry.record
    scope = items[-1].scope  # type: ignore[union-attr]
    # Before a gap that a retirement made, a correlation alone does not show how far the chain went.
    assume(scope == "store" or not trail.retired)
    findings = check(put(items, index, None))
    assert names(findings, one)
    assert {Kind.REMOVED} == {f.kind for f in findings}
    assert len(findings) == 1


@given(trails(least=2), st.data())
def test_a_cut_off_end_is_noticed(trail: Trail, data: st.DataObject) -> None:
    """Everything after some record taken away: the statement knows how far it went."""
    assume(trail.records)
    items = trail.store()
    index, _ = data.draw(st.sampled_from(list(entries(items))))
    kept = [item for item in items[:index] if not isinstance(item, Statement)]
    findings = check([*kept, items[-1]])
    assert {f.kind for f in findings} <= {Kind.REMOVED, Kind.CHECKPOINT_REMOVED}
    assert Kind.REMOVED in {f.kind for f in findings}
    assume(not trail.retired)  # Before a cut, a chain alone does not show how far it went.
    name = correlation_of(trail.records[-1])
    chain = trail.correlation(name)
    last = max(at for at, _ in entries(chain))
    assert [f.kind for f in check(put(chain, last, None))] == [Kind.REMOVED]


@given(trails(least=2), st.data())
def test_exchanged_records_are_named(trail: Trail, data: st.DataObject) -> None:
    """Two records that stand in each other's place: both are named, and nobody else."""
    assume(trail.records)
    items = data.draw(histories(trail))
    at = [index for index, _ in entries(items)]
    assume(len(at) > 1)
    a, b = sorted(data.draw(st.sets(st.sampled_from(at), min_size=2, max_size=2)))
    bent = list(items)
    bent[a], bent[b] = bent[b], bent[a]
    findings = check(bent)
    one, other = items[a], items[b]
    assert isinstance(one, Entry)
    assert isinstance(other, Entry)
    assert names(findings, one.record) or names(findings, other.record)
    assert Kind.REORDERED in {f.kind for f in findings}
    scope = items[-1].scope  # type: ignore[union-attr]
    if scope == "store" and not trail.retired and not trail.checkpoints:
        assert {f.sequence for f in findings} <= {one.record.sequence, other.record.sequence}


@given(trails(), st.data())
def test_a_doubled_record_is_named(trail: Trail, data: st.DataObject) -> None:
    """The same record a second time, wherever."""
    assume(trail.records)
    items = data.draw(histories(trail))
    at = [index for index, _ in entries(items)]
    index, behind = data.draw(st.sampled_from(at)), data.draw(st.sampled_from(at))
    assume(behind >= index)
    entry = items[index]
    assert isinstance(entry, Entry)
    findings = check([*items[: behind + 1], entry, *items[behind + 1 :]])
    assert [entry.record.sequence] == [f.sequence for f in findings]
    assert {f.kind for f in findings} <= {Kind.DUPLICATED, Kind.REORDERED}


@given(trails(), st.data())
def test_what_came_after_the_statement_is_noticed(trail: Trail, data: st.DataObject) -> None:
    """A record that hangs on its chain as it should, and that nobody stored."""
    statement, parts = trail.statement(), {name: trail.statement("correlation", name) for name in NAMES}
    forged = trail.write(data.draw(st.sampled_from(NAMES)), event_data={"forged": True})
    name = correlation_of(forged)
    for items, said in ((trail.store(), statement), (trail.correlation(name), parts[name])):
        findings = check([*items[:-1], said])
        assert [f.kind for f in findings] == [Kind.ADDED]
        assert findings[0].sequence == forged.sequence


@given(trails(least=4, retiring=False), st.data())
def test_tampered_checkpoints_are_named(trail: Trail, data: st.DataObject) -> None:
    """Removed, edited, signed by somebody else, or exchanged."""
    trail.seal()
    items = trail.store()
    at = [index for index, item in enumerate(items) if isinstance(item, Checkpoint)]
    index = data.draw(st.sampled_from(at))
    one = items[index]
    assert isinstance(one, Checkpoint)
    stranger = SigningKey.generate()
    deeds: dict[str, tuple[list[Item], set[Kind]]] = {
        "removed": ([*items[:index], *items[index + 1 :]], {Kind.CHECKPOINT_REMOVED}),
        "doubled": ([*items[:index], one, *items[index:]], {Kind.CHECKPOINT_REORDERED}),
        "forged": (_swap(items, index, stranger.sign(one)), {Kind.CHECKPOINT_FORGED}),
        "backdated": (_swap(items, index, one.model_copy(update={"created_us": 1})), {Kind.CHECKPOINT_FORGED}),
        "another root": (_swap(items, index, one.model_copy(update={"root": "ab" * 32})), {Kind.CHECKPOINT_FORGED}),
        "another leaf": (
            _swap(items, index, one.model_copy(update={"leaves": "A" * 8 + one.leaves[8:]})),
            {Kind.CHECKPOINT_MISFIT},
        ),
        "no leaf left": (
            _swap(items, index, one.model_copy(update={"leaves": one.leaves[:4]})),
            {Kind.CHECKPOINT_MISFIT},
        ),
    }
    for deed, (bent, kinds) in deeds.items():
        findings = check(bent)
        assert kinds == {f.kind for f in findings}, deed
        assert one.number in {f.checkpoint for f in findings}, deed


def _swap(items: Sequence[Item], index: int, item: Item) -> list[Item]:
    return [*items[:index], item, *items[index + 1 :]]


def test_who_holds_the_key_still_cannot_change_the_past() -> None:
    """A checkpoint replaced by another, well signed: the one after it remembers the old one."""
    trail = Trail()
    for _ in range(3):
        trail.write("rr-a")
        trail.seal()
    items = trail.store()
    second = trail.checkpoints[1]
    findings = check(_swap(items, items.index(second), KEY.sign(second.model_copy(update={"created_us": 7}))))
    assert [(f.kind, f.checkpoint) for f in findings] == [(Kind.CHECKPOINT_FORGED, 3)]
    assert "remembers another checkpoint 2" in findings[0].message
    gap = KEY.sign(trail.checkpoints[2].model_copy(update={"first_sequence": 2, "root": "ab" * 32, "leaves": ""}))
    assert Kind.CHECKPOINT_GAP in {f.kind for f in check(_swap(items, items.index(trail.checkpoints[2]), gap))}


@given(trails(least=4), st.data())
def test_tampered_retirements_are_noticed(trail: Trail, data: st.DataObject) -> None:
    """Taken away, it explains nothing; widened, moved or invented, its signature does not fit; a wrong cut shows."""
    assume(trail.retired)
    items = trail.store()
    one = data.draw(st.sampled_from(trail.retired))
    index = items.index(one)
    without = check([*items[:index], *items[index + 1 :]])
    assert Kind.REMOVED in {f.kind for f in without}
    assert any(f.sequence == one.first_sequence or str(one.first_sequence) in f.message for f in without)
    wider = one.model_copy(update={"last_sequence": one.last_sequence + 1})
    found = check(_swap(items, index, wider))
    assert Kind.RETIREMENT_FORGED in {f.kind for f in found}
    assert one.archive in found[0].message
    fewer = KEY.sign(one.model_copy(update={"chains": one.chains[1:]}))
    assert check(_swap(items, index, fewer))


def test_a_removed_record_beside_a_retirement() -> None:
    """What was deleted on top of what was retired is no part of it."""
    trail = Trail()
    for number in range(12):
        trail.write(NAMES[number % 2])
    trail.seal()
    trail.retire(3, 6)
    items = trail.store()
    index = next(at for at, entry in entries(items) if entry.record.sequence == 7)
    findings = check(put(items, index, None))
    assert [(f.kind, f.sequence) for f in findings] == [(Kind.REMOVED, 7)]


@pytest.mark.parametrize("leaves", [True, False])
def test_a_checkpoint_that_lost_records_needs_its_leaves(leaves: bool) -> None:
    """Half retired, a checkpoint vouches for the other half by its leaves; without them it cannot, and that is said."""
    trail = Trail()
    for _ in range(8):
        trail.write("rr-a")
    trail.seal()
    trail.retire(1, 5)
    findings = check(trail.store(leaves=leaves))
    assert ([] if leaves else [Kind.CHECKPOINT_MISFIT]) == [f.kind for f in findings]


def test_a_statement_about_something_else() -> None:
    """Another kind of history, another correlation, another's signature, an edited number."""
    trail = Trail()
    for name in NAMES:
        trail.write(name)
    trail.seal()
    store, chain = trail.store(), trail.correlation("rr-a")
    cases: list[tuple[str, list[Item], Statement, Kind]] = [
        ("store", store, trail.statement("selection"), Kind.STATEMENT_MISFIT),
        ("store", store, SigningKey.generate().sign(trail.statement()), Kind.STATEMENT_FORGED),
        ("store", store[:-2], trail.statement().model_copy(update={"last_sequence": 3}), Kind.STATEMENT_FORGED),
        ("correlation", chain, trail.statement("correlation", "rr-b"), Kind.STATEMENT_MISFIT),
    ]
    for scope, items, statement, kind in cases:
        findings = list(verify([*items[:-1], statement], verifier(scope, KEYS, correlation_id="rr-a")))
        assert kind in {f.kind for f in findings}
    with pytest.raises(ValueError, match="no scope"):
        verifier("everything", KEYS)


@given(trails(retiring=False), st.data())
def test_proofs_cannot_be_bent_or_dropped(trail: Trail, data: st.DataObject) -> None:
    """A sealed record without its proof is not taken at its word, nor is one with another's."""
    trail.seal()
    items = data.draw(
        st.sampled_from([trail.correlation(correlation_of(trail.records[0])), trail.selection(range(99))])
    )
    index, entry = data.draw(st.sampled_from(list(entries(items))))
    assert entry.proof is not None
    proofs = [
        None,
        msgspec.structs.replace(entry.proof, index=entry.proof.index + 1),
        msgspec.structs.replace(entry.proof, path=(*entry.proof.path, "ab" * 32)),
        msgspec.structs.replace(entry.proof, path=("zz", *entry.proof.path[1:])),
    ]
    for proof in proofs:
        findings = check([*items[:index], Entry(entry.record, proof), *items[index + 1 :]])
        assert [(Kind.UNPROVEN, entry.record.sequence)] == [(f.kind, f.sequence) for f in findings]


@given(trails(least=3, retiring=False), st.data())
def test_checkpoints_cannot_be_taken_out_of_a_part(trail: Trail, data: st.DataObject) -> None:
    """Each that a proof leads to must be there, and the newest one."""
    trail.seal()
    items = trail.correlation(correlation_of(trail.records[0]))
    at = [index for index, item in enumerate(items) if isinstance(item, Checkpoint)]
    index = data.draw(st.sampled_from(at))
    one = items[index]
    assert isinstance(one, Checkpoint)
    findings = check([*items[:index], *items[index + 1 :]])
    assert [(Kind.CHECKPOINT_REMOVED, one.number)] == [(f.kind, f.checkpoint) for f in findings]
    forged = check(_swap(items, index, SigningKey.generate().sign(one)))
    assert (Kind.CHECKPOINT_FORGED, one.number) in [(f.kind, f.checkpoint) for f in forged]


def test_text_that_says_the_same_is_still_another_text() -> None:
    """Another form of the same event: a reader that takes the first of two equal keys would read something else."""
    trail = Trail()
    one = trail.write("rr-a")
    text = bytes(one.event)
    for bent in (text.replace(b'"event_id"', b' "event_id"'), b'{"actor_id":"mallory",' + text[1:]):
        findings = check([Entry(tampered(one, event=event_text(bent))), trail.statement()])
        assert [(f.kind, f.sequence) for f in findings] == [(Kind.NOT_CANONICAL, 1)]


@pytest.mark.parametrize("event", [b"5", b"[]", b'{"correlation_id":5}', b'{"n":1e400}', b"{}"])
def test_what_is_no_event_at_all(event: bytes) -> None:
    """Anything may stand where an event stood."""
    trail = Trail()
    one = trail.write("rr-a")
    trail.write("rr-a")
    trail.seal()
    items = put(trail.store(), 1, tampered(one, event=event_text(event)))
    assert [(f.kind, f.sequence) for f in check(items)] == [(Kind.EDITED, 1)]
    assert check(put(trail.store(), 1, rehashed(tampered(one, event=event_text(event)))))


def test_a_record_of_another_chain_has_no_place_in_a_correlation() -> None:
    """However well it is made."""
    trail = Trail()
    trail.write("rr-a")
    stranger = record(2, 2, trail.heads["rr-a"].hash, {"correlation_id": "rr-b"})
    items = trail.correlation("rr-a")
    findings = check([*items[:-1], Entry(stranger), items[-1]])
    assert [(f.kind, f.sequence) for f in findings] == [(Kind.ADDED, 2)]


def test_the_same_event_twice_in_one_chain() -> None:
    """An event is stored once; a second record of it is somebody's doing."""
    trail = Trail()
    first = trail.write("rr-a")
    second = record(2, 2, first.hash, orjson.loads(bytes(first.event)))
    head = ChainHead(correlation_id="rr-a", length=2, head=second.hash)
    said = Statement(
        scope="correlation", correlation_id="rr-a", last_sequence=2, last_checkpoint=0, chain=head, created_us=1
    )
    findings = check([Entry(first), Entry(second), KEY.sign(said)])
    assert [(f.kind, f.sequence) for f in findings] == [(Kind.DUPLICATED, 2)]


def test_many_missing_and_a_far_number_do_not_drown_the_rest() -> None:
    """More than the window holds: one finding for the hole, one for the number that belongs nowhere."""
    trail = Trail()
    for number in range(3 * WINDOW):
        trail.write(f"rr-{number}")
    items = trail.store()
    far = rehashed(tampered(trail.records[9], sequence=10**12))
    bent = [*items[:9], Entry(far), *items[10:99], *items[200:]]
    findings = check(bent)
    assert sorted((f.kind, f.sequence) for f in findings) == [
        (Kind.ADDED, 10**12),
        (Kind.REMOVED, 10),
        (Kind.REMOVED, 100),
    ]
    assert "the records 100 to 200 are missing" in {f.message for f in findings}


def test_without_a_statement_nothing_is_missed_at_the_end() -> None:
    """A database at rest: what is sealed must be there, what was not sealed may be anything."""
    trail = Trail()
    for _ in range(4):
        trail.write("rr-a")
    trail.seal()
    trail.write("rr-a")
    history = verifier("store", KEYS)
    assert list(verify(trail.store()[:-2], history)) == []
    assert (history.account.stated, history.account.unsealed, history.account.sealed_to) == (False, 0, 4)
    cut = check(trail.store()[:-3])
    assert [(f.kind, f.sequence) for f in cut] == [(Kind.REMOVED, 4)]


def test_the_account_says_what_was_checked() -> None:
    """Numbers for people who ask what a silent verifier has looked at."""
    trail = Trail()
    for number in range(10):
        trail.write(NAMES[number % 3])
        if number in {3, 7}:
            trail.seal()
    trail.retire(1, 2)
    history = verifier("store", KEYS)
    assert list(verify(trail.store(), history)) == []
    assert history.account.to_json() == {
        "records": 8, "chains": 3, "checkpoints": 2, "last_sequence": 10, "sealed_to": 8, "unsealed": 2, "retired": 2,
        "signatures": {KEY.key_id: 4}, "stated": True,
    }  # fmt: skip


def test_a_finding_as_json() -> None:
    """What is not known is left out."""
    found = Finding(Kind.REMOVED, "record 3 is missing", 3)
    assert found.to_json() == {"kind": "removed", "message": "record 3 is missing", "sequence": 3}


def test_a_retirement_that_takes_more_than_it_says() -> None:
    """Signed and all, but the chains were cut by fewer records than are gone."""
    trail = Trail()
    for _ in range(6):
        trail.write("rr-a")
    trail.seal()
    retired = trail.retire(2, 4)
    short = KEY.sign(
        retired.model_copy(update={"chains": (ChainHead(correlation_id="rr-b", length=1, head="ab" * 32),)})
    )
    trail.retired = [short]
    kinds = {f.kind for f in check(trail.store())}
    assert Kind.RETIREMENT_MISFIT in kinds
    backwards = Retired(**retired.to_json() | {"chains": [ChainHead(correlation_id="rr-a", length=0)]})
    trail.retired = [KEY.sign(backwards)]
    assert Kind.RETIREMENT_MISFIT in {f.kind for f in check(trail.store())}
