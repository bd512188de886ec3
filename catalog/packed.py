"""What a snapshot holds of each record beside its vector and words: its JSON, and columns of its labels.

An answer is put together from the JSON as it is; a record becomes a ``Workflow`` only where somebody looks at it, so that a
replica loads a hundred thousand of them without reading one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import msgspec
import numpy as np
import numpy.typing as npt

from kubernaut_ray.contracts.catalog import Workflow, WorkflowLabels


class Name(msgspec.Struct, frozen=True):
    """Which workflow a record is."""

    workflow_id: str
    workflow_name: str
    version: str
    is_latest_version: bool


_name = msgspec.json.Decoder(Name)


class Records(Sequence[Workflow]):
    """Records as JSON laid end to end in ``data``; record ``i`` ends at ``ends[i]``. Parsed at each access."""

    def __init__(self, data: memoryview, ends: npt.NDArray[np.int64]) -> None:
        self._data, self._ends = data, ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Workflow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Workflow]: ...
    def __getitem__(self, index: int | slice) -> Workflow | Sequence[Workflow]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Workflow.model_validate_json(self.json(range(len(self))[index]))

    def __iter__(self) -> Iterator[Workflow]:
        return (self[i] for i in range(len(self)))

    def json(self, position: int) -> bytes:
        start = int(self._ends[position - 1]) if position else 0
        return bytes(self._data[start : int(self._ends[position])])

    def name(self, position: int) -> Name:
        return _name.decode(self.json(position))

    def names(self) -> Iterator[Name]:
        return (self.name(position) for position in range(len(self)))

    def latest(self, workflow_name: str) -> Workflow | None:
        """Return the latest version of a workflow."""
        position = self._latest.get(workflow_name)
        return None if position is None else self[position]

    @cached_property
    def _latest(self) -> Mapping[str, int]:
        return {name.workflow_name: n for n, name in enumerate(self.names()) if name.is_latest_version}


@dataclass(frozen=True, slots=True)
class Column:
    """One label of all records: record ``i`` has ``values[members[i]]``."""

    values: Sequence[Any]
    members: npt.NDArray[np.uint32]


LABEL_FIELDS = tuple(WorkflowLabels.model_fields)
"""Every label has a column, by its name."""
