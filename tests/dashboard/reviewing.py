"""What a reader does in a minute: from the worklist to a decision and back, step by step."""

import re
from collections.abc import Collection
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pypdf
from browsing import at_rest
from PIL import Image
from playwright.sync_api import FrameLocator, Page, expect
from serving import Server

from dashboards.language import number, percent, term
from dashboards.reasons import unit_text
from medfusion.outputs.ledger import signed
from medfusion.pipeline import Desk, Patient
from medfusion.review import Action, Decision, ReviewStore, Verdict

REASON = "the sample was haemolysed"
PAGE = 25
"""Rows of the worklist's first page."""


class Watch:
    """Everything that a page leaves behind where others may read it."""

    def __init__(self, page: Page) -> None:
        self.page, self.left = page, [page.url]
        page.on("framenavigated", lambda frame: self.left.append(frame.url))
        page.on("request", lambda request: self.left.append(request.url))
        page.on("console", lambda message: self.left.append(message.text))
        page.on("pageerror", lambda error: self.left.append(str(error)))
        page.on("download", lambda download: self.left.append(download.suggested_filename))

    def names(self, subjects: Collection[str], log: str) -> list[str]:
        """Return which of addresses, messages, names of files, what the browser keeps, and a log name somebody."""
        at_rest(self.page)
        kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, document.title])"
        left = [*self.left, *(frame.evaluate(kept) for frame in self.page.frames), log]
        assert len(left) > 10
        anybody = re.compile("|".join(rf"\b{re.escape(subject)}\b" for subject in subjects))
        return [text for text in left if anybody.search(text)]


def review(page: Page, server: Server, scores: Path, desk: Desk) -> Decision:
    """Find a patient, look at the film, ask what if, override, print, and see all of it in worklist and trail."""
    watch, rows = Watch(page), by_risk(scores)
    place = next(n for n, row in enumerate(rows[:PAGE]) if row["present_imaging"] and row["present_ehr"])
    row = rows[place]
    subject, risk = row["subject_id"], percent(row["risk"])
    listed = page.locator("tbody tr").nth(place)
    expect(listed).to_contain_text(risk)
    listed.get_by_role("button", name=subject).click()
    expect(page.get_by_role("heading", name=subject, exact=True)).to_be_visible()
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(risk)

    heat_colours_the_picture(page)
    a_changed_value_moves_risk_and_ledger(page, desk.patient(subject, row["prediction_time"]), risk)
    override(page, REASON)
    the_printed_report_says(page, subject, risk, REASON)
    page.get_by_role("link", name="Worklist").click()
    expect(listed).to_contain_text("Overrides")
    expect(listed).to_contain_text("1 reader")
    the_trail_shows(page, subject, Action.VIEW, Action.WHAT_IF, Action.DECISION, Action.EXPORT)

    store = ReviewStore.open(f"sqlite:///{server.log.with_name('reviews.db')}")
    (decision,) = store.decisions()
    assert (decision.about.subject_id, decision.verdict, decision.reason) == (subject, Verdict.OVERRIDE, REASON)
    assert (decision.about.input_hash, decision.about.model_id) == (row["input_hash"], row["model_id"])
    assert store.verify().ok
    assert watch.names({each["subject_id"] for each in rows}, server.log.read_text(encoding="utf-8")) == []
    return decision


def by_risk(scores: Path) -> list[dict]:
    """Return predictions in the order of the worklist."""
    table = pq.read_table(scores / "predictions.parquet").to_pylist()
    return sorted(table, key=lambda row: (-row["risk"], row["subject_id"], row["prediction_time"]))


def heat_colours_the_picture(page: Page) -> None:
    images = page.frame_locator("iframe").first
    images.locator("#heat").wait_for()
    images.locator("#heat").uncheck()
    plain = coloured(images)
    images.locator("#heat").check()
    assert coloured(images) > plain + 0.01


def coloured(images: FrameLocator) -> float:
    """Return which part of the picture is not grey."""
    images.locator("#stage").page.wait_for_timeout(500)
    seen = np.asarray(Image.open(BytesIO(images.locator("#stage").screenshot())).convert("RGB")).astype(int)
    return float((np.ptp(seen, axis=2) > 20).mean())


def a_changed_value_moves_risk_and_ledger(page: Page, patient: Patient, risk: str) -> None:
    name, value, end, expected = telling(patient)
    said = f"{term(value.name)}: {number(value.value)} {unit_text(value.unit)}".rstrip()
    what_if(page, said, f"{end:.6g}")
    panel = page.get_by_test_id("stExpander").filter(has_text="What if?")
    figures = panel.get_by_test_id("stMetric")
    expect(figures.filter(has_text="Hypothetical")).to_contain_text(percent(expected.explanation.risk))
    expect(figures.filter(has_text="As recorded")).to_contain_text(risk)
    way = "Up" if expected.explanation.risk > patient.report().explanation.risk else "Down"
    expect(figures.get_by_test_id(f"stMetricDeltaIcon-{way}")).to_be_visible()
    expect(panel.get_by_test_id("stAlert")).to_contain_text("Hypothetical: nothing here is recorded")
    moved = panel.locator(".mf-fall").nth(1).locator("summary").filter(has_text=term(name))
    expect(moved).to_contain_text(signed(expected.explanation.by_modality[name]))


def telling(patient: Patient):
    """Return the number whose other end moves the risk most: modality, value, what to write, and the report."""
    asked = [
        (name, value, patient.what_if({name: {value.name: end}}), end)
        for name, values in patient.editable().items()
        for value in values
        if isinstance(value.value, float)
        for end in (value.low, value.high)
        if end is not None
    ]
    real = patient.report().explanation.risk
    name, value, report, end = max(asked, key=lambda each: abs(each[2].explanation.risk - real))
    return name, value, end, report


def what_if(page: Page, said: str, instead: str) -> None:
    """Choose the first value of which a text is part, and change it."""
    page.get_by_text("What if?").click()
    chooser = page.get_by_role("combobox", name="Values to change")
    chooser.scroll_into_view_if_needed()
    # Whatever scrolls closes the list.
    at_rest(page)
    chooser.click()
    chooser.fill(said)
    page.get_by_role("option").filter(has_text=said).first.click()
    page.keyboard.press("Escape")
    page.get_by_role("spinbutton", name=said).fill(instead)
    page.keyboard.press("Enter")
    page.get_by_test_id("stMetric").filter(has_text="Hypothetical").wait_for()


def override(page: Page, reason: str) -> None:
    page.get_by_text("Override it", exact=True).click()
    page.get_by_role("textbox", name="Reason").fill(reason)
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_text(reason, exact=True)).to_be_visible()


def the_printed_report_says(page: Page, *texts: str) -> None:
    at_rest(page)
    with page.expect_download() as got:
        page.get_by_role("button", name="Printable report (PDF)").click()
    printed = " ".join(pypdf.PdfReader(got.value.path()).pages[0].extract_text().split())
    assert [text for text in texts if text not in printed] == []


def the_trail_shows(page: Page, subject: str, *actions: Action) -> None:
    page.get_by_role("link", name="Audit trail").click()
    page.get_by_role("button", name="Check the chain").click()
    expect(page.get_by_text("Whole:")).to_be_visible()
    events = page.get_by_role("table").get_by_role("row").filter(has_text=subject)
    for action in actions:
        expect(events.filter(has_text=action.value).first).to_be_attached()
