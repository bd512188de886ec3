"""Alertmanager's routing tree: depth first, the deepest match wins, ``continue`` goes on to the next sibling.

Semantics of Alertmanager's ``dispatch.Route.Match``: a route that does not match hides its whole subtree; of its children
each that matches contributes its own matches, and the first without ``continue`` ends the search; where no child matches the
route itself does. ``Routing`` keeps the last good file when a new one is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from actors.notification import config
from actors.notification.config import Receiver, RouteConfig, RoutingFile
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.matchers import Matcher, parse_all

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    receiver: str
    matchers: tuple[Matcher, ...]
    continues: bool
    children: tuple[Route, ...]

    @classmethod
    def of(cls, route: RouteConfig, inherited: str = "") -> Route:
        """Build a checked route; children inherit the receiver."""
        receiver = route.receiver or inherited
        return cls(
            receiver,
            parse_all(route.matchers, route.match, route.match_re),
            route.continue_,
            tuple(cls.of(child, receiver) for child in route.routes),
        )

    def match(self, labels: Mapping[str, str]) -> tuple[Route, ...]:
        """Return the routes that take these labels, in order; empty when this one does not match."""
        if not all(matcher.matches(labels) for matcher in self.matchers):
            return ()
        found: list[Route] = []
        for child in self.children:
            matched = child.match(labels)
            found += matched
            if matched and not child.continues:
                break
        return tuple(found) or (self,)


def attributes(notification: NotificationRequest) -> dict[str, str]:
    """Return what routes match on: the message's facts from its immutable spec, under plain and under label names.

    ``skip-reason`` can also be matched as ``skip_reason``, because Alertmanager's classic matchers know no hyphen.
    """
    spec = notification.spec
    urgency = str(spec.priority)
    facts = {"type": str(spec.type), "priority": urgency, "notification-priority": urgency, **spec.metadata}
    underscored = {key.replace("-", "_"): value for key, value in facts.items()}
    labelled = {f"kubernaut.ai/{'notification-type' if key == 'type' else key}": value for key, value in facts.items()}
    return {**labelled, **underscored, **facts}


@dataclass(frozen=True, slots=True)
class Table:
    """A loaded routing file: the tree, and the receivers by name."""

    root: Route
    receivers: Mapping[str, Receiver]

    @classmethod
    def of(cls, file: RoutingFile) -> Table:
        return cls(Route.of(file.route), {receiver.name: receiver for receiver in file.receivers})

    def resolve(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the receivers for these labels, each once, in order."""
        return tuple(dict.fromkeys(route.receiver for route in self.root.match(labels)))


class Routing:
    """The routing file as it is now, reloaded when it changes; the last good one while a new one is wrong."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._table = Table.of(config.default())
        self._stamp: tuple[int, int] | None = None
        self.problem = ""
        """Why the newest file is not in force; empty when it is."""

    def load(self) -> Table:
        """Read the file for the first time. Raises ``InvalidInput``: a system must not start on a wrong routing."""
        if self._path is not None:
            self._stamp = self._stat(self._path)
            self._table = self._read(self._path)
        return self._table

    def current(self) -> Table:
        """Return the table in force, looking first whether the file changed."""
        if self._path is None:
            return self._table
        stamp = self._stat(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._table = self._read(self._path)
                self.problem = ""
            except InvalidInput as error:
                self.problem = str(error)
                _log.error("routing.rejected", file=str(self._path), error=self.problem, kept="the last good one")
        return self._table

    def _read(self, path: Path) -> Table:
        file = config.load(path)
        _log.info("routing.loaded", file=str(path), receivers=[receiver.name for receiver in file.receivers])
        if ignored := file.ignored():
            _log.warning("routing.without_effect", file=str(path), keys=list(ignored))
        return Table.of(file)

    @staticmethod
    def _stat(path: Path) -> tuple[int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
