"""A map of many 64-bit keys to integers in little memory: which events are stored, and where each chain ends.

An index in the database would cost more with every row that is stored; this costs 16 bytes a key and some hundred nanoseconds
a look. New keys lie in a dictionary, older ones in sorted runs, merged so that there are few of them; the newest value of a
key counts. Keys are hashes of the process (``key``), so nobody outside can make two ids meet; who finds a value looks at the
row it stands for before believing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

ABSENT = -1
RECENT = 65_536
"""So many keys lie in the dictionary before they become a run."""


def key(text: str) -> int:
    """Return the key of a text, the same within this process only."""
    return hash(text)


class Known:
    """Not thread-safe: the writer thread has it."""

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._runs: list[tuple[Ints, Ints]] = []
        """Longest and oldest first; keys sorted, without repetition."""

    def __len__(self) -> int:
        """How many are held; a key that lies in several runs counts in each."""
        return len(self._recent) + sum(len(keys) for keys, _ in self._runs)

    def get(self, keys: Sequence[int]) -> list[int]:
        """Return the values of these keys, ``ABSENT`` for those that are not held."""
        recent = self._recent
        found = [recent.get(one, ABSENT) for one in keys]
        missing = [n for n, value in enumerate(found) if value == ABSENT]
        if not missing or not self._runs:
            return found
        wanted = np.asarray([keys[n] for n in missing], dtype=np.int64)
        values = np.full(len(wanted), ABSENT, dtype=np.int64)
        for held, theirs in self._runs:  # the newest run is last, and so overrules
            places = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
            hit = held[places] == wanted
            values[hit] = theirs[places[hit]]
        for n, value in zip(missing, values.tolist(), strict=True):
            found[n] = value
        return found

    def put(self, pairs: Mapping[int, int]) -> None:
        """Take these in, over what was held under the same keys."""
        self._recent.update(pairs)
        if len(self._recent) >= RECENT:
            self._spill()

    def _spill(self) -> None:
        count = len(self._recent)
        keys = np.fromiter(self._recent.keys(), np.int64, count)
        self.load(keys, np.fromiter(self._recent.values(), np.int64, count))
        self._recent = {}

    def load(self, keys: Ints, values: Ints) -> None:
        """Take in many at once, the last of equal keys."""
        if not len(keys):
            return
        run = _sorted(keys, values)
        while self._runs and len(self._runs[-1][0]) <= 2 * len(run[0]):
            older = self._runs.pop()
            run = _sorted(np.concatenate([older[0], run[0]]), np.concatenate([older[1], run[1]]))
        self._runs.append(run)

    def forget_below(self, value: int) -> None:
        """Let go of the keys in runs whose values are below this one."""
        if value <= 0:
            return
        kept = [(keys[values >= value], values[values >= value]) for keys, values in self._runs]
        self._runs = [run for run in kept if len(run[0])]


def _sorted(keys: Ints, values: Ints) -> tuple[Ints, Ints]:
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    last = np.append(keys[1:] != keys[:-1], True)
    return keys[last], values[last]
