"""What the state machines of all kinds share: a controller that is driven through every trouble, and what must hold then.

A machine says what its kind lives among (``build`` a controller, rules that move children, people and services) and what
must hold beyond ``lifecycles.py``. ``reconcile`` is one or more turns of the real engine; the ``n``-th call of a turn may be
refused, meet a conflict, be done without an answer, or be the last thing that the process does. Left alone, it must end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from kubernaut_ray import names
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Call, Decision, Key
from kubernaut_ray.control.reconcile import Outcome, Reconciler
from kubernaut_ray.errors import Retryable
from kubernaut_ray.kube.client import Object, ObjectList, PatchKind
from kubernaut_ray.kube.errors import Conflict, NotFound, Unavailable
from kubernaut_ray.kube.resources import Resource
from tests import build
from tests.crash import Crash
from tests.lifecycles import ended, phase_of, problems
from tests.memory_kube import MemoryKube
from tests.trail import fits

T = TypeVar("T")
HOME = names.SYSTEM_NAMESPACE
Trouble = Literal["none", "dies before", "dies after", "refused", "no answer", "conflict"]

troubles = st.sampled_from(
    ["none", "none", "none", "dies before", "dies after", "dies after", "refused", "no answer", "conflict"]
)
"""What happens at the n-th call of a turn."""
places = st.integers(1, 14)


def examples(few: int, steps: int = 30) -> settings:
    """Few examples where everybody waits for them; many with ``--hypothesis-profile=deep``."""
    deep = settings.get_current_profile_name() == "deep"
    return settings(max_examples=few * 40 if deep else few, stateful_step_count=steps, deadline=None)


class World(MemoryKube):
    """Judges every write of an object of the kind that is driven as it is made."""

    def __init__(self, now: Any, kind: str) -> None:
        super().__init__(now)
        self._judged = kind
        self.made: dict[tuple[str, str], int] = {}

    def _happened(self, kind: Any, obj: Object, old: Object | None) -> None:
        super()._happened(kind, obj, old)
        if kind == "ADDED":
            key = obj["kind"], obj["metadata"]["name"]
            self.made[key] = self.made.get(key, 0) + 1
        if obj["kind"] == self._judged and kind != "DELETED":
            assert not (wrong := list(problems(old, obj))), wrong


class Line:
    """A process's line to the outside: trouble comes at its n-th use."""

    def __init__(self, trouble: Trouble = "none", at: int = 0) -> None:
        self.trouble, self.at, self.used = trouble, at, 0

    async def over(self, work: Awaitable[T], *, write: bool = True) -> T:
        self.used += 1
        now = self.used == self.at and (write or self.trouble == "refused")
        if now and self.trouble in {"dies before", "refused", "conflict"}:
            getattr(work, "close", lambda: None)()
            if self.trouble == "refused":
                raise Unavailable("the API server does not answer")
            raise Crash if self.trouble == "dies before" else Conflict("the object has been modified")
        result = await work
        if now and self.trouble == "dies after":
            raise Crash
        if now and self.trouble == "no answer":
            raise Unavailable("the answer was lost")
        return result


class Client(MemoryKube):
    """The world over such a line. ``line`` is replaced for each turn."""

    def __init__(self, world: MemoryKube) -> None:
        self._world, self.line = world, Line()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return await self.line.over(self._world.get(resource, name, namespace), write=False)

    async def list(self, resource: Resource, namespace: str | None = None, **selectors: Any) -> ObjectList:
        return await self.line.over(self._world.list(resource, namespace, **selectors), write=False)

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        return await self.line.over(self._world.create(resource, obj, namespace))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        kind: PatchKind = "merge",
        subresource: str | None = None,
        field_manager: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        return await self.line.over(self._world.patch(resource, name, patch, namespace, subresource=subresource))

    async def delete(self, resource: Resource, name: str, namespace: str | None = None, **options: Any) -> None:
        await self.line.over(self._world.delete(resource, name, namespace, **options))


