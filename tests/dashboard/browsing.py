"""Which browser, started how; and what every reader does in it."""

import re
import shutil
from collections.abc import Callable

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
"""It asks nothing of the network by itself, and draws WebGL without a graphics card."""


def open_first(page: Page) -> str:
    """Open the first patient of a worklist, and return the name."""
    first = page.locator("tbody tr").first.get_by_role("button")
    first.wait_for()
    name = str(first.inner_text())
    first.click()
    page.wait_for_url("**/patient")
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    return name


def at_rest(page: Page) -> None:
    """Wait until a page is drawn; while it is drawn anew, what is old is pale."""
    page.locator("[data-test-script-state=notRunning]").wait_for(state="attached")
    page.wait_for_timeout(500)


def sign_in(visit: Callable[..., Page], url: str, name: str) -> Page:
    """Sign in with the provider of the tests."""
    page = visit(url)
    expect(page.get_by_text("Sign in to see patients.")).to_be_visible()
    assert page.locator("tbody").count() == 0
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name=name).click()
    page.wait_for_url(re.compile(re.escape(url)))
    return page


def serious(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe finds serious or critical: rules, with the elements that break them."""
    found = Axe().run(page).response["violations"]
    worst = [each for each in found if each["impact"] in {"serious", "critical"}]
    return [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in worst]
