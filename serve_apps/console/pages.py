"""Templates to HTML. A page is made of live regions: each knows a hash of itself, and a poll is answered with the changed ones.

Nothing that merely grows older changes a region's hash (ages are drawn by the browser), so what a person types into a form
is never replaced under their hands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kubernaut_ray.contracts.timeline import run_kind
from serve_apps.console import session, views
from serve_apps.http import user_of

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
SEEN = "seen"


def _moment(instant: datetime | None) -> Markup:
    """A time element; the browser shows it as an age or in its own zone."""
    if instant is None:
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(
        instant.isoformat(), instant.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"words": views.words, "moment": _moment, "brief": views.brief}
    environment.globals |= {
        "phase_of": views.phase_of,
        "tone": views.tone,
        "outcome_tone": views.outcome_tone,
        "event_tone": views.event_tone,
        "told": views.told,
        "step_tone": views.step_tone,
        "brief_seconds": views.brief_seconds,
        "run_kind": run_kind,
    }
    return environment


class Pages:
    def __init__(self, cluster_name: str) -> None:
        self._environment = _environment()
        self._cluster_name = cluster_name

    def page(self, request: Request, template: str, regions: Sequence[str] = (), **context: Any) -> str:
        """Render a whole page; ``regions`` are the templates below ``regions/`` that the page shows live."""
        shared = self._shared(request, context)
        rendered = {name: self._wrap(name, self._region(name, shared), changed=False) for name in regions}
        return self._environment.get_template(template).render(**shared, regions=rendered)

    def changed(self, request: Request, regions: Sequence[str], **context: Any) -> str:
        """Render the regions whose hash the browser does not have yet."""
        shared = self._shared(request, context)
        seen = set(request.query_params.getlist(SEEN))
        html = {name: self._region(name, shared) for name in regions}
        return "".join(
            self._wrap(name, text, changed=True) for name, text in html.items() if _stamp(name, text) not in seen
        )

    def _region(self, name: str, context: Mapping[str, Any]) -> str:
        return self._environment.get_template(f"regions/{name}.html").render(**context)

    @staticmethod
    def _wrap(name: str, html: str, *, changed: bool) -> Markup:
        swap = Markup(' hx-swap-oob="true"') if changed else Markup()
        inner = Markup(html)  # noqa: S704 - rendered by our own templates, which escape
        frame = Markup('<div id="live-{}" class="region"{}><input type="hidden" name="{}" value="{}">{}</div>')
        return frame.format(name, swap, SEEN, _stamp(name, html), inner)

    def _shared(self, request: Request, context: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "base": request.scope.get("root_path", ""),
            "user": user_of(request).username,
            "cluster_name": self._cluster_name,
            "form_token": session.form_token(request),
            "form_field": session.FORM_FIELD,
            **context,
        }


def _stamp(name: str, html: str) -> str:
    return f"{name}:{hashlib.sha256(html.encode()).hexdigest()[:16]}"
