"""The worklist in a real browser, as a reader meets it."""

import re

import pytest
from browsing import at_rest, serious
from playwright.sync_api import expect


def rows(page):
    page.locator("tbody tr").first.wait_for()
    return page.locator("tbody tr")


def risks(page):
    return [float(text.rstrip("%")) for text in page.locator(".risk").all_inner_texts()]


def test_the_worklist_shows_who_is_most_at_risk_first(server, visit):
    page = visit(server.url)
    assert rows(page).count() == 25
    shown = risks(page)
    assert shown == sorted(shown, reverse=True)
    expect(page.get_by_role("note")).to_have_text("Research use only. Not a medical device.")
    expect(page.get_by_text("Without sign-in: for this machine only")).to_be_visible()


def test_a_filter_by_name_leaves_the_others_out(server, visit, new_patients):
    page = visit(server.url)
    rows(page)
    page.get_by_role("textbox", name="Patient").fill("P100005")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(2)
    assert set(page.locator("button.open").all_inner_texts()) == {"P100005"}


def test_a_heading_sorts_and_sorts_back(server, visit):
    page = visit(server.url)
    rows(page)
    page.get_by_role("button", name="Risk", exact=True).click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Risk")
    shown = risks(page)
    assert shown == sorted(shown)


def test_a_patient_is_opened_with_the_keyboard_and_is_not_in_the_address(server, visit):
    page = visit(server.url)
    first = rows(page).first.get_by_role("button")
    name = first.inner_text()
    first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/patient"))
    expect(page.get_by_text(name).first).to_be_visible()
    assert name not in page.url
    assert name not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert name not in server.log.read_text(encoding="utf-8")


def test_korean_is_one_choice_away_and_comes_first_for_a_korean_browser(server, visit):
    page = visit(server.url, locale="ko-KR")
    rows(page)
    expect(page.get_by_role("heading", name="워크리스트")).to_be_visible()
    expect(page.get_by_role("note")).to_have_text("연구 전용입니다. 의료기기가 아닙니다.")
    page = visit(server.url)
    rows(page)
    page.get_by_role("combobox", name=re.compile("Language")).click()
    page.get_by_role("option", name="한국어").click()
    expect(page.get_by_role("heading", name="워크리스트")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1024])
def test_axe_finds_nothing_serious_on_the_worklist(server, visit, scheme, width):
    page = visit(server.url, color_scheme=scheme, viewport={"width": width, "height": 900})
    rows(page)
    at_rest(page)
    assert serious(page) == []
