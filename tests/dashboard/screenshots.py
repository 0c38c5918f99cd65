"""Pictures of every page for the documentation, of a folder that `medfusion demo` has written."""

import argparse
import sys
import tempfile
from pathlib import Path

from browsing import CHROMIUM, FLAGS
from playwright.sync_api import Page, sync_playwright
from serving import WAIT_SECONDS, dashboard

SIZE = {"width": 1280, "height": 900}
LOOKS = {
    "light": {"color_scheme": "light", "locale": "en-GB"},
    "dark": {"color_scheme": "dark", "locale": "en-GB"},
    "korean": {"color_scheme": "light", "locale": "ko-KR"},
}
"""By the end of the file's name."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    demo = args.demo.resolve()
    options = ["--cohort", demo / "new-patients", "--model", demo / "model"]
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        reviews = f"sqlite:///{work}/reviews.db"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with dashboard(demo / "scores", Path(work), *options, "--reviews", reviews) as server:
            for look, chosen in LOOKS.items():
                page = browser.new_context(viewport=SIZE, **chosen).new_page()
                page.set_default_timeout(1000 * WAIT_SECONDS)
                page.goto(server.url)
                page.locator("tbody tr").first.wait_for()
                _take(page, args.out / f"worklist-{look}.png")
                page.locator("button.open").first.click()
                page.wait_for_url("**/patient")
                _take(page, args.out / f"patient-{look}.png")
        browser.close()
    return 0


def _take(page: Page, file: Path) -> None:
    """Take a picture of a page that has come to rest."""
    page.locator("[data-test-script-state=notRunning]").wait_for(state="attached")
    page.wait_for_timeout(1500)
    page.screenshot(path=file)


if __name__ == "__main__":
    sys.exit(main())
