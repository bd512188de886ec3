"""Take secrets out of text before anybody else reads it: a model's prompt, a tool's result, a notification, an error.

``redact(text)`` applies ordered rules (whole containers and PEM blocks first, then URLs with credentials, well-known key
shapes, headers, and last the broad ``password: …`` forms). It rather hides too much than too little. Every pattern starts at
a literal and uses bounded or possessive repeats, so the time is linear in the text whatever somebody puts into a log line.
It is idempotent, and it never raises on any text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

PLACEHOLDER = "[REDACTED]"
MAX_DEPTH = 64
"""How deep a JSON value is looked into."""

_QUOTE = r"\\{0,3}[\"']"
_VALUE = (
    r"(?:"
    r"(?P<open>\\{1,3}[\"'])(?:(?!(?P=open))[^\n])*+(?P=open)"  # \"inside JSON inside a string\"
    r"|\"(?:[^\"\\\n]|\\.)*+\""
    r"|'(?:[^'\\\n]|\\.)*+'"
    r"|\\{0,3}[\"'][^\n]*+"  # cut off before its closing quote
    r"|[|>][+-]?[ \t]*\n(?:[ \t]+[^\n]*+\n?)++"  # a YAML block scalar
    r"|(?!\[REDACTED\])[^\s,;&\"'{}()\]\\]++"
    r")"
)
_GIVEAWAY = (
    r"(?:passphrase|password|passwd|pwd|secret|token|credential"
    r"|api[_-]?key|access[_-]?key|private[_-]?key|signing[_-]?key|encryption[_-]?key|ssh[_-]?privatekey|tls\.key"
    r"|client-key-data|client-certificate-data|dockerconfigjson|dockercfg|connection[_-]?string)"
)
_HARMLESS = r"(?!s?[_-]?(?:name|ref\b|keyref|keyselector|izer|ized|_?count|_?limit|_?type|_?path|_?file)|s\b)"
_SUFFIX = r"[A-Za-z0-9_.-]{0,40}"


@dataclass(frozen=True, slots=True)
class _Rule:
    """``guards``: cheap tests (lower case), one of which must be in an ASCII text for the rule to be tried."""

    name: str
    source: str
    flags: int
    replacement: str
    guards: tuple[str, ...]

    @property
    def pattern(self) -> re.Pattern[str]:
        return _compiled(self.source, self.flags)


@cache
def _compiled(source: str, flags: int) -> re.Pattern[str]:
    # At the first text that may need it: all of them take a fifth of a second, and most processes need few.
    return re.compile(source, flags)


def _rule(
    name: str, pattern: str, replacement: str = PLACEHOLDER, *, flags: int = 0, guard: str | tuple[str, ...]
) -> _Rule:
    return _Rule(name, pattern, flags, replacement, (guard,) if isinstance(guard, str) else guard)


_GIVEAWAY_GUARDS = ("pass", "pwd", "secret", "token", "cred", "key", "client-cert", "docker", "connection")
"""Every alternative of ``_GIVEAWAY`` holds one of these."""
_I, _M = re.IGNORECASE, re.MULTILINE

RULES: tuple[_Rule, ...] = (
    _rule(
        "applied configuration",
        rf"(last-applied-configuration{_QUOTE}?\s{{0,4}}:\s{{0,4}}){_VALUE}",
        rf"\g<1>{PLACEHOLDER}",
        guard="last-applied-configuration",
    ),
    _rule(
        "generator URL",
        rf"(generatorURL{_QUOTE}?\s{{0,4}}[:=]\s{{0,4}}){_VALUE}",
        rf"\g<1>{PLACEHOLDER}",
        flags=_I,
        guard="generatorurl",
    ),
    _rule(
        "PEM block",
        r"-----BEGIN [A-Z0-9 ]{1,40}-----(?:[^-]|-(?!----))*+(?:-----END [A-Z0-9 ]{1,40}-----)?",
        guard="-----begin",
    ),
    _rule(
        "Secret object (YAML)",
        r"^([ \t]*+)(data|stringData):[ \t]*\n(?:\1[ \t]+[^\n]*+(?:\n|\Z))++",
        rf"\g<1>\g<2>: {PLACEHOLDER}\n",
        flags=_M,
        guard="kind: secret",
    ),
    _rule(
        "Secret object (JSON)",
        r"(\\{0,3}\"(?:data|stringData)\\{0,3}\"\s{0,4}:\s{0,4})\{[^{}]*+\}",
        rf"\g<1>{{{PLACEHOLDER}}}",
        guard="secret",
    ),
    _rule(
        "database URL",
        r"\b(postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|sqlserver|clickhouse|kafka)"
        r"(\+[a-z0-9]{1,16})?://(?!\[REDACTED\]@)[^\s\"'<>]{1,512}@",
        rf"\g<1>\g<2>://{PLACEHOLDER}@",
        flags=_I,
        guard="://",
    ),
    _rule(
        "URL with credentials",
        r"://([^\s/:@\"'<>]{0,128}):(?!\[REDACTED\]@)[^\s/@\"'<>]{1,512}@",
        rf"://\g<1>:{PLACEHOLDER}@",
        guard="://",
    ),
    _rule("Slack webhook", r"(hooks\.slack\.com/(?:services|workflows)/)[A-Za-z0-9/_-]++", rf"\g<1>{PLACEHOLDER}", guard="hooks.slack.com"),
    _rule("JSON web token", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{4,}+\.[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_-]*+)?", guard="eyj"),
    _rule("vendor key", r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}+", guard="k-"),
    _rule("GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{16,}+|github_pat_[A-Za-z0-9_]{16,}+)", guard=("gh", "github_pat_")),
    _rule("GitLab token", r"\bglpat-[A-Za-z0-9_-]{16,}+", guard="glpat-"),
    _rule("Slack token", r"\bxox[abeprs]-[A-Za-z0-9-]{10,}+", guard="xox"),
    _rule("Google key", r"\bAIza[A-Za-z0-9_-]{30,}+", guard="aiza"),
    _rule("Vault token", r"\bhv[sbr]\.[A-Za-z0-9_-]{16,}+", guard="hv"),
    _rule("npm token", r"\bnpm_[A-Za-z0-9]{20,}+", guard="npm_"),
    _rule("AWS key id", r"\b(?:AKIA|ASIA)[A-Z0-9]{12,20}\b", guard=("akia", "asia")),
    _rule(
        "authorization header",
        rf"(authorization{_QUOTE}?\s{{0,4}}[:=]\s{{0,4}}+)(?!\[REDACTED\])(?:{_QUOTE}[^\n\"']*+{_QUOTE}?|[^\n\"',}}]++)",
        rf"\g<1>{PLACEHOLDER}",
        flags=_I,
        guard="authorization",
    ),
    _rule(
        "bearer token",
        r"\b(bearer|basic) (?!\[REDACTED\])[A-Za-z0-9._~+/=-]{8,}+",
        rf"\g<1> {PLACEHOLDER}",
        flags=_I,
        guard=("bearer ", "basic "),
    ),
    _rule(
        "cookie header",
        rf"\b((?:set-)?cookie{_QUOTE}?\s{{0,4}}:\s{{0,4}}+)(?!\[REDACTED\])[^\n]++",
        rf"\g<1>{PLACEHOLDER}",
        flags=_I,
        guard="cookie",
    ),
    _rule(
        "registry login",
        rf"(\"auth\\{{0,3}}\"\s{{0,4}}:\s{{0,4}}){_VALUE}",
        rf"\g<1>{PLACEHOLDER}",
        guard='"auth',
    ),
    _rule(
        "environment variable",
        rf"(\bname{_QUOTE}?\s{{0,4}}[:=]\s{{0,4}}{_QUOTE}?[A-Za-z0-9_.-]{{0,60}}{_GIVEAWAY}{_SUFFIX}{_QUOTE}?"
        rf"\s{{0,4}},?\s{{0,40}}{_QUOTE}?value{_QUOTE}?\s{{0,4}}[:=]\s{{0,4}}){_VALUE}",
        rf"\g<1>{PLACEHOLDER}",
        flags=_I,
        guard=_GIVEAWAY_GUARDS,
    ),
    _rule(
        "named secret",
        rf"({_GIVEAWAY}{_HARMLESS}{_SUFFIX}{_QUOTE}?\s{{0,4}}(?:=>|:=|[:=])[ \t]{{0,4}}+){_VALUE}",
        rf"\g<1>{PLACEHOLDER}",
        flags=_I,
        guard=_GIVEAWAY_GUARDS,
    ),
    _rule(
        "secret argument",
        rf"(--?[A-Za-z0-9-]{{0,40}}{_GIVEAWAY}{_HARMLESS}[A-Za-z0-9-]{{0,40}} {{1,4}})(?!-){_VALUE}",
        rf"\g<1>{PLACEHOLDER}",
        flags=_I,
        guard=_GIVEAWAY_GUARDS,
    ),
)  # fmt: skip


def redact(text: str) -> str:
    """Return the text with every recognised secret replaced by ``[REDACTED]``."""
    if not text.isascii():  # a long s and its like match where no guard finds them
        for rule in RULES:
            text = rule.pattern.sub(rule.replacement, text)
        return text
    lower = text.lower()
    for rule in RULES:
        for guard in rule.guards:
            if guard in lower:
                text = rule.pattern.sub(rule.replacement, text)
                break
    return text


def redact_values(values: Mapping[str, str]) -> dict[str, str]:
    """Return labels or annotations without secrets: a value whose name gives it away is hidden as a whole."""
    return {key: PLACEHOLDER if _gives_away(key) else redact(value) for key, value in values.items()}


def redact_json(value: Any, depth: int = MAX_DEPTH, clean: Callable[[str], str] = redact) -> Any:
    """Return a JSON value without secrets and with its shape: texts are redacted, what a name gives away is hidden as a whole.

    What lies deeper than ``depth`` is hidden. ``clean`` is what redacts a text. A link to where an alert was made is judged
    by what it holds: in running text its end is uncertain, here it is not.
    """
    if isinstance(value, str):
        return clean(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth == 0:
        return PLACEHOLDER
    if isinstance(value, Mapping):
        return {
            key: PLACEHOLDER if item and _hides(str(key)) else redact_json(item, depth - 1, clean)
            for key, item in value.items()
        }
    return [redact_json(item, depth - 1, clean) for item in value]


def _hides(name: str) -> bool:
    return name != "generatorURL" and _gives_away(name)


@lru_cache(4096)
def _gives_away(name: str) -> bool:
    probe = f"{name}: x"
    return redact(probe) != probe
