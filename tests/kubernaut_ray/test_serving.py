"""The transport under uvicorn: what one turn of the event loop writes goes out in one piece, in order, and before a goodbye."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from kubernaut_ray.serving import GATHERED, Gathering


class Sent:
    """A transport that keeps what it was given."""

    def __init__(self) -> None:
        self.pieces: list[bytes | None] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def close(self) -> None:
        self.pieces.append(None)

    def get_extra_info(self, name: str) -> Any:
        return f"the {name}"


async def test_one_turn_is_one_piece() -> None:
    """Head and body of an answer make one write; the next turn makes the next."""
    sent = Sent()
    transport = Gathering(cast("asyncio.Transport", sent))
    transport.write(b"head")
    transport.write(b"body")
    assert sent.pieces == []
    await asyncio.sleep(0)
    transport.write(b"next")
    await asyncio.sleep(0)
    assert sent.pieces == [b"headbody", b"next"]
    assert transport.get_extra_info("peername") == "the peername"


async def test_a_goodbye_comes_last_and_much_does_not_wait() -> None:
    """Closing sends what waits first; a large answer is passed on at once, so that its reader's pace is felt."""
    sent = Sent()
    transport = Gathering(cast("asyncio.Transport", sent))
    large = b"x" * (GATHERED + 1)
    transport.write(large)
    assert sent.pieces == [large]
    transport.write(b"end")
    transport.close()
    assert sent.pieces == [large, b"end", None]
    await asyncio.sleep(0)
    assert sent.pieces == [large, b"end", None]
