"""The sources of signals. A new one is a module with an ``Adapter`` and one line in ``ADAPTERS``.

An adapter turns the bytes of one request into signals and says which entries are none, and why. It neither looks anything
up nor decides what becomes of a signal.
"""

from __future__ import annotations

from typing import Protocol

from serve_apps.gateway.adapters.alertmanager import Alertmanager
from serve_apps.gateway.adapters.kubernetes_event import KubernetesEvent
from serve_apps.gateway.signal import Delivery, Parsed

PREFIX = "/api/v1/signals"


class Adapter(Protocol):
    @property
    def route(self) -> str:
        """The path below ``/api/v1/signals``."""
        ...

    @property
    def media_types(self) -> tuple[str, ...]:
        """The content types it reads; anything else is refused with 415."""
        ...

    def parse(self, delivery: Delivery) -> tuple[Parsed, ...]:
        """Return the payload's entries in order, at least one.

        Raises ``InvalidInput`` when the payload as a whole is not readable; a single bad entry is ``Malformed`` instead.
        """
        ...


ADAPTERS: tuple[Adapter, ...] = (Alertmanager(), KubernetesEvent())
