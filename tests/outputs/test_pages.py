import base64
import re
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import numpy as np
import pandas as pd
import pytest

from medfusion.core.errors import UsageError
from medfusion.core.types import Explanation, FeatureShare
from medfusion.core.views import ImageView, Series, SeriesView, Span, TextView
from medfusion.outputs.patient import patient_page, write_patient_page
from medfusion.outputs.report import read_report, write_report

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "br", "img", "link", "input", "hr"}
NOW = datetime(2020, 3, 14, 9, 30)


class Page(HTMLParser):
    """Collects what a browser would act on, and whether elements close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in {"href", "src", "xlink:href", "action"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def assert_stands_alone(text):
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    assert not re.search(r"url\((?!#)", text)
    return page


class Panel:
    title = "Sine " + EVIL
    caption = "A curve."

    def frame(self):
        return pd.DataFrame({"at_x": np.linspace(0, 1, 500), "pattern": EVIL})

    def plot(self):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 3))
        figure.subplots().set_title(EVIL)
        return figure


HEADLINE = pd.DataFrame(
    {
        "label": ["AUROC", "AUPRC", "Brier score", "ECE", "Brier skill"],
        "value": [0.8124, np.nan, 0.1, 0.02, 0.3],
        "low": [0.77, np.nan, np.nan, 0.01, 0.2],
        "high": [0.86, np.nan, np.nan, 0.04, 0.4],
        "meaning": "how to read it",
        "note": ["", "too few: no sample has the event", "no interval: one patient", "", ""],
    }
)


def write(path, **changes):
    arguments = {"title": f"ICU {EVIL}", "headline": HEADLINE, "panels": [Panel()], "basis": {"Patients": 1236}}
    write_report(path, **{**arguments, "notes": [f"Predictions are out of fold. {EVIL}"], **changes})
    return path.read_text(encoding="utf-8")


def test_the_report_stands_alone_and_escapes_what_it_is_given(tmp_path):
    page = assert_stands_alone(write(tmp_path / "report.html"))
    said = "".join(page.text)
    assert said.count(EVIL) >= 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_the_report_says_figures_intervals_and_what_they_rest_on(tmp_path):
    said = " ".join("".join(assert_stands_alone(write(tmp_path / "report.html")).text).split())
    assert "AUROC 0.812 0.770 to 0.860" in said
    assert "AUPRC too few: no sample has the event" in said
    assert "Brier score 0.100 no interval: one patient" in said
    assert "Brier skill0.3000.200 to 0.400" in said
    assert "Patients1,236" in said
    assert "Predictions are out of fold." in said
    assert "Research use only. Not a medical device" in said


def test_every_picture_of_the_report_has_its_table_and_a_long_one_is_thinned(tmp_path):
    page = assert_stands_alone(write(tmp_path / "report.html", panels=[Panel(), Panel()]))
    assert page.tags.count("svg") == page.tags.count("details") == 2
    said = "".join(page.text)
    assert "60 of 500 rows, evenly spaced." in said
    assert "at x" in said


def test_a_report_is_read_back_as_it_was_with_every_row(tmp_path):
    write(tmp_path / "report.html", lead=["It works."])
    report = read_report(tmp_path / "report.json")
    assert (report.title, report.lead, report.basis) == (f"ICU {EVIL}", ["It works."], {"Patients": 1236})
    pd.testing.assert_frame_equal(report.headline, HEADLINE)
    (panel,) = report.panels
    assert (panel.title, panel.caption, panel.width_in) == (Panel.title, Panel.caption, 4.0)
    pd.testing.assert_frame_equal(panel.table, Panel().frame())
    picture = ElementTree.fromstring(panel.picture)  # noqa: S314 - written here
    assert picture.tag.endswith("svg")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 0}', "[" * 100_000, "\udcff"])
def test_what_is_no_report_is_refused(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match="report"):
        read_report(path)
    with pytest.raises(UsageError, match="medfusion evaluate"):
        read_report(tmp_path / "none.json")


def test_the_same_report_is_the_same_file(tmp_path):
    assert write(tmp_path / "a.html") == write(tmp_path / "b.html")


def image_view():
    heat = np.zeros((1, 4, 5))
    heat[0, 1, 3], heat[0, 2, 0] = 0.5, -0.25
    pixels = np.arange(80 * 100, dtype=np.float32).reshape(1, 80, 100) % 251
    return ImageView("Chest, PA", pixels, heat, (127.5, 255.0), "", ["film 1"])


def volume_view():
    heat = np.zeros((10, 2, 2))
    heat[:, 0, 1] = np.arange(10) / 10
    heat[9] = np.nan
    pixels = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((1, 6, 8), np.float32)
    return ImageView("CT", pixels, heat, (4.5, 9.0), "HU", [f"slice {number} of 10" for number in range(1, 11)])


def series_view():
    times = [NOW - timedelta(hours=hours) for hours in (30, 12, 2)]
    series = [
        Series("lactate", "mmol/L", times, [1.5, 2.5, 4.7], 0.81),
        Series("sodium", "mmol/L", times[:1], [139.0], -0.14),
    ]
    return SeriesView("Labs", series, [("age", "71 years", 0.37), (EVIL, EVIL, 0.0)], NOW)


def text_view():
    spans = [Span("No "), Span("fever", -0.31, negated=True), Span(" but "), Span("dyspnoea", 0.17), Span(f". {EVIL}")]
    return TextView("Notes", [f"Admission {EVIL}"], [spans])


@pytest.fixture
def full(report):
    views = {"imaging": [image_view()], "ehr": [series_view(), text_view()]}
    return replace(report, views=views)


def test_the_patient_page_stands_alone_and_escapes_what_came_from_the_data(full, tmp_path):
    ledger = Explanation(0.0, {"ehr": 1.0}, {"ehr": [FeatureShare(EVIL, EVIL, 1.0)]}, 1.0)
    evil = replace(full, subject_id=EVIL, explanation=ledger, present={"ehr": True}, findings=[EVIL], model_id=EVIL)
    write_patient_page(tmp_path / "patient.html", evil)
    page = assert_stands_alone((tmp_path / "patient.html").read_text(encoding="utf-8"))
    assert "".join(page.text).count(EVIL) >= 6


def test_the_patient_page_shows_every_modality_also_one_that_is_not_there(full):
    said = " ".join("".join(assert_stands_alone(patient_page(full)).text).split())
    assert "Risk 50 % (interval 29 % to 63 %), against 14 % for somebody of whom nothing is known" in said
    assert "0.00notes: not there" in said
    assert "lactate, last = 4.7+0.810" in said
    assert "age71 years+0.37" in said


def test_the_film_is_shown_as_it_was_read_with_the_numbers_of_its_regions(full):
    text = patient_page(full)
    encoded = re.search(r"data:image/png;base64,([^\"]+)", text)[1]
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(pixels, image_view().pixels[0])
    cells = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" .*?fill-opacity="([\d.]+)"><title>(.*?) log-odds', text)
    assert len(cells) == 20
    seen = [cell for cell in cells if float(cell[2]) > 0]
    assert [(float(x), float(y), share) for x, y, _, share in seen] == [
        (60.0, 20.0, "+0.500"),
        (0.0, 40.0, "\N{MINUS SIGN}0.250"),
    ]
    assert float(seen[0][2]) == pytest.approx(2 * float(seen[1][2]))


def test_a_large_film_is_made_smaller_in_proportion(full):
    pixels = np.full((1, 1500, 1000), 7, np.float32)
    view = ImageView("Chest", pixels, np.zeros((1, 2, 2)), (127.5, 255.0), "", ["film 1"])
    text = patient_page(replace(full, views={"imaging": [view]}))
    encoded = re.search(r"data:image/png;base64,([^\"]+)", text)[1]
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.shape == (640, 427)
    assert 'viewBox="0 0 1000 1500"' in text


def test_of_a_volume_the_slices_with_the_largest_shares_are_shown(full):
    text = patient_page(replace(full, views={"imaging": [volume_view()]}))
    assert re.findall(r"<h3>slice (\d+) of 10, CT</h3>", text) == ["4", "5", "6", "7", "8", "9"]
    encoded = re.findall(r"data:image/png;base64,([^\"]+)", text)
    greys = [cv2.imdecode(np.frombuffer(base64.b64decode(each), np.uint8), 0)[0, 0] for each in encoded]
    assert greys == [round(255 * number / 9) for number in range(3, 9)]


def test_words_are_shaded_by_their_share_and_negation_is_marked(full):
    text = patient_page(full)
    fever = re.search(
        r'<span class="negated" style="background: #0072B2([0-9a-f]{2})" title="(.*?)">fever</span>', text
    )
    dyspnoea = re.search(r'<span style="background: #D55E00([0-9a-f]{2})" title="(.*?)">dyspnoea</span>', text)
    assert fever[2].endswith("0.310 log-odds, negated")
    assert dyspnoea[2] == "+0.170 log-odds"
    assert int(dyspnoea[1], 16) / int(fever[1], 16) == pytest.approx(0.17 / 0.31, abs=0.02)


def test_the_text_of_a_note_is_kept_as_it_was_written(full):
    note = re.search(r'<div class="note">(.*?)</div>', patient_page(full), re.DOTALL)[1]
    note = re.sub("<sup>not</sup>", "", note)
    assert "".join(Page(note).text) == "".join(span.text for span in text_view().texts[0])


def test_series_without_a_value_and_views_without_anything_are_no_problem(full):
    empty = SeriesView("Labs", [Series("lactate", "", [], [], 0.0)], [], NOW)
    texts = TextView("Notes", [], [])
    page = assert_stands_alone(patient_page(replace(full, views={"ehr": [empty, texts]})))
    assert "1 more, with smaller shares" in "".join(page.text)
