import io
import json
import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console
from scipy.special import logit

from medfusion.core.types import Explanation, FeatureShare
from medfusion.outputs.ledger import MINUS, feature_text, ledger_json, ledger_text, percent
from medfusion.outputs.waterfall import LOWERS, RAISES, waterfall


def text_of(report, width=120, top=6):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(ledger_text(report, top))
    return console.file.getvalue()


def shares_in(text, prefix):
    lines = [line for line in text.splitlines() if line.startswith(prefix)]
    return [
        float(found[1].replace(MINUS, "-"))
        for line in lines
        if (found := re.search(rf" ([+{MINUS}]?\d\.\d\d)\b", line))
    ]


def test_the_numbers_of_the_text_add_up(report):
    text = text_of(report, top=2)
    base, *modalities, total = (
        shares_in(text, prefix)[0] for prefix in ("base", "ehr", "imaging", "notes: not there", "sum")
    )
    assert base + sum(modalities) == pytest.approx(total, abs=0.03)
    assert total == pytest.approx(report.explanation.logit, abs=0.005)
    features = shares_in(text, "  ")
    assert sum(features) == pytest.approx(sum(modalities), abs=0.01 * len(features))


def test_the_text_says_what_was_observed_and_what_is_not_there(report):
    text = text_of(report)
    assert "lactate, last = 4.7" in text
    assert "notes: not there" in text
    assert "Risk 50 % (interval 29 % to 63 %)   subject C42, seen from 2020-03-14 09:30" in text
    assert "Research use only" in text
    assert "patient of the training cohort" not in text
    assert "patient of the training cohort" in text_of(replace(report, seen_in_training=True))


def test_bars_go_to_the_side_of_their_sign(report):
    lines = text_of(report).splitlines()
    raising = next(line for line in lines if "lactate" in line)
    lowering = next(line for line in lines if "sodium" in line)
    assert "│━" in raising
    assert "━│" in lowering


def test_brackets_in_a_feature_are_shown_and_not_obeyed(report):
    ledger = Explanation(0.0, {"notes": 1.0}, {"notes": [FeatureShare("[bold red]x[/]", None, 1.0)]}, 1.0)
    odd = replace(report, explanation=ledger, present={"notes": True}, subject_id="[link=x]C1")
    assert "[bold red]x[/]" in text_of(odd)
    assert "[link=x]C1" in text_of(odd)


def test_the_json_adds_up_to_the_last_digit(report):
    told = json.loads(json.dumps(ledger_json(report), allow_nan=False))
    total = told["base_logit"] + math.fsum(modality["share"] for modality in told["modalities"])
    assert total == pytest.approx(told["logit"], abs=1e-9)
    assert told["risk"] == pytest.approx(1 / (1 + math.exp(-told["logit"])))
    for modality in told["modalities"]:
        assert math.fsum(line["share"] for line in modality["features"]) == pytest.approx(modality["share"], abs=1e-9)
    assert [(modality["modality"], modality["present"]) for modality in told["modalities"]] == [
        ("ehr", True),
        ("imaging", True),
        ("notes", False),
    ]


def test_every_bar_of_the_picture_begins_where_the_one_before_ends(report):
    axes = waterfall(report, top=2).axes[0]
    bars = [
        (bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in axes.patches if bar.get_height() < 0.3
    ]
    modalities = [bar for bar in bars if bar[2] > 0.2]
    features = [bar for bar in bars if bar[2] < 0.2]
    ledger = report.explanation
    assert len(modalities) == 2
    assert len(features) == 6
    for steps in (modalities, features):
        assert steps[0][0] == pytest.approx(ledger.base)
        assert steps[-1][1] == pytest.approx(ledger.logit)
        for here, there in pairwise(steps):
            assert there[0] == pytest.approx(here[1])


def test_the_scale_above_says_the_probability_of_the_log_odds_below(report):
    axes = waterfall(report).axes[0]
    above = axes.child_axes[0]
    for place, label in zip(above.get_xticks(), above.get_xticklabels(), strict=True):
        assert place == pytest.approx(logit(float(label.get_text().removesuffix(" %")) / 100))
    assert len(above.get_xticks()) >= 3


def test_colours_of_the_picture_follow_the_sign(report):
    from matplotlib.colors import to_rgb

    bars = [bar for bar in waterfall(report).axes[0].patches if bar.get_height() < 0.3]
    for bar in bars:
        assert to_rgb(bar.get_facecolor()) == to_rgb(RAISES if bar.get_width() > 0 else LOWERS)


def test_no_two_texts_of_the_picture_overlap(report):
    figure = waterfall(report)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    below = [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    labels = [*axes.get_yticklabels(), *axes.texts, *axes.child_axes[0].get_xticklabels(), *below]
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    overlapping = [
        (one, other) for index, one in enumerate(boxes) for other in boxes[index + 1 :] if one.overlaps(other)
    ]
    assert not overlapping
    page = figure.bbox
    assert all(box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1 for box in boxes)


@pytest.mark.parametrize("size", [1e-4, 1.0, 9.0])
def test_ledgers_of_any_size_can_be_drawn(report, size, tmp_path):
    lines = [FeatureShare("x" * 80, None, 3 * size), FeatureShare("$y_2$ <b>", 1.0, -2 * size)]
    ledger = Explanation(-0.3, {"ehr": size}, {"ehr": lines}, -0.3 + size)
    odd = replace(report, explanation=ledger, present={"ehr": True}, risk_low=None, risk_high=None)
    waterfall(odd).savefig(tmp_path / "odd.png", dpi=50)
    assert (tmp_path / "odd.png").stat().st_size > 2_000
    assert "Risk" in text_of(odd, width=60)


def test_a_patient_of_whom_nothing_is_known_has_the_base_rate(report):
    ledger = Explanation(-1.0, {"ehr": 0.0}, {}, -1.0)
    nothing = replace(report, explanation=ledger, present={"ehr": False})
    assert "ehr: not there" in text_of(nothing)
    assert ledger_json(nothing)["risk"] == pytest.approx(1 / (1 + math.e))
    assert len([bar for bar in waterfall(nothing).axes[0].patches if bar.get_width()]) == 0


@pytest.mark.parametrize(("risk", "text"), [(0.0949, "9.5 %"), (0.0951, "10 %"), (0.9, "90 %"), (0.91, "91.0 %")])
def test_percentages_have_as_many_digits_as_they_deserve(risk, text):
    assert percent(risk) == text


def test_percentages_never_say_that_something_is_certain():
    assert [percent(risk) for risk in (0.0, 1.0)] == ["<0.1 %", ">99.9 %"]
    assert np.all(["100" not in percent(risk) for risk in np.linspace(0.99, 1, 200)])


def test_a_feature_without_a_value_is_just_named():
    assert feature_text("right lower zone", None) == "right lower zone"
    assert feature_text("age", 71.0) == "age = 71"
