"""Text to terms for retrieval: identifiers are taken apart, endings are cut, stop words and generated names are dropped.

``CrashLoopBackOff`` gives the whole word and its parts, so that an alert's name meets prose about it; ``worker-5ccfd4c787``
gives ``worker`` only. One function for documents and queries: they must agree or nothing meets.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import chain

_COMMON = """
a about after again all also an and any are as at be because been before being between both but by can cannot
caused causes causing could did do does doing done during each either every for from further had has have
having how however if in into is it its itself just like may might more most must no nor not now of off on
once only or other our out over own per rather same should since so some still such than that the their them
then there these they this those through thus to too under until up upon use used uses using very via was we
were what when where whether which while who whose why will with within without would yet you your
"""
STOP_WORDS = frozenset(_COMMON.split())
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_GENERATED = re.compile(r"(?=[a-z]*[0-9])(?=.*[0-9].*[0-9])[a-z0-9]{5,}|[a-z]?[0-9]+[a-z]?")
"""What a controller or a clock appends: ``5ccfd4c787``, ``2knkh0``, ``6372c283dab9``."""
_ENDINGS = tuple(
    (ending, replacement)
    for ending, replacement in (
        ("ization", "ize"), ("isation", "ize"), ("ations", "at"), ("ation", "at"), ("ities", "ity"), ("ments", ""),
        ("ment", ""), ("ings", ""), ("ing", ""), ("ies", "y"), ("ied", "y"), ("edly", ""), ("ions", ""), ("ion", ""),
        ("ers", ""), ("ed", ""), ("er", ""), ("ly", ""), ("es", ""), ("s", ""), ("e", ""),
    )
)  # fmt: skip
MIN_STEM = 3
_WHOLE = frozenset({"replicaset", "replicasets"})
"""Identifiers whose parts mislead: a ReplicaSet in a root cause speaks of releases, not of how many replicas there are."""


def stem(word: str) -> str:
    """Cut the longest known ending that leaves at least three letters, and a doubled last consonant."""
    for ending, replacement in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= MIN_STEM:
            cut = word[: -len(ending)] + replacement
            return cut[:-1] if len(cut) > MIN_STEM and cut[-1] == cut[-2] and cut[-1] not in "aeiouls" else cut
    return word


def terms(text: str) -> list[str]:
    """Return the stems of a text in their order, identifiers both whole and in parts."""
    return list(_terms(text))


@lru_cache(maxsize=16)
def _terms(text: str) -> tuple[str, ...]:
    # Remembered for a moment: a query is embedded and looked up by its terms.
    return tuple(chain.from_iterable(map(_stems, _WORD.findall(text))))


@lru_cache(maxsize=32_768)
def _stems(word: str) -> tuple[str, ...]:
    if _GENERATED.fullmatch(word):
        return ()
    parts = _PARTS.findall(word)
    candidates = [word, *parts] if len(parts) > 1 and word.lower() not in _WHOLE else [word]
    lowered = (candidate.lower() for candidate in candidates)
    return tuple(stem(low) for low in lowered if len(low) > 1 and low not in STOP_WORDS)
