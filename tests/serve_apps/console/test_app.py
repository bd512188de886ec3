"""The console over HTTP: who gets in, what the pages hold, and what a click does to the approval request."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from kubernaut_ray import clock, names
from kubernaut_ray.crds.enums import RemediationPhase, StormType
from kubernaut_ray.crds.remediation_request import Member, Storm
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings
from serve_apps.console.app import Deps, create_app
from tests.serve_apps.console.world import Gatekeeper, Scene, Trail
from tests.serve_apps.gateway.world import World

WAITING = "rr-ab12cd34ef56-00000001"


@asynccontextmanager
async def console(
    client: KubeClient, trail: Trail | None = None, user: str = "amy"
) -> AsyncIterator[httpx.AsyncClient]:
    deps = Deps(client, Settings(), trail or Trail(clock.utcnow()), Gatekeeper())
    transport = httpx.ASGITransport(create_app(deps), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as http:
        if user:
            answer = await http.post("/login", data={"token": user})
            assert answer.status_code == 303
        yield http


def scene(world: World) -> Scene:
    world.time = clock.utcnow()
    return Scene(world, "kubernaut-system", world.time)


def form_token(page: str) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
    assert found
    return found[1]


async def approval(world: World) -> dict[str, Any]:
    obj = await world.get(resources.APPROVAL_REQUEST, names.approval_request(WAITING), "kubernaut-system")
    status: dict[str, Any] = obj.get("status") or {}
    return status


async def test_the_list_shows_all_states() -> None:
    """Every remediation is a row with its phase; those that wait are counted."""
    world = World()
    stage = scene(world)
    await stage.waiting()
    await stage.fixed()
    await stage.failed()
    async with console(world) as http:
        page = (await http.get("/")).text
        assert page.count('class="name"') == 3
        assert "1 waiting for approval" in page
        assert "Awaiting approval" in page
        assert (await http.get("/?show=open")).text.count('class="name"') == 1
        assert (await http.get("/?q=Mismatch")).text.count('class="name"') == 1
        assert "Nothing matches" in (await http.get("/?q=<b>")).text
        assert (await http.get("/?show=nonsense")).status_code == 400


async def test_the_detail_tells_the_whole_story() -> None:
    """Cause, evidence, workflow, approval, execution, notification and trail are on one page."""
    world = World()
    rr = await scene(world).fixed()
    async with console(world) as http:
        page = (await http.get(f"/remediations/{rr.name}")).text
    for expected in (
        "memory limit of 128Mi",
        "OOMKilled (exit code 137)",
        "increase-memory-limits",
        "86 %",
        "checked with the shop team",
        "by <b>amy</b>",
        "128Mi → 512Mi",
        "Fixed: KubePodOOMKilled",
        "gateway.crd.created",
        "1m 26s",
    ):
        assert expected in page, expected
    assert "Approve</button>" not in page


async def test_the_detail_lists_what_the_incident_took_with_it() -> None:
    """Every member below its workload, the storm in the heading, and text of others escaped."""
    world = World()
    members = tuple(
        Member(
            target=f"shop/deployment/w{n % 4}",
            resource=f"shop/pod/w{n % 4}-{n}<b>",
            signals=("KubePodNotReady",) if n else (),
            over=() if n else ("KubePodNotReady",),
            first_seen_at=clock.utcnow(),
        )
        for n in range(20)
    )
    storm = Storm(storm_type=StormType.RATE, window="1m", alert_count=812, detected_at=clock.utcnow())
    rr = await scene(world).remediation(WAITING, RemediationPhase.ANALYZING, 60, members=members, storm=storm)
    async with console(world) as http:
        page = (await http.get(f"/remediations/{rr.name}")).text
        live = await http.get(f"/remediations/{rr.name}/live")
    assert "It took 20 resources of 4 workloads (1 over) with it" in page
    assert "Part of a rate storm: 812 signals" in page
    assert page.count("<b>shop/deployment/w") == 4
    assert page.count("&lt;b&gt;") == 20
    assert "over: KubePodNotReady" in page
    assert "-3<b>" not in page
    assert "What it took with it" in live.text


async def test_without_members_there_is_no_such_section() -> None:
    """Most incidents are alone."""
    world = World()
    rr = await scene(world).fixed()
    async with console(world) as http:
        assert "took" not in (await http.get(f"/remediations/{rr.name}")).text


async def test_without_data_storage_the_page_says_so() -> None:
    """The trail is missing, the rest is there."""
    world = World()
    rr = await scene(world).fixed()
    trail = Trail(clock.utcnow())
    trail.away = True
    async with console(world, trail) as http:
        page = await http.get(f"/remediations/{rr.name}")
    assert page.status_code == 200
    assert "Data Storage does not answer" in page.text


async def test_the_account_is_on_the_page() -> None:
    """What happened in words, with when and who; what the trail lacks; and every event below."""
    world = World()
    rr = await scene(world).waiting()
    trail = Trail(clock.utcnow())
    trail.without = "signalprocessing.classification.decision"
    async with console(world, trail) as http:
        page = (await http.get(f"/remediations/{rr.name}")).text
        assert "Chosen: increase-memory 1.0.0 (confidence 0.90)" in page
        assert "Told by ops/log (approval)" in page
        assert "it was analysed unclassified" in page
        assert "it has not ended" not in page
        assert "aiagent.investigation.completed" in page
        trail.tells = False
        page = (await http.get(f"/remediations/{rr.name}")).text
    assert "Chosen:" not in page
    assert "aiagent.investigation.completed" in page


@pytest.mark.parametrize(("decision", "message"), [("Approved", ""), ("Rejected", "planned maintenance")])
async def test_a_decision_is_written_in_the_name_of_who_is_logged_in(decision: str, message: str) -> None:
    """The approval request holds decision, person, way and reason; what the form says about the person is ignored."""
    world = World()
    await scene(world).waiting()
    async with console(world) as http:
        page = (await http.get(f"/remediations/{WAITING}")).text
        assert "Approve</button>" in page
        form = {
            "form_token": form_token(page),
            "remediation": WAITING,
            "decision": decision,
            "message": message,
            "decidedBy": "mallory",
        }
        answer = await http.post(f"/approvals/{names.approval_request(WAITING)}", data=form)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/remediations/{WAITING}?result={decision.lower()}"
        written = await approval(world)
        assert (written["decision"], written["decisionMessage"]) == (decision, message)
        assert (written["decidedBy"], written["decidedVia"]) == ("amy", "console")
        again = await http.post(f"/approvals/{names.approval_request(WAITING)}", data=form | {"decision": "Approved"})
        assert again.headers["location"].endswith("result=already-decided")
        assert (await approval(world))["decision"] == decision
        assert "Nothing was changed" in (await http.get(again.headers["location"])).text


@pytest.mark.parametrize(
    ("change", "headers", "status"),
    [
        pytest.param({"form_token": "0" * 64}, {}, 403, id="a form of another session"),
        pytest.param({"form_token": ""}, {}, 403, id="no form token"),
        pytest.param({"form_token": "é"}, {}, 403, id="no ASCII"),
        pytest.param({}, {"Origin": "https://evil.example.org"}, 403, id="another origin"),
        pytest.param({}, {"Sec-Fetch-Site": "cross-site"}, 403, id="the browser says another site"),
        pytest.param({"decision": "Expired"}, {}, 400, id="a decision that people cannot take"),
        pytest.param({"decision": ""}, {}, 400, id="no decision"),
    ],
)
async def test_forged_forms_change_nothing(change: dict[str, str], headers: dict[str, str], status: int) -> None:
    """What does not come from a page of this session is refused and leaves the request undecided."""
    world = World()
    await scene(world).waiting()
    async with console(world) as http:
        page = (await http.get(f"/remediations/{WAITING}")).text
        form = {"form_token": form_token(page), "remediation": WAITING, "decision": "Approved", "message": "x"} | change
        answer = await http.post(f"/approvals/{names.approval_request(WAITING)}", data=form, headers=headers)
    assert answer.status_code == status
    assert "decision" not in await approval(world) or (await approval(world))["decision"] == ""


async def test_who_may_only_look_cannot_decide() -> None:
    """Looking and approving are two rights."""
    world = World()
    await scene(world).waiting()
    async with console(world, user="bob") as http:
        page = (await http.get(f"/remediations/{WAITING}")).text
        form = {"form_token": form_token(page), "decision": "Approved"}
        answer = await http.post(f"/approvals/{names.approval_request(WAITING)}", data=form)
    assert answer.status_code == 403


async def test_a_rejection_needs_a_reason_and_expiry_is_final() -> None:
    """Without a reason nothing is written; after the deadline nothing either."""
    world = World()
    await scene(world).waiting()
    url = f"/approvals/{names.approval_request(WAITING)}"
    async with console(world) as http:
        form = {"form_token": form_token((await http.get("/")).text), "remediation": WAITING, "decision": "Rejected"}
        assert (await http.post(url, data=form)).headers["location"].endswith("result=reason-missing")
        patch = {"status": {"expired": True}}
        name = names.approval_request(WAITING)
        await world.patch(resources.APPROVAL_REQUEST, name, patch, "kubernaut-system", subresource="status")
        late = await http.post(url, data=form | {"decision": "Approved"})
        assert late.headers["location"].endswith("result=expired")
        gone = await http.post("/approvals/rar-none", data=form | {"decision": "Approved"})
        assert gone.headers["location"].endswith("result=gone")
        hostile = await http.post("/approvals/rar-none", data=form | {"decision": "Approved", "remediation": "//evil"})
        assert hostile.headers["location"] == "/"


async def test_logging_in_and_out() -> None:
    """A browser without a session is sent to the form; a token that is not accepted says so; the cookie is hidden."""
    async with console(World(), user="") as http:
        sent = await http.get("/", headers={"Accept": "text/html"})
        assert (sent.status_code, sent.headers["location"]) == (303, "/login")
        assert (await http.get("/")).status_code == 401
        assert "not accepted" in (await http.post("/login", data={"token": "nobody"})).text
        assert "may not use" in (await http.post("/login", data={"token": "eve"})).text
        assert (await http.post("/login", json={})).status_code == 415

        answer = await http.post("/login", data={"token": "amy"})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        page = (await http.get("/")).text
        assert (await http.post("/logout", data={"form_token": "bad"})).status_code == 403
        out = await http.post("/logout", data={"form_token": form_token(page)})
        assert out.headers["location"] == "/login"
        assert (await http.get("/")).status_code == 401


async def test_polls_are_answered_with_what_changed_only() -> None:
    """A page that has the newest state gets 204; a changed region comes alone."""
    world = World()
    await scene(world).fixed()
    name = "rr-ab12cd34ef56-00000002"
    async with console(world) as http:
        page = (await http.get(f"/remediations/{name}")).text
        seen = [("seen", value) for value in re.findall(r'name="seen" value="([^"]+)"', page)]
        assert len(seen) == 9
        assert (await http.get(f"/remediations/{name}/live", params=seen)).status_code == 204
        patch = {"status": {"message": "something new"}}
        await world.patch(resources.REMEDIATION_REQUEST, name, patch, "kubernaut-system", subresource="status")
        changed = (await http.get(f"/remediations/{name}/live", params=seen)).text
        assert changed.count('hx-swap-oob="true"') == 1
        assert "something new" in changed
        listed = (await http.get("/")).text
        seen = [("seen", value) for value in re.findall(r'name="seen" value="([^"]+)"', listed)]
        assert (await http.get("/live", params=seen)).status_code == 204


async def test_text_from_outside_is_escaped_and_scripts_are_forbidden() -> None:
    """Markup in a signal, a message or a user name is text; the policy allows no inline script or style."""
    world = World()
    evil = "<script>alert(1)</script>"
    await scene(world).fixed()
    name = "rr-ab12cd34ef56-00000002"
    patch = {"status": {"message": evil, "failureReason": '"><img src=x onerror=alert(1)>'}}
    await world.patch(resources.REMEDIATION_REQUEST, name, patch, "kubernaut-system", subresource="status")
    async with console(world, user="") as http:
        http.headers["Authorization"] = f"Bearer {evil}"
        answer = await http.get(f"/remediations/{name}")
    assert evil not in answer.text
    assert "<img" not in answer.text
    assert "&lt;script&gt;" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script>|style=|onclick=", answer.text)


async def test_objects_edited_into_nonsense_are_shown_as_such() -> None:
    """One unreadable object is named on the page; the others are shown."""
    world = World()
    stage = scene(world)
    await stage.fixed()
    await stage.failed()
    name = "rr-ab12cd34ef56-00000003"
    world.objects["RemediationRequest", "kubernaut-system", name]["status"]["overallPhase"] = "Levitating"
    async with console(world) as http:
        page = (await http.get("/")).text
        assert page.count('class="name"') == 1
        assert f"RemediationRequest {name}" in page
        assert (await http.get(f"/remediations/{name}")).status_code == 500
        missing = await http.get("/remediations/rr-none")
        assert (missing.status_code, "There is no remediation" in missing.text) == (404, True)
        assert (await http.get("/remediations/rr-none/live")).status_code == 204


async def test_under_a_prefix_all_links_carry_it() -> None:
    """Behind a route prefix, links, forms, cookie and redirects stay below it."""
    world = World()
    await scene(world).waiting()
    app = create_app(Deps(world, Settings(), Trail(clock.utcnow()), Gatekeeper()))
    transport = httpx.ASGITransport(app, root_path="/console")
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as http:
        answer = await http.post("/console/login", data={"token": "amy"})
        assert answer.headers["location"] == "/console/"
        assert "Path=/console" in answer.headers["set-cookie"]
        for path in ("/console/", f"/console/remediations/{WAITING}"):
            page = (await http.get(path)).text
            links = re.findall(r'(?:href|src|action|hx-get)="(/[^"]*)"', page)
            assert links
            assert all(link.startswith("/console/") for link in links)
        assert (await http.get("/console/static/console.css")).status_code == 200
