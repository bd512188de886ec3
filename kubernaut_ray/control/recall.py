"""What events and our own writes have just told of the objects around one key, so that it need not be read again.

The loop fills it, a controller that asked for it (``hold``) reads from it in ``observe``. It answers only in a reconcile that
an event or our own last write has led to: a timer, a resync, a retry after any failure and whoever asks from outside get a
reading of everything anew, because ``forget`` comes first. What may cost something when it is old (routing, what is executed)
is read anew in any case; the status is written on condition of the version that was judged.

What is forgotten leaves behind how far it had come: events and answers take different ways, and one that is late must not bring
back an earlier life. Bounded by keys, the least recently used goes. It is memory only: losing it costs requests and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from kubernaut_ray.control.decision import Key
from kubernaut_ray.crds.base import CustomResource
from kubernaut_ray.kube.client import Object

Kind = TypeVar("Kind", bound=CustomResource)


@dataclass(slots=True)
class _Told:
    """One version of one object: as it came, and from the first reading on as its model only; neither once it is forgotten."""

    version: str
    obj: Object | None
    before: CustomResource | None = None
    """The model of another version."""
    model: CustomResource | None = None


class Recall:
    """Used from one event loop only. It holds nothing until somebody says for how many keys it shall."""

    def __init__(self) -> None:
        self._limit = 0
        self._keys: OrderedDict[Key, dict[tuple[str, str], _Told]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def hold(self, keys: int) -> None:
        """Remember what is told of so many keys."""
        self._limit = keys

    def note(self, key: Key, plural: str, obj: Object) -> None:
        """Remember this version, unless a newer one is or was known. Versions that do not compare make us forget the object."""
        if not self._limit:
            return
        objects = self._keys.get(key)
        if objects is None:
            objects = self._keys[key] = {}
            if len(self._keys) > self._limit:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key)
        metadata = obj["metadata"]
        place, version = (plural, metadata["name"]), str(metadata.get("resourceVersion", ""))
        known = objects.get(place)
        if known is None or _newer(version, known.version):
            objects[place] = _Told(version, obj, known.model or known.before if known is not None else None)
        elif known.version == version:
            if known.model is None:
                known.obj = obj
        elif not _newer(known.version, version):
            del objects[place]

    def get(self, key: Key, kind: type[Kind], name: str) -> Kind | None:
        """Return an object as it was told last, ``None`` when nothing is known. Raises pydantic's ``ValidationError``."""
        told = self._keys.get(key, {}).get((kind.META.plural, name))
        if told is None:
            return None
        if told.model is None and told.obj is not None:
            before = told.before if isinstance(told.before, kind) else None
            told.model, told.obj, told.before = kind.from_object(told.obj, before=before), None, None
        return told.model if isinstance(told.model, kind) else None

    def forget(self, key: Key) -> None:
        """Forget everything around a key but the versions: what is older stays unknown."""
        for told in self._keys.get(key, {}).values():
            told.obj = told.before = told.model = None

    def clear(self) -> None:
        self._keys.clear()


def _newer(one: str, other: str) -> bool:
    return one.isdecimal() and other.isdecimal() and int(one) > int(other)
