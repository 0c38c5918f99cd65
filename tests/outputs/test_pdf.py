"""The printed page, read back: one page, with the right name and risk on it, in English and in Korean."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pypdf
import pytest

from medfusion.core.types import Distance, FeatureShare
from medfusion.core.views import ImageView
from medfusion.outputs.ledger import RESEARCH_USE
from medfusion.outputs.pdf import Provenance, patient_pdf
from medfusion.outputs.pdf_figures import overlaid

KOREAN = {
    "Reasons": "이유",
    "Limits": "한계",
    "Seen from {when}: nothing later was used": "{when} 기준: 이후의 자료는 쓰이지 않았음",
    "Agrees": "동의",
    RESEARCH_USE: "연구용이며 의료기기가 아님",
}


class Korean:
    def _(self, text):
        return KOREAN.get(text, text)

    def percent(self, risk):
        return f"{100 * risk:.1f}퍼센트"

    def when(self, moment):
        return f"{moment.year}년 {moment.month}월 {moment.day}일"


@dataclass(frozen=True)
class Decided:
    time: datetime
    reader: str
    verdict: str
    reason: str = ""
    comment: str = ""


def read(page):
    reader = pypdf.PdfReader(BytesIO(page))
    assert len(reader.pages) == 1
    return reader.pages[0].extract_text(), reader


def film(seed=0, slices=1):
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0, 255, (slices, 300, 240)).astype(np.float32)
    heat = rng.normal(0, 0.1, (slices, 5, 4))
    return ImageView(f"film {seed}", pixels, heat, (127.5, 255.0), "", [f"slice {n}" for n in range(1, slices + 1)])


def test_one_page_with_the_name_the_risk_and_its_reasons(report):
    said, reader = read(patient_pdf(report, Provenance("transferred to intensive care")))
    assert "C42" in said
    risk = f"{100 * report.explanation.risk:.0f} %"
    assert said.count(risk) >= 2  # as the headline, and at the end of the waterfall
    assert "29 % to 63 %" in said
    for line in ("lactate, last = 4.7", "right lower zone", "+0.81", "-0.14", "notes: not available"):
        assert line in said
    assert said.count(RESEARCH_USE) == 2
    assert "2020-03-14 09:30" in said
    assert "transferred to intensive care" in said
    assert "C42" not in str(reader.metadata)


def test_where_it_comes_from(report):
    origin = Provenance(
        "", "0123456789abcdef" * 2, datetime(2026, 3, 2, 8, 15, tzinfo=UTC), "1.2.3", ["film 2 was broken"]
    )
    said, _ = read(patient_pdf(report, origin))
    for part in ("m1", "0123456789abcdef" * 2, "2026-03-02 08:15 UTC", "medfusion 1.2.3", "film 2 was broken"):
        assert part in said


def test_korean_can_be_read_back_and_the_fonts_are_embedded(report):
    korean = replace(report, subject_id="환자 7")
    said, reader = read(
        patient_pdf(korean, opinions=[Decided(datetime(2026, 3, 2), "김 의사", "agree")], language=Korean())
    )
    for part in ("환자 7", "이유", "한계", "연구용이며 의료기기가 아님", "2020년 3월 14일", "동의", "김 의사"):
        assert part in said
    assert f"{100 * report.explanation.risk:.1f}퍼센트" in said
    fonts = [font.get_object() for font in reader.pages[0]["/Resources"]["/Font"].values()]
    used = [font for font in fonts if "NanumGothic" in font["/BaseFont"]]
    assert used
    assert all("/FontFile2" in font["/FontDescriptor"] for font in used)


def test_images_are_there_plain_and_with_their_shares(report):
    said, reader = read(patient_pdf(replace(report, views={"imaging": [film()]})))
    assert len(reader.pages[0].images) == 2
    assert f"shares: {film().heat.sum():+.2f}" in said
    _, several = read(patient_pdf(replace(report, views={"imaging": [film(0), film(1), film(2, slices=9)]})))
    assert len(several.pages[0].images) == 4


def test_what_limits_it_is_said(report):
    distances = {"imaging": Distance(3.1, 100.0, True), "ehr": Distance(1.0, 50.0, False)}
    limited = replace(report, findings=["abstain-undecided"], distances=distances, seen_in_training=True)
    said = " ".join(read(patient_pdf(limited))[0].split())
    assert "A person has to decide: the model can rule out neither outcome." in said
    assert "Do not trust the share of imaging" in said
    assert "Do not trust the share of ehr" not in said
    assert "Not available: notes" in said
    assert "A patient of the training cohort" in said


def test_a_hypothetical_page_cannot_be_taken_for_the_patients(report):
    said, _ = read(patient_pdf(replace(report, hypothetical=["lactate (last value): 4.7 → 1.2 mmol/L"])))
    assert "Hypothetical: not this patient's risk" in said
    assert "Changed: lactate (last value): 4.7 → 1.2 mmol/L" in said
    assert "Patient report" not in said


def test_whatever_there_is_to_say_it_stays_one_page_and_counts_what_is_left_out(report):
    long = "a very long remark about this patient " * 12
    opinions = [Decided(datetime(2026, 3, day), f"reader {day}", "override", long, long) for day in range(1, 29)]
    lines = [FeatureShare(f"feature {n} " + "x" * 90, "y" * 90, 0.01 * n) for n in range(40)]
    ledger = report.explanation
    total = sum(line.share for line in lines)
    many = {f"modality {n}": lines for n in range(7)}
    full = replace(
        ledger, by_modality=dict.fromkeys(many, total), by_feature=many, logit=ledger.base + len(many) * total
    )
    crowded = replace(
        report,
        subject_id="C" * 200,
        explanation=full,
        present=dict.fromkeys(many, True),
        views={"modality 0": [film()]},
        distances=dict.fromkeys(many, Distance(9.0, 100.0, True)),
    )
    said, _ = read(patient_pdf(crowded, Provenance("p" * 300, notes=[long] * 9), opinions))
    assert re.search(r"\d+ more", said)
    assert "reader 28" in said


def test_markup_in_what_was_written_is_text(report):
    said, _ = read(patient_pdf(report, opinions=[Decided(datetime(2026, 3, 2), "<b>r</b>", "unsure", "", "a < b & c")]))
    assert "<b>r</b>" in said
    assert "a < b & c" in said


def test_without_an_interval_none_is_shown(report):
    said, _ = read(patient_pdf(replace(report, risk_low=None, risk_high=None)))
    assert "interval" not in said.split("Reasons")[0]


def test_the_same_report_gives_the_same_file(report):
    assert patient_pdf(report) == patient_pdf(report)


@pytest.mark.parametrize("share", [1.0, -1.0])
def test_a_picture_takes_on_the_colour_of_the_strongest_region(share):
    grey = np.full((4, 4), 100, dtype=np.uint8)
    shown = overlaid(grey, np.array([[share, 0.0], [np.nan, share / 2]]))
    assert shown[3, 0].tolist() == [100, 100, 100]
    assert shown[0, 3].tolist() == [100, 100, 100]
    red, _, blue = (shown[0, 0].astype(int) - 100).tolist()
    assert (red > 0 > blue) if share > 0 else (blue > 0 > red)
    # Half the share, half the way to the colour.
    np.testing.assert_allclose(shown[3, 3].astype(int) - 100, (shown[0, 0].astype(int) - 100) / 2, atol=1)
