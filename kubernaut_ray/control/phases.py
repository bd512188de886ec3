"""A kind's state machine as one table: which phase may follow which, and why.

Each controller declares one ``PhaseTable`` in its ``phases.py``; the engine checks every status before it is written, and
an edge that the table lacks raises. The initial phase is the empty text (no status yet); staying in a phase is always legal.
There is no way round the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kubernaut_ray.errors import IllegalTransition

INITIAL = ""


class PhaseTable:
    """``edges`` maps each phase to the phases that may follow it, with a sentence why; terminal phases map to nothing.

    ``known``, when given, is the kind's whole vocabulary: a table that forgets or invents a word is refused at import.
    """

    def __init__(
        self, kind: str, edges: Mapping[str, Mapping[str, str]], *, known: frozenset[str] | None = None
    ) -> None:
        self.kind = kind
        self.edges: Mapping[str, Mapping[str, str]] = MappingProxyType(
            {str(old): MappingProxyType({str(new): why for new, why in after.items()}) for old, after in edges.items()}
        )
        targets = {new for after in self.edges.values() for new in after}
        self.phases = frozenset(self.edges) | targets | {INITIAL}
        self.terminal = frozenset(phase for phase in self.phases - {INITIAL} if not self.edges.get(phase))
        if INITIAL not in self.edges:
            raise ValueError(f"{kind}: the table needs the initial phase {INITIAL!r}")
        if unreachable := (self.phases - {INITIAL}) - self._reachable():
            raise ValueError(f"{kind}: no way leads to {', '.join(sorted(unreachable))}")
        if known is not None and (odd := known ^ (self.phases - {INITIAL})):
            raise ValueError(f"{kind}: table and vocabulary differ in {', '.join(sorted(odd))}")

    def check(self, old: str, new: str) -> None:
        """Raise ``IllegalTransition`` unless ``new`` may follow ``old``."""
        if not self.allows(old, new):
            raise IllegalTransition(self.kind, str(old), str(new))

    def allows(self, old: str, new: str) -> bool:
        """Staying is legal, in any phase that the table knows."""
        return new in self.phases if old == new else new in self.edges.get(old, ())

    def why(self, old: str, new: str) -> str:
        """Return the sentence beside the edge; empty for staying. Raises ``IllegalTransition``."""
        self.check(old, new)
        return self.edges[old][new] if old != new else ""

    def diagram(self) -> str:
        """Draw the table, one edge a line, in the order of its declaration."""
        lines = [self.kind]
        for old, after in self.edges.items():
            for new, why in after.items():
                lines.append(f"  {old or '(new)':<18} → {new:<18} {why}")
        lines.append(f"  terminal: {', '.join(sorted(self.terminal)) or '(none)'}")
        return "\n".join(lines)

    def _reachable(self) -> frozenset[str]:
        seen, frontier = {INITIAL}, [INITIAL]
        while frontier:
            for new in self.edges.get(frontier.pop(), ()):
                if new not in seen:
                    seen.add(new)
                    frontier.append(new)
        return frozenset(seen)
