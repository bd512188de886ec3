"""The hash of a record is that of its canonical JSON."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from catalog.ledger.canonical import canonical
from catalog.ledger.chain import record_hash
from kubernaut_ray.contracts.ledger import NO_HASH, AuditRecord
from tests.catalog.ledger.test_canonical import JSON, SAFE, TEXT

HASH = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.integers(1, SAFE), st.integers(1, SAFE), HASH, st.integers(-SAFE, SAFE), st.dictionaries(TEXT, JSON))
def test_the_hash_is_over_the_canonical_record(
    sequence: int, position: int, previous: str, stored_us: int, event: dict[str, Any]
) -> None:
    """Anybody gets the same from the record as it is sent: drop the hash, write canonical JSON, hash."""
    found = record_hash(sequence, position, previous, stored_us, canonical(event))
    record = AuditRecord(
        sequence=sequence, position=position, previous=previous, hash=found, stored_us=stored_us, event=event
    )
    assert sha256(canonical(record.model_dump(exclude={"hash"}))).hexdigest() == found


def test_a_known_hash() -> None:
    """Written down, so that a change of the form cannot pass unnoticed: it would break every store there is."""
    text = b'{"event":{"a":1},"position":1,"previous":"' + NO_HASH.encode() + b'","sequence":7,"stored_us":42}'
    assert record_hash(7, 1, NO_HASH, 42, b'{"a":1}') == sha256(text).hexdigest()
    assert (
        record_hash(7, 1, NO_HASH, 42, b'{"a":1}') == "642a105ad33449ac3fe84955f1c82ff7fdabdaa846d941760bd8bcba9d5650dd"
    )
