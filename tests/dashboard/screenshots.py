"""Pictures of every page for the documentation, of a folder that `medfusion demo` has written."""

import argparse
import sys
import tempfile
from pathlib import Path

from browsing import CHROMIUM, FLAGS, at_rest, open_first
from playwright.sync_api import Page, sync_playwright
from reviewing import what_if
from serving import WAIT_SECONDS, dashboard

SIZE = {"width": 1280, "height": 900}
LOOKS = {
    "light": {"color_scheme": "light", "locale": "en-GB"},
    "dark": {"color_scheme": "dark", "locale": "en-GB"},
    "korean": {"color_scheme": "light", "locale": "ko-KR"},
}
"""By the end of the file's name."""
PAGES = {"reports": "cohort", "model": "model", "audit": "audit"}
"""By address: name of the file."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    demo = args.demo.resolve()
    options = ["--cohort", demo / "new-patients", "--model", demo / "model", "--training", demo / "cohort"]
    options += ["--cache", demo / "cache", "--report", demo / "evaluation"]
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        reviews = f"sqlite:///{work}/reviews.db"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with dashboard(demo / "scores", Path(work), *options, "--reviews", reviews) as server:
            for look, chosen in LOOKS.items():
                page = browser.new_context(viewport=SIZE, **chosen).new_page()
                page.set_default_timeout(1000 * WAIT_SECONDS)
                page.goto(server.url)
                _every_page(page, args.out, look)
        browser.close()
    return 0


def _every_page(page: Page, out: Path, look: str) -> None:
    page.locator("tbody tr").first.wait_for()
    _take(page, out / f"worklist-{look}.png")
    open_first(page)
    images = page.frame_locator("iframe").first
    images.locator("#where").wait_for()
    _take(page, out / f"patient-{look}.png")
    if look != "light":
        return
    images.locator("#heat").check()
    page.locator("iframe").first.scroll_into_view_if_needed()
    _take(page, out / "patient-film.png")
    what_if(page, "lactate", "2")
    page.get_by_test_id("stMetric").filter(has_text="Hypothetical").scroll_into_view_if_needed()
    _take(page, out / "patient-what-if.png")
    for address, name in PAGES.items():
        page.locator(f'[data-testid="stSidebarNav"] a[href$="/{address}"]').click()
        page.wait_for_url(f"**/{address}")
        _take(page, out / f"{name}.png")


def _take(page: Page, file: Path) -> None:
    """Take a picture of a page that has come to rest."""
    at_rest(page)
    page.wait_for_timeout(1500)
    page.screenshot(path=file)


if __name__ == "__main__":
    sys.exit(main())
