"""Bundles: what goes in comes out, in every form; what is no bundle is said to be none, and where."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.ledger.bundle import Header, Lines, line, read, sink
from catalog.ledger.canonical import canonical
from catalog.ledger.finding import Kind
from catalog.ledger.record import Entry, Item
from catalog.ledger.signing import keyring
from catalog.ledger.verify import verifier, verify
from kubernaut_ray.contracts.ledger import AuditRecord, Checkpoint, Proof, Statement
from kubernaut_ray.errors import InvalidInput
from tests.catalog.ledger.test_verify import NAMES, edited, put, rewritten_chain
from tests.catalog.ledger.trail import KEY, Trail, correlation_of, entries

FORMS = ["trail.jsonl", "trail.jsonl.gz", "trail.parquet"]


def a_trail(length: int = 30, *, retire: tuple[int, int] | None = None) -> Trail:
    trail = Trail()
    for number in range(length):
        trail.write(NAMES[number % 3], event_data={"n": number, "text": "ä\n€😀", "score": 0.5, "big": 2**70})
        if number % 7 == 6:
            trail.seal()
    if retire:
        trail.retire(*retire)
    return trail


def header(items: Sequence[Item]) -> Header:
    import base64

    statement = items[-1]
    assert isinstance(statement, Statement)
    return Header(
        scope=statement.scope,
        correlation_id=statement.correlation_id,
        public_keys={KEY.key_id: base64.b64encode(KEY.public_key).decode()},
    )


def write(file: Path, items: Sequence[Item]) -> Path:
    opened = sink(file, header(items))
    for item in items:
        opened.put(item)
    opened.close()
    return file


def plain(items: Sequence[Item]) -> list[Any]:
    """Items as values that compare; checkpoints come first where they may."""
    return [orjson.loads(line(item)) for item in items]


def findings(file: Path) -> list[Kind]:
    head, items = read(file)
    history = verifier(head.scope, keyring(head.public_keys), correlation_id=head.correlation_id)
    return [found.kind for found in verify(items, history)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("retire", [None, (1, 4), (9, 20)], ids=["whole", "half a checkpoint gone", "a hole"])
def test_a_store_there_and_back(tmp_path: Path, form: str, retire: tuple[int, int] | None) -> None:
    """The same items in the same order, to the last leaf, and the verifier is content."""
    items = a_trail(retire=retire).store()
    file = write(tmp_path / form, items)
    head, found = read(file)
    assert (header(items), plain(items)) == (head, plain(list(found)))
    assert findings(file) == []
    assert [file] == list(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", ["correlation", "selection"])
def test_a_part_there_and_back(tmp_path: Path, form: str, part: str) -> None:
    """Proofs and all. Parquet tells of the checkpoints first."""
    trail = a_trail()
    items = trail.correlation("rr-b") if part == "correlation" else trail.selection([2, 3, 17, 29])
    file = write(tmp_path / form, items)
    _, found = read(file)
    assert sorted(map(str, plain(items))) == sorted(map(str, plain(list(found))))
    assert findings(file) == []


@pytest.mark.parametrize("form", FORMS)
def test_tampering_is_found_in_every_form(tmp_path: Path, form: str) -> None:
    """Edited, rewritten with the whole chain, removed: the same findings offline as in the store."""
    items = a_trail().store()
    index, entry = list(entries(items))[8]
    cases: list[tuple[list[Item], set[Kind]]] = [
        (put(items, index, edited(entry.record, event_action="x")), {Kind.EDITED}),
        (rewritten_chain(items, index), {Kind.REWRITTEN, Kind.RECHAINED}),
        (put(items, index, None), {Kind.REMOVED}),
    ]
    for number, (bent, kinds) in enumerate(cases):
        assert kinds == set(findings(write(tmp_path / f"{number}-{form}", bent)))


def test_a_line_is_what_the_contract_says(tmp_path: Path) -> None:
    """Readers in other languages have the models of the contract, and events as they were stored."""
    trail = a_trail()
    file = write(tmp_path / "b.jsonl", trail.correlation("rr-a"))
    head, *lines = [orjson.loads(text) for text in file.read_bytes().splitlines()]
    assert head["bundle"]["format"] == "kubernaut-audit/1"
    assert [len(one) for one in (head, lines[-1])] == [1, 1]
    records = [one for one in lines if "record" in one]
    for told, one in zip(records, [r for r in trail.records if correlation_of(r) == "rr-a"], strict=True):
        assert AuditRecord.model_validate(told["record"]).hash == one.hash
        assert told.get("proof") is None or Proof.model_validate(told["proof"]).index >= 0
    assert bytes(trail.records[0].event) in file.read_bytes()
    Checkpoint.model_validate(next(one["checkpoint"] for one in lines if "checkpoint" in one))
    Statement.model_validate(lines[-1]["statement"])


def test_analysts_read_parquet(tmp_path: Path) -> None:
    """Columns of the record and the event's text, with any tool."""
    table = pq.read_table(write(tmp_path / "b.parquet", a_trail().store()))
    assert table["sequence"].to_pylist() == list(range(1, 31))
    assert orjson.loads(table["event"][0].as_py())["event_type"] == "gateway.signal.received"
    assert b"leaves" not in pq.read_metadata(tmp_path / "b.parquet").metadata[b"kubernaut-audit"].replace(
        b'"leaves":""', b""
    )


