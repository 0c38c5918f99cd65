"""A real folder of scores, a real server, a real browser."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsing import CHROMIUM, FLAGS
from serving import WAIT_SECONDS, Server, dashboard

from dashboards import language, settings
from medfusion.pipeline import score


@pytest.fixture(autouse=True)
def english_again():
    yield
    language.use("en")


@pytest.fixture(scope="session")
def scored(trained, new_patients, cache, tmp_path_factory) -> Path:
    """Return the scores of `new_patients`; nobody may change them."""
    folder = tmp_path_factory.mktemp("scored") / "scores"
    score(trained.folder, new_patients.folder, folder, cache=cache, part_size=10)
    return folder


@pytest.fixture
def told(scored, new_patients, trained, tmp_path, monkeypatch) -> Callable[..., None]:
    """Return a function that gives the settings of a dashboard to pages that run in this process."""

    def tell(**changes):
        said = {
            "scores": scored,
            "cohort": new_patients.folder,
            "model": trained.folder,
            "reviews": f"sqlite:///{tmp_path / 'reviews.db'}",
            **changes,
        }
        monkeypatch.setenv(settings.VARIABLE, json.dumps(said, default=str))

    return tell


@pytest.fixture(scope="module")
def server(scored, new_patients, trained, tmp_path_factory) -> Iterator[Server]:
    """Return a dashboard on loopback, without sign-in."""
    work = tmp_path_factory.mktemp("server")
    options = ["--cohort", new_patients.folder, "--model", trained.folder, "--reviews", f"sqlite:///{work}/reviews.db"]
    with dashboard(scored, work, *options) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    """Return Debian's Chromium."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * WAIT_SECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Return a function that opens a page in a context of its own; none may ask anything but loopback."""
    contexts, asked = [], set()

    def open_page(url, **options):
        context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(1000 * WAIT_SECONDS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.add(request.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))] == []
