"""The console decides with the person's own token, so that it is the API server that says who it was."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from kubernaut_ray import clock
from serve_apps.console.app import Deps, create_app
from serve_apps.console.session import COOKIE
from serve_apps.http import KubeGate
from tests.serve_apps.admission.world import ANN, BOB, World, world
from tests.serve_apps.console.world import Trail


async def click(it: World, person: str, name: str, decision: str) -> str:
    """Decide on the page as this person; returns what the console says of it."""
    platform = it.of("platform")
    app = create_app(Deps(platform, it.settings, Trail(clock.utcnow()), KubeGate(platform)))
    transport = httpx.ASGITransport(app=app)
    cookies = {COOKIE: it.tokens[person]}
    async with httpx.AsyncClient(transport=transport, base_url="http://console", cookies=cookies) as http:
        page = (await http.get("/")).text
        token = re.search(r'name="form_token" value="([0-9a-f]+)"', page)
        assert token is not None, page[:2000]
        form = {"form_token": token[1], "remediation": "rr-1", "decision": decision, "message": "no"}
        answer = await http.post(f"/approvals/{name}", data=form)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"].partition("result=")[2]


async def test_a_click_is_the_persons_own(tmp_path: Path) -> None:
    """Stamped with who is logged in; one of two is recorded; the same person again is refused."""
    async with world(tmp_path / "world") as it:
        asked = await it.ask("rr-1", required_approvals=2)
        assert await click(it, ANN, asked.name, "Approved") == "recorded"
        assert await click(it, ANN, asked.name, "Approved") == "refused"
        assert await click(it, BOB, asked.name, "Approved") == "approved"
        status = (await it.found(asked.name)).status
        assert [(r.by, r.via) for r in status.approvals] == [(ANN, "console"), (BOB, "console")]
        assert status.decided_by == BOB