@given(st.data())
def test_lines_come_in_any_pieces(data: st.DataObject) -> None:
    """A network cuts where it likes."""
    items = a_trail(4).store()
    text = b"".join(map(line, [header(items), *items]))
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8))), len(text)]
    lines, found = Lines("the answer"), []
    for a, b in itertools.pairwise(cuts):
        found += lines.feed(text[a:b])
    lines.end()
    assert plain(items) == plain(found)


ITEMS = a_trail(3).store()
TEXT = b"".join(map(line, [header(ITEMS), *ITEMS]))
STATEMENT = line(ITEMS[-1])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\n", "line 1: it is not JSON", id="a blank line"),
        pytest.param(b"hello\n", "line 1: it is not JSON", id="text"),
        pytest.param(b"hello", "cut off", id="no line"),
        pytest.param(b'{"a":1}\n', "line 1: it is no line of an audit bundle: Object contains unknown field `a`", id="JSON"),
        pytest.param(b"[1]\n", "line 1: it is no line of an audit bundle", id="a list"),
        pytest.param(TEXT.split(b"\n", 1)[1], "line 1: an audit bundle begins with a header", id="no header"),
        pytest.param(b'{"bundle":{"format":"kubernaut-audit/9","scope":"store"}}\n', "line 1: format", id="a later format"),
        pytest.param(TEXT.removesuffix(STATEMENT), "ends after 4 lines without its statement", id="no statement"),
        pytest.param(TEXT[:-20], "cut off", id="half a statement"),
        pytest.param(TEXT[: len(TEXT) // 2], "cut off", id="half"),
        pytest.param(TEXT + STATEMENT, "line 6: nothing comes after", id="two statements"),
        pytest.param(TEXT.replace(b'"sequence":2', b'"sequence":x'), "line 3: it is not JSON", id="no JSON in the middle"),
        pytest.param(TEXT.replace(b'"sequence":2,"position"', b'"sequence":2,"place"'), "line 3: it is no line", id="no record"),
        pytest.param(TEXT.replace(STATEMENT, b'{"statement":{}}\n'), "line 5: scope: Field required", id="no statement in it"),
        pytest.param(TEXT.replace(b'{"statement"', b'{"record":null,"statement"').replace(b'"statement"', b'"proof"', 1),
                     "line 5: it is no line", id="two things"),
        pytest.param(TEXT.replace(STATEMENT, b"{}\n"), "line 5: it holds not exactly one", id="nothing in it"),
        pytest.param(b"\x1f\x8b" + TEXT, "cut off or damaged", id="not gzip"),
        pytest.param(gzip.compress(TEXT)[:-9], "cut off or damaged", id="half gzip"),
        pytest.param(b"PAR1" + TEXT, "cannot be read as Parquet", id="not Parquet"),
    ],
)  # fmt: skip
def test_what_is_no_bundle(tmp_path: Path, content: bytes, told: str) -> None:
    """Refused with what and where, whatever it is."""
    file = tmp_path / "bundle"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=told):
        list(read(file)[1])


def test_no_such_file(tmp_path: Path) -> None:
    """Said in words."""
    with pytest.raises(InvalidInput, match="No such file"):
        read(tmp_path / "nothing.jsonl")


def test_a_name_says_the_form(tmp_path: Path) -> None:
    """Any other name is refused, and nothing is written."""
    with pytest.raises(InvalidInput, match=r"\.jsonl, \.jsonl\.gz or \.parquet"):
        sink(tmp_path / "trail.csv", header(a_trail(1).store()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_an_abandoned_bundle_leaves_nothing(tmp_path: Path, form: str) -> None:
    """Half a bundle under the name of a whole one would be taken for one."""
    items = a_trail(3).store()
    opened = sink(tmp_path / form, header(items))
    opened.put(items[0])
    opened.abandon()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (pa.table({"a": [1]}), "no audit bundle"),
        (pa.table({"a": [1]}).replace_schema_metadata({"kubernaut-audit": "{}"}), "other columns"),
    ],
)
def test_parquet_that_is_no_bundle(tmp_path: Path, table: pa.Table, told: str) -> None:
    """Any other Parquet file."""
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InvalidInput, match=told):
        read(tmp_path / "x.parquet")


def test_parquet_with_bent_contents(tmp_path: Path) -> None:
    """Metadata that is no metadata, an event that is no JSON, a file that was overwritten in the middle."""
    file = write(tmp_path / "x.parquet", a_trail(3).store())
    table = pq.read_table(file)
    metadata = pq.read_metadata(file).metadata[b"kubernaut-audit"]
    pq.write_table(table.replace_schema_metadata({"kubernaut-audit": metadata[:-5]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="metadata"):
        read(tmp_path / "a.parquet")
    bent = table.set_column(5, table.schema.field("event"), [["{}", "no", "{}"]])
    pq.write_table(bent.replace_schema_metadata({"kubernaut-audit": metadata}), tmp_path / "b.parquet")
    with pytest.raises(InvalidInput, match="record 2 is not JSON"):
        list(read(tmp_path / "b.parquet")[1])
    content = bytearray(file.read_bytes())
    content[8:200] = b"\xff" * 192
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match="damaged"):
        list(read(file)[1])


def test_a_record_keeps_its_text(tmp_path: Path) -> None:
    """Text that is not canonical is not made so by writing and reading it."""
    trail = Trail()
    one = trail.write("rr-a")
    text = bytes(one.event).replace(b":", b" : ", 1)
    bent = msgspec.structs.replace(one, event=msgspec.Raw(text))
    assert canonical(orjson.loads(text)) == bytes(one.event)
    for form in FORMS:
        file = write(tmp_path / form, [Entry(bent), trail.statement()])
        assert findings(file) == [Kind.NOT_CANONICAL]
