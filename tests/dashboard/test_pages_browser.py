"""Pages beside the worklist, in a real browser: what axe says of them, and Korean."""

import pytest
from browsing import at_rest, open_first, serious
from playwright.sync_api import expect
from reviewing import what_if
from serving import dashboard

from medfusion.pipeline import evaluate_model


@pytest.fixture(scope="module")
def server(scored, synthetic, new_patients, trained, cache, tmp_path_factory):
    """Return a dashboard with everything, an evaluation included."""
    work = tmp_path_factory.mktemp("pages")
    evaluate_model(trained.folder, synthetic.folder, work / "evaluation", cache=cache)
    options = ["--cohort", new_patients.folder, "--model", trained.folder, "--training", synthetic.folder]
    options += ["--report", work / "evaluation", "--reviews", f"sqlite:///{work}/reviews.db"]
    with dashboard(scored, work, *options) as running:
        yield running


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(server, visit, scheme):
    page = visit(server.url, color_scheme=scheme)
    open_first(page)
    page.frame_locator("iframe").locator("#heat").wait_for()
    what_if(page, "lactate", "2")
    found = {"Patient": _checked(page)}
    for name in ("Cohort", "Model", "Audit trail"):
        page.get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", name=name, level=1, exact=True)).to_be_visible()
        found[name] = _checked(page)
    assert {name: what for name, what in found.items() if what} == {}


def _checked(page):
    at_rest(page)
    return serious(page)


def test_a_patient_is_told_in_korean(server, visit):
    page = visit(server.url, locale="ko-KR")
    open_first(page)
    expect(page.get_by_role("note")).to_have_text("연구 전용입니다. 의료기기가 아닙니다.")
    for heading in ("근거", "판단", "자료 없음", "유사 환자"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.get_by_text("가정 분석")).to_be_visible()
