"""Renders one notification for each kind of channel, with every secret taken out first.

The body is a small subset of Markdown (``##`` headings, ``**bold**``, ``- `` lists, backticks, fenced blocks). Here it becomes
plain text, Slack's mrkdwn, HTML, or Teams' card elements; nothing else in the package knows about markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubernaut_ray import clock
from kubernaut_ray.crds.enums import NotificationPriority, NotificationType
from kubernaut_ray.crds.notification_request import ActionLink, NotificationRequest
from kubernaut_ray.redact import redact

DUPLICATE = "Possible duplicate: an earlier attempt to send this message ended unseen."
EMOJI: Mapping[NotificationPriority, str] = {
    NotificationPriority.CRITICAL: "🚨",
    NotificationPriority.HIGH: "⚠️",
    NotificationPriority.MEDIUM: "ℹ️",
    NotificationPriority.LOW: "💬",
}
SLACK_TEXT = 3000
SLACK_BLOCKS = 48
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Message:
    """One message, already redacted. ``key`` and ``attempt`` say which delivery this is."""

    name: str
    namespace: str
    uid: str
    key: str
    attempt: int
    type: NotificationType
    priority: NotificationPriority
    subject: str
    body: str
    created: datetime
    remediation: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    links: tuple[ActionLink, ...] = ()
    possible_duplicate: bool = False


def message(notification: NotificationRequest, key: str, attempt: int, *, possible_duplicate: bool = False) -> Message:
    """Take a notification's content, without its secrets."""
    spec = notification.spec
    reference = spec.remediation_request_ref
    return Message(
        name=notification.name,
        namespace=notification.namespace,
        uid=notification.uid,
        key=key,
        attempt=attempt,
        type=spec.type,
        priority=spec.priority,
        subject=" ".join(redact(spec.subject).split()),
        body=redact(spec.body),
        created=notification.created,
        remediation=reference.name if reference else "",
        metadata={name: redact(value) for name, value in spec.metadata.items()},
        links=spec.action_links,
        possible_duplicate=possible_duplicate,
    )


def document(message: Message) -> dict[str, Any]:
    """The message as data, for files and webhooks. Stable: fields are added, never renamed."""
    return {
        "version": "1",
        "name": message.name,
        "namespace": message.namespace,
        "uid": message.uid,
        "type": str(message.type),
        "priority": str(message.priority),
        "subject": message.subject,
        "body": message.body,
        "remediationRequest": message.remediation,
        "createdAt": clock.rfc3339(message.created),
        "metadata": dict(message.metadata),
        "actionLinks": [link.to_object() for link in message.links],
        "delivery": {"key": message.key, "attempt": message.attempt, "possibleDuplicate": message.possible_duplicate},
    }


def plain(message: Message) -> str:
    """Text without markup but with its structure."""
    lines: list[str] = [DUPLICATE, ""] if message.possible_duplicate else []
    for kind, text in _lines(message.body):
        match kind:
            case "heading":
                lines += [text, "-" * len(text)]
            case "code":
                lines.append(f"    {text}")
            case _:
                lines.append(_BOLD.sub(r"\1", text))
    lines += [f"{link.label}: {link.url}" for link in message.links]
    return "\n".join(lines) + "\n"


def slack(message: Message) -> dict[str, Any]:
    """Block Kit: header, sections, context. Texts are cut to what Slack takes."""
    header = f"{EMOJI.get(message.priority, '📢')} {message.subject}"[:150]
    body = _slack_text(message.body)
    sections = [{"type": "section", "text": {"type": "mrkdwn", "text": part}} for part in _parts(body, SLACK_TEXT)]
    facts = [f"*{name}* {_slack_escape(value)}" for name, value in _facts(message)]
    context = {"type": "context", "elements": [{"type": "mrkdwn", "text": "  |  ".join(facts)[:SLACK_TEXT]}]}
    blocks: list[dict[str, Any]] = [{"type": "header", "text": {"type": "plain_text", "text": header, "emoji": True}}]
    if message.possible_duplicate:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"_{DUPLICATE}_"}]})
    blocks += [*sections[: SLACK_BLOCKS - 3], context]
    if message.links:
        text = "  ".join(f"<{link.url}|{_slack_escape(link.label)}>" for link in message.links)
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text[:SLACK_TEXT]}})
    return {"text": header, "blocks": blocks}


