"""The console in a real browser, over a real API server: what a person sees, clicks, and sees change without reloading.

Needs Debian's chromium. KUBERNAUT_SCREENSHOTS names a folder to keep pictures in.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from kubernaut_ray import clock, names
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings
from serve_apps.console.app import Deps, create_app
from tests.serve_apps.console.world import Gatekeeper, Scene, Trail
from tests.serving import serving

pytestmark = pytest.mark.integration

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAITING = "rr-ab12cd34ef56-00000001"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def scene(kube: KubeClient, namespace: str) -> Scene:
    made = Scene(kube, namespace, clock.utcnow())
    await made.failed()
    await made.fixed()
    await made.waiting()
    return made


@pytest.fixture
async def console(kube: KubeClient, namespace: str, scene: Scene) -> AsyncIterator[str]:
    settings = Settings(namespace=namespace, cluster_name="production-eu")
    deps = Deps(kube, settings, Trail(scene.now), Gatekeeper())
    async with serving(create_app(deps)) as url:
        yield url


async def log_in(browser: Browser, url: str, *, dark: bool = False) -> tuple[Page, list[str]]:
    """Log in as amy. The list collects everything that the browser complains about."""
    context = await browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="dark" if dark else "light", locale="en-GB"
    )
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(url)
    await picture(page, f"login-{'dark' if dark else 'light'}")
    await page.get_by_label("Bearer token").fill("amy")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Remediations")).to_be_visible()
    return page, complaints


async def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("KUBERNAUT_SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


async def test_list_detail_approve(browser: Browser, console: str, kube: KubeClient, namespace: str) -> None:
    """Log in, find what waits, read why, approve; the pages follow the cluster by themselves, and nothing is complained of."""
    page, complaints = await log_in(browser, console)
    await expect(page.locator("tbody tr")).to_have_count(3)
    await expect(page.get_by_text("1 waiting for approval")).to_be_visible()
    await picture(page, "list-light")

    await page.locator("tbody tr", has_text="Awaiting approval").click()
    await expect(page.get_by_role("heading", name="KubePodOOMKilled")).to_be_visible()
    await expect(page.get_by_text("below what revision 4 needs")).to_be_visible()
    await expect(page.get_by_text("Chosen: increase-memory 1.0.0")).to_be_visible()
    await expect(page.get_by_text("gateway.crd.created")).to_be_hidden()
    await page.get_by_text("Audit trail,").click()
    await expect(page.get_by_text("gateway.crd.created")).to_be_visible()
    await picture(page, "waiting-light")

    await page.get_by_role("button", name="Reject").click()  # The browser asks for the reason itself.
    await expect(page.get_by_role("button", name="Approve")).to_be_visible()
    await page.get_by_label("Why?").fill("looks right, ")

    # The cluster moves on while somebody types: the page follows, the text stays.
    status = {"status": {"message": "Still waiting: two of three pods are down"}}
    await kube.patch(resources.REMEDIATION_REQUEST, WAITING, status, namespace, subresource="status")
    await expect(page.get_by_text("two of three pods are down")).to_be_visible(timeout=10_000)
    await expect(page.get_by_label("Why?")).to_have_value("looks right, ")

    await page.get_by_label("Why?").press_sequentially("go")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("status")).to_contain_text("Approved.")
    await expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    request = await kube.get(resources.APPROVAL_REQUEST, names.approval_request(WAITING), namespace)
    assert request["status"]["decision"] == "Approved"
    assert (request["status"]["decidedBy"], request["status"]["decidedVia"]) == ("amy", "console")
    assert request["status"]["decisionMessage"] == "looks right, go"

    status = {"status": {"overallPhase": "Executing", "executingStartTime": clock.rfc3339(clock.utcnow())}}
    await kube.patch(resources.REMEDIATION_REQUEST, WAITING, status, namespace, subresource="status")
    await expect(page.locator("#live-head .pill", has_text="Executing")).to_be_visible(timeout=10_000)
    await picture(page, "approved-light")
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert complaints == []


async def test_dark_and_narrow(browser: Browser, console: str) -> None:
    """The dark theme follows the system and can be switched; on a narrow screen nothing runs out of the page."""
    page, complaints = await log_in(browser, console, dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = await page.evaluate(background)
    await page.get_by_role("button", name="Switch between dark and light").click()
    assert await page.evaluate(background) != dark
    await page.reload()
    assert await page.evaluate(background) != dark
    await page.get_by_role("button", name="Switch between dark and light").click()
    await picture(page, "list-dark")
    await page.locator("tbody tr", has_text="KubeDeploymentReplicasMismatch").click()
    await expect(page.get_by_text("128Mi → 512Mi")).to_be_visible()
    await picture(page, "fixed-dark")
    await page.set_viewport_size({"width": 420, "height": 800})
    overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    await picture(page, "fixed-narrow")
    assert complaints == []


async def test_a_lost_server_is_said(browser: Browser, kube: KubeClient, namespace: str, scene: Scene) -> None:
    """When the console is gone, the page that is still open says that it is not connected."""
    settings = Settings(namespace=namespace)
    async with serving(create_app(Deps(kube, settings, Trail(scene.now), Gatekeeper()))) as url:
        page, _ = await log_in(browser, url)
        await expect(page.get_by_text("not connected")).to_be_hidden()
    await expect(page.get_by_text("not connected")).to_be_visible(timeout=10_000)
