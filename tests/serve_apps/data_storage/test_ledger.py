"""The routes of the tamper-evident trail, over an owner of a trail in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from catalog.client import Catalog, InProcess
from catalog.embed import Lexicon
from catalog.ledger.bundle import Lines
from catalog.ledger.signing import keyring
from catalog.ledger.verify import verifier, verify
from kubernaut_ray.clients.data_storage import DataStorage, NotFound
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.errors import InvalidInput, Retryable
from kubernaut_ray.kube.client import UserInfo
from serve_apps.data_storage.app import create_app
from serve_apps.data_storage.deps import Deps
from tests import build
from tests.catalog.ledger.owner import TrailOwner
from tests.catalog.ledger.trail import Trail
from tests.serving import serving


class Said:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)


class Watchdog:
    """Viewers may list, operators also hold and seal, the records officer also archives."""

    VERBS = {"viewer": {"list"}, "operator": {"list", "update"}, "officer": {"list", "update", "delete"}}

    async def authenticate(self, token: str) -> UserInfo | None:
        return UserInfo(token) if token in self.VERBS else None

    async def authorize(self, user: UserInfo, verb: str, resource: str) -> bool:
        assert resource == "auditevents"
        return verb in self.VERBS[user.username]


@pytest.fixture
def owner() -> TrailOwner:
    trail = Trail()
    for number in range(40):
        trail.write(f"rr-{number % 3}")
        if number % 16 == 15:
            trail.seal()
    return TrailOwner(trail)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
async def url(owner: TrailOwner, said: Said) -> AsyncIterator[str]:
    catalog = Catalog(InProcess(owner), Lexicon())
    async with serving(create_app(Deps(catalog, Watchdog(), said, now=lambda: build.NOW))) as url:
        yield url


@pytest.fixture
async def officer(url: str) -> AsyncIterator[DataStorage]:
    async with DataStorage(url, lambda: "officer") as client:
        yield client


async def exported(client: DataStorage, **wanted: str) -> tuple[Lines, list[object]]:
    lines, items = Lines("the answer"), []
    async with client.export_audit(**wanted) as pieces:  # type: ignore[arg-type]
        async for piece in pieces:
            items += list(lines.feed(piece))
    lines.end()
    return lines, items


@pytest.mark.parametrize("wanted", [{}, {"correlation_id": "rr-1"}, {"event_type": "gateway.signal.received"}], ids=str)
async def test_a_bundle_is_streamed_and_sound(officer: DataStorage, wanted: dict[str, str]) -> None:
    """What comes over the wire verifies as it is."""
    lines, items = await exported(officer, **wanted)
    header = lines.header
    assert header is not None
    history = verifier(header.scope, keyring(header.public_keys), correlation_id=header.correlation_id)
    assert list(verify(items, history)) == []  # type: ignore[arg-type]
    assert history.account.records == (13 if "correlation_id" in wanted else 40)


async def test_an_export_that_breaks_is_no_bundle(owner: TrailOwner, officer: DataStorage) -> None:
    """The owner fails half-way: the stream ends in words that say why, never as if it were whole."""
    owner.page = 10

    def fail() -> None:
        if owner.calls.count("audit_records") > 2:
            raise Retryable("the owner died")

    owner.during = fail
    owner.trail.records *= 40
    with pytest.raises(InvalidInput, match="broke off, so this is no whole bundle: the owner died"):
        await exported(officer)


async def test_refusals_of_an_export_come_as_problems(url: str, owner: TrailOwner, officer: DataStorage) -> None:
    """Before a byte is streamed: bad times are 400, an owner that is away is 503."""
    async with httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer viewer"}) as viewer:
        for bad in ({"since": "soon"}, {"until": "1 fortnight"}, {"correlation_id": "x" * 256}):
            answer = await viewer.get("/api/v1/audit/export", params=bad)
            assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")

    def away(_: object) -> bytes:
        raise Retryable("the catalog owner does not answer", after=3)

    owner.audit_state = away  # type: ignore[assignment, method-assign]
    with pytest.raises(Retryable, match="does not answer") as told:
        await exported(officer)
    assert told.value.after == 3


async def test_state_and_checkpoints(officer: DataStorage) -> None:
    """Where the trail stands, and its seals by number, leaves only when asked for."""
    state = await officer.audit_state()
    assert (state.last_sequence, state.last_checkpoint, state.unsealed, state.chains) == (40, 2, 8, 3)
    assert len(state.public_keys) == 2
    first, second = await officer.audit_checkpoints()
    assert (first.number, second.number, first.leaves) == (1, 2, "")
    assert [second] == list(await officer.audit_checkpoints(after=1, limit=1))
    assert (await officer.audit_checkpoints(after=1, leaves=True))[0].leaves


async def test_seal_now(officer: DataStorage, owner: TrailOwner) -> None:
    """What was not sealed is; a second time there is nothing to seal."""
    made = await officer.seal_audit()
    assert made is not None
    assert (made.first_sequence, made.last_sequence) == (33, 40)
    assert await officer.seal_audit() is None


async def test_holds(officer: DataStorage, owner: TrailOwner, url: str) -> None:
    """Placed and released by who the token says."""
    name = "rr/1 ä"
    placed = await officer.place_hold(name, "case 7")
    assert (placed.placed_by, placed.placed_at, placed.reason) == ("officer", build.NOW, "case 7")
    assert [name] == [one.correlation_id for one in await officer.audit_holds()]
    async with httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer viewer"}) as viewer:
        assert (await viewer.get("/api/v1/audit/holds/rr%2F1%20ä")).json()["reason"] == "case 7"
        assert (await viewer.get("/api/v1/audit/holds/nobody")).status_code == 404
    await officer.release_hold(name, "closed")
    assert [{"correlation_id": name, "by": "officer", "reason": "closed"}] == owner.released
    with pytest.raises(NotFound, match="no hold"):
        await officer.release_hold(name)
    with pytest.raises(InvalidInput, match="1 to 255"):
        await officer.place_hold("x" * 256, "case 7")


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": "x" * 1025}, {"reason": "x", "placed_by": "somebody else"}], ids=str
)
async def test_no_hold(url: str, body: dict[str, str], owner: TrailOwner) -> None:
    """No reason, or a claim of who it was: refused, and nothing is held."""
    async with httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer officer"}) as client:
        assert (await client.put("/api/v1/audit/holds/rr-1", json=body)).status_code == 400
    assert owner.held == {}


async def test_archive(officer: DataStorage, owner: TrailOwner) -> None:
    """What was rolled off and what was deleted."""
    owner.trail.retire(1, 2)
    done = await officer.archive_audit("2026-02")
    assert ([a.name for a in done.archived], [r.archive for r in done.retired]) == (["audit-2026-02"], ["audit-1"])
    assert (await officer.archive_audit()).archived == ()
    with pytest.raises(InvalidInput):
        await officer.archive_audit("2026-13")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v1/audit/export", {"viewer", "operator", "officer"}),
        ("GET", "/api/v1/audit/state", {"viewer", "operator", "officer"}),
        ("GET", "/api/v1/audit/checkpoints", {"viewer", "operator", "officer"}),
        ("GET", "/api/v1/audit/holds", {"viewer", "operator", "officer"}),
        ("PUT", "/api/v1/audit/holds/rr-1", {"operator", "officer"}),
        ("DELETE", "/api/v1/audit/holds/rr-1", {"operator", "officer"}),
        ("POST", "/api/v1/audit/checkpoint", {"operator", "officer"}),
        ("POST", "/api/v1/audit/archive", {"officer"}),
    ],
)
async def test_who_may(url: str, method: str, path: str, allowed: set[str]) -> None:
    """Reading is for viewers, holding and sealing for operators, deleting is a right of its own."""
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.request(method, path)).status_code == 401
        for user in Watchdog.VERBS:
            answer = await client.request(method, path, headers={"authorization": f"Bearer {user}"})
            assert (answer.status_code != 403) == (user in allowed), (user, answer.text)