def as_html(message: Message) -> str:
    """A whole document for mail readers: no style sheets, no images, nothing remote."""
    parts: list[str] = [f"<p><em>{DUPLICATE}</em></p>"] if message.possible_duplicate else []
    state = ""
    closing = {"list": "</ul>", "code": "</pre>"}
    opening = {"list": "<ul>", "code": "<pre>"}
    for kind, text in _lines(message.body):
        if kind != state:
            parts += [closing[state]] if state in closing else []
            parts += [opening[kind]] if kind in opening else []
            state = kind
        match kind:
            case "heading":
                parts.append(f"<h3>{_html_inline(text)}</h3>")
            case "list":
                parts.append(f"<li>{_html_inline(text.removeprefix('- '))}</li>")
            case "code":
                parts.append(html.escape(text))
            case _ if text:
                parts.append(f"<p>{_html_inline(text)}</p>")
    parts += [closing[state]] if state in closing else []
    parts += [f'<p><a href="{html.escape(link.url)}">{html.escape(link.label)}</a></p>' for link in message.links]
    return "<!doctype html>\n<html><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def adaptive_card(message: Message) -> dict[str, Any]:
    """A Teams message with one Adaptive Card 1.4."""
    body: list[dict[str, Any]] = [
        {
            "type": "TextBlock",
            "size": "Large",
            "weight": "Bolder",
            "wrap": True,
            "text": f"{EMOJI.get(message.priority, '📢')} {message.subject}",
        }
    ]
    if message.possible_duplicate:
        body.append({"type": "TextBlock", "wrap": True, "isSubtle": True, "text": DUPLICATE})
    for kind, text in _lines(message.body):
        if not text:
            continue
        block: dict[str, Any] = {"type": "TextBlock", "wrap": True, "text": text, "spacing": "Small"}
        if kind == "heading":
            block |= {"weight": "Bolder", "spacing": "Medium"}
        elif kind == "code":
            block |= {"fontType": "Monospace"}
        body.append(block)
    facts = [{"title": name, "value": value} for name, value in _facts(message)]
    body.append({"type": "FactSet", "facts": facts})
    actions = [{"type": "Action.OpenUrl", "title": link.label, "url": link.url} for link in message.links]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body[:200],
        **({"actions": actions} if actions else {}),
    }
    content = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [content]}


def _facts(message: Message) -> Iterator[tuple[str, str]]:
    yield "Type", str(message.type)
    yield "Priority", str(message.priority)
    if message.remediation:
        yield "Remediation", message.remediation
    yield "Notification", message.name


def _lines(body: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text): ``heading``, ``list``, ``code`` or ``text``; the fences themselves are left out."""
    fenced = False
    for line in body.splitlines():
        if line.strip() == "```":
            fenced = not fenced
        elif fenced:
            yield "code", line
        elif line.startswith("## "):
            yield "heading", line.removeprefix("## ")
        elif line.startswith("- "):
            yield "list", line
        else:
            yield "text", line


def _slack_escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _slack_text(body: str) -> str:
    lines: list[str] = []
    fenced = False
    for kind, text in _lines(body):
        if fenced != (kind == "code"):
            lines.append("```")
            fenced = not fenced
        escaped = _slack_escape(text)
        match kind:
            case "heading":
                lines.append(f"*{escaped}*")
            case "list":
                lines.append("• " + _BOLD.sub(r"*\1*", escaped.removeprefix("- ")))
            case "code":
                lines.append(escaped)
            case _:
                lines.append(_BOLD.sub(r"*\1*", escaped))
    return "\n".join([*lines, "```"] if fenced else lines)


def _parts(text: str, size: int) -> Iterator[str]:
    """Cut into parts that fit, at line ends where possible; a fenced block that is cut is closed and opened again."""
    part, fenced = "", False
    for whole in text.split("\n"):
        rest = whole
        while True:
            room = size - len(part) - 9
            if len(rest) <= room:
                break
            if part.strip("`\n "):
                yield part + ("\n```" if fenced else "")
                part = "```" if fenced else ""
            else:
                yield part + rest[:room] + ("\n```" if fenced else "")
                rest = rest[room:]
        part = f"{part}\n{rest}" if part else rest
        if whole == "```":
            fenced = not fenced
    if part.strip("`\n "):
        yield part


def _html_inline(text: str) -> str:
    escaped = html.escape(text)
    return _CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<strong>\1</strong>", escaped))