class Trail:
    """Keeps one fact an id, whoever tells it and however often."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.facts: dict[str, AuditEvent] = {}

    async def record(self, event: AuditEvent) -> None:
        async def store() -> None:
            known = self.facts.setdefault(event.event_id, fits(event))
            assert (known.event_type, known.resource_id) == (event.event_type, event.resource_id)

        await self._client.line.over(store())

    def told(self, event_type: str) -> int:
        return sum(fact.event_type == event_type for fact in self.facts.values())


class Driven:
    """The controller: its calls go over the line, and each decision is made twice."""

    def __init__(self, controller: Any, client: Client) -> None:
        self._controller = controller
        self.performers = {name: self._over(client, perform) for name, perform in controller.performers.items()}

    @staticmethod
    def _over(client: Client, performer: Any) -> Any:
        async def perform(call: Call, /) -> None:
            await client.line.over(performer(call))

        return perform

    def decide(self, observed: Any, now: datetime) -> Decision[Any]:
        decision: Decision[Any] = self._controller.decide(observed, now)
        assert decision == self._controller.decide(observed, now), "two decisions on one observation"
        return decision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)


class Machine(RuleBasedStateMachine):
    """One object's life. A subclass names it, builds its controller, and adds rules."""

    resource: Resource
    name: str
    patience = timedelta(minutes=5)
    """How far the clock goes at most while it is left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = build.NOW
        self.kube = World(lambda: self.now, self.resource.kind)
        self.client = Client(self.kube)
        self.trail = Trail(self.client)
        self.controller: Any = None
        self.end: str | None = None
        self.outcomes: list[str] = []

    def build(self) -> Any:
        """Make the controller of a process that begins."""
        raise NotImplementedError

    def bury(self) -> None:
        """A process has died: end what it had begun."""

    def calm(self) -> None:
        """No more trouble from outside: services answer, and whoever has something to do does it."""

    def at_rest(self) -> None:
        """Judge the end."""

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def found(self, resource: Resource | None = None, name: str = "", namespace: str = HOME) -> Object | None:
        try:
            return self.run(self.kube.get(resource or self.resource, name or self.name, namespace))  # type: ignore[no-any-return]
        except NotFound:
            return None

    def phase(self) -> str | None:
        obj = self.found()
        return None if obj is None else phase_of(obj)

    def write(self, resource: Resource, name: str, status: Mapping[str, Any], namespace: str = HOME) -> None:
        """Somebody writes a status."""
        self.run(self.kube.patch(resource, name, {"status": status}, namespace, subresource="status"))

    def turn(self, trouble: Trouble = "none", at: int = 0) -> Outcome | None:
        """One reconcile. Whoever dies is followed by a process that knows nothing."""
        self.now += timedelta(milliseconds=1)
        if self.controller is None:
            self.client.line = Line()
            self.controller = Driven(self.build(), self.client)
            self.run(self.controller.start())
        self.client.line = Line(trouble, at)
        reconcile = Reconciler(self.controller, self.client, self.trail, clock=lambda: self.now)
        try:
            outcome = self.run(reconcile(Key(HOME, self.name)))
        except Crash:
            self.bury()
            self.controller = None
            return None
        except Retryable:
            return None
        finally:
            self.client.line = Line()
        self.outcomes.append(outcome.reason)
        return outcome

    def turns(self, times: int, trouble: Trouble, at: int) -> None:
        """An event that came several times; the first one meets the trouble."""
        for turn in range(times):
            self.turn(trouble if turn == 0 else "none", at)

    def settle(self, limit: int = 1000) -> None:
        """Leave it alone until nothing is to be done; time goes on when nothing else does."""
        for _ in range(limit):
            obj = self.found()
            if obj is None or (ended(obj) and self.idle()):
                return
            before = self.kube.writes
            self.calm()
            outcome = self.turn()
            if outcome is None:
                self.now += timedelta(seconds=30)
            elif before == self.kube.writes:
                wake = outcome.wake_at or self.now + self.patience
                self.now = max(self.now, min(wake, self.now + self.patience))
        raise AssertionError(f"stuck in {self.phase()!r} after {self.outcomes[-5:]}")

    def idle(self) -> bool:
        """Whether an ended object has nothing left to do."""
        outcome = self.turn()
        if outcome is not None and outcome.wake_at is not None:
            self.now = max(self.now, outcome.wake_at)
        return outcome is not None and not outcome.wrote and outcome.wake_at is None

    def teardown(self) -> None:
        try:
            if self.found() is not None:
                self.settle()
                self.at_rest()
        finally:
            try:
                self.bury()
            finally:
                self.loop.close()

    def an_end_is_an_end(self) -> None:
        """Call it in an invariant."""
        obj = self.found()
        if self.end is not None:
            assert obj is None or phase_of(obj) == self.end
        elif obj is not None and ended(obj):
            self.end = phase_of(obj)
