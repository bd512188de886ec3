"""The JSONPath of printer columns and selectable fields: ``.status.phase``, ``.spec.ports[0].name``, ``.conditions[?(@.type=="Ready")].status``.

Only what Kubernetes allows there; anything else is refused when the CRD is stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_STEP = re.compile(
    r"""\.(?P<name>(?:[^.\[\]\\]|\\.)+)
      | \[(?P<index>-?\d+)\]
      | \[\?\(@\.(?P<key>[A-Za-z0-9_.\\-]+)\s*==\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)')\)\]
      | \[['"](?P<quoted>[^'"]+)['"]\]
      | (?P<all>\[\*\])""",
    re.VERBOSE,
)

Step = Callable[[list[Any]], list[Any]]


def _named(name: str) -> Step:
    return lambda values: [v[name] for v in values if isinstance(v, dict) and name in v]


def _indexed(index: int) -> Step:
    return lambda values: [v[index] for v in values if isinstance(v, list) and -len(v) <= index < len(v)]


def _filtered(key: str, wanted: str) -> Step:
    find = compiled("." + key)

    def step(values: list[Any]) -> list[Any]:
        return [i for v in values if isinstance(v, list) for i in v if find(i) == wanted]

    return step


def compiled(path: str) -> Callable[[Any], Any]:
    """Return a function from an object to the first value at ``path``, or ``None``. Raises ``ValueError``."""
    steps: list[Step] = []
    position = 0
    text = path.strip().removeprefix("{").removesuffix("}")
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(f"{path!r} is no simple JSON path such as .status.phase (at {text[position:]!r})")
        position = match.end()
        if match["index"] is not None:
            steps.append(_indexed(int(match["index"])))
        elif match["key"]:
            wanted = match["double"] if match["double"] is not None else match["single"]
            steps.append(_filtered(match["key"], wanted))
        elif match["all"]:
            steps.append(lambda values: [i for v in values if isinstance(v, list) for i in v])
        else:
            steps.append(_named((match["quoted"] or match["name"]).replace("\\.", ".")))
    if not steps:
        raise ValueError(f"{path!r} is no JSON path; write for example .status.phase")

    def find(obj: Any) -> Any:
        values = [obj]
        for step in steps:
            values = step(values)
        return values[0] if values else None

    return find
