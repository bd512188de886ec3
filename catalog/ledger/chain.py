"""The hash of a record, by which it hangs on the record before it in its chain and in a checkpoint's tree."""

from __future__ import annotations

from hashlib import sha256


def record_hash(sequence: int, position: int, previous: str, stored_us: int, event: bytes) -> str:
    """Return the SHA-256, in hex, of the record's canonical JSON without its hash. ``event`` is canonical JSON already.

    Its five keys are in canonical order as they stand here, so putting the pieces together is the whole work.
    """
    record = b'{"event":%b,"position":%d,"previous":"%b","sequence":%d,"stored_us":%d}' % (
        event,
        position,
        previous.encode(),
        sequence,
        stored_us,
    )
    return sha256(record).hexdigest()
