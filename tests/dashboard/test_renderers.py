"""Each kind of view on the screen, and the waterfall; what came from the data is text, never markup."""

import re
from datetime import datetime, timedelta

import altair as alt
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from viewer_app import film, volume

from dashboards import viewer
from dashboards.renderers import render, series, texts
from dashboards.renderers.waterfall import lines, waterfall_html
from medfusion.core.types import Explanation, FeatureShare
from medfusion.core.views import Series, SeriesView, Span, TextView
from medfusion.outputs.ledger import RiskReport

NOW = datetime(2026, 3, 1, 12)
EVIL = "<script>alert(1)</script>![x](http://evil.example/x)"
TIMES = [NOW - timedelta(hours=hours) for hours in (30, 12, 2)]


def quantity(name="lactate", share=0.81, **reference):
    return Series(name, "mmol/L", TIMES, [1.5, 2.5, 4.7], share, **reference)


def report(feature="lactate last"):
    features = {
        "ehr": [FeatureShare(feature, 4.7, 1.0), FeatureShare("age", 71.0, 0.25)],
        "imaging": [FeatureShare("film 1 row 1 column 2", None, -0.5)],
    }
    ledger = Explanation(-1.5, {"ehr": 1.25, "imaging": -0.5, "notes": 0.0}, features, -0.75)
    return RiskReport("a", NOW, ledger, 0.2, 0.5, {"ehr": True, "imaging": True, "notes": False})


def shown(*views, ledger=None) -> AppTest:
    def script(views, ledger):
        from dashboards.renderers import render_all, waterfall

        render_all(views, "views")
        if ledger is not None:
            waterfall(ledger, "ledger", {})

    app = AppTest.from_function(script, kwargs={"views": list(views), "ledger": ledger}, default_timeout=120).run()
    assert not app.exception
    return app


def html(app: AppTest) -> str:
    return "".join(each.proto.body for each in app.get("html"))


def test_what_came_from_the_data_is_never_markup():
    views = [
        SeriesView("Labs", [quantity(EVIL)], [(EVIL, EVIL, 0.1)], NOW),
        TextView("Notes", [EVIL], [[Span(EVIL, 0.2)]]),
    ]
    app = shown(*views, ledger=report(EVIL))
    written = html(app)
    assert "<script>alert(1)</script>" not in written
    assert written.count("&lt;script&gt;alert(1)&lt;/script&gt;![x]") == 9
    markdown = [*app.markdown, *app.caption, *app.subheader, *app.info]
    assert not [each for each in markdown if "evil" in str(each.value)]
    assert not app.get("arrow_table")


def test_words_are_shaded_by_their_share_and_negations_marked():
    spans = [Span("No "), Span("fever", -0.3, negated=True), Span(" but "), Span("dyspnoea", 0.15)]
    written = texts.text_html(spans, 0.3)
    shades = re.findall(r'<mark(.*?) style="background: (#\w{6})(\w\w)" title="(.*?)">(\w+)</mark>', written)
    assert [(css, colour, word) for css, colour, _, _, word in shades] == [
        (' class="mf-negated"', "#0072B2", "fever"),
        ("", "#D55E00", "dyspnoea"),
    ]
    assert int(shades[1][2], 16) / int(shades[0][2], 16) == pytest.approx(0.5, abs=0.02)
    assert shades[1][3] == "+0.150 log-odds"
    assert "fever</mark><sup>not</sup> but " in written


def test_a_quantity_has_its_reference_range_and_the_time_of_the_prediction():
    drawn = series.chart(quantity(low=0.5, high=2.0), TIMES[0], NOW)
    band, rule, _, points = drawn["layer"]
    assert (band["encoding"]["y"]["datum"], band["encoding"]["y2"]["datum"]) == (0.5, 2.0)
    assert rule["data"]["values"] == [{"time": NOW.isoformat()}]
    values = points["data"]["values"]
    assert [(each["value"], each["outside"]) for each in values] == [(1.5, False), (2.5, True), (4.7, True)]
    assert drawn["title"]["text"] == "lactate (mmol/L)  +0.81"
    assert points["mark"]["color"] == "#D55E00"
    assert len(series.chart(quantity(share=0.0), TIMES[0], NOW)["layer"]) == 3


@pytest.mark.parametrize("asked", [{}, {"low": 0.5, "high": 2.0}, {"high": 2.0}, {"share": 0.0}])
def test_a_chart_is_as_the_schema_of_vega_lite_has_it(asked):
    alt.Chart.from_dict(series.chart(quantity(**asked), TIMES[0], NOW), validate=True)


@pytest.mark.parametrize("reference", [{"low": 2.0}, {"high": 2.0}])
def test_a_range_may_be_open(reference):
    drawn = series.chart(quantity(**reference), TIMES[0], NOW)
    ends = drawn["layer"][0]["encoding"]
    assert 2.0 in (ends["y"].get("datum"), ends["y2"].get("datum"))
    outside = [each["outside"] for each in drawn["layer"][-1]["data"]["values"]]
    assert outside == ([True, False, False] if "low" in reference else [False, True, True])


def test_the_reader_chooses_which_quantities_are_drawn():
    view = SeriesView("Labs", [quantity(f"lab {number}", number / 10) for number in range(9)], [], NOW)
    app = shown(view)
    assert app.multiselect[0].value == [f"lab {number}" for number in (8, 7, 6, 5, 4, 3)]
    app.multiselect[0].set_value(["lab 0"]).run()
    assert not app.exception
    assert len(app.get("vega_lite_chart")) == 1


def test_the_bars_of_the_waterfall_are_as_long_as_the_shares_and_end_where_the_next_begins():
    written = waterfall_html(report(), {}, opened=True)
    bars = re.findall(r'class="bar" style="left: ([\d.]+)%; width: ([\d.]+)%; background: (#\w+)"', written)
    (ehr, lactate, age, imaging, region) = [(float(left), float(width), colour) for left, width, colour in bars]
    # 1.25 up in two parts, then 0.5 down from there.
    assert ehr[1] / imaging[1] == pytest.approx(2.5, abs=0.01)
    assert lactate[0] == ehr[0]
    assert age[0] == pytest.approx(lactate[0] + lactate[1], abs=0.02)
    assert imaging[0] + imaging[1] == pytest.approx(ehr[0] + ehr[1], abs=0.02)
    assert (ehr[2], imaging[2], region[:2]) == ("#D55E00", "#0072B2", imaging[:2])
    marks = [float(place) for place in re.findall(r'class="mark" style="left: ([\d.]+)%"', written)]
    assert marks == pytest.approx([ehr[0], imaging[0]], abs=0.02)
    assert "notes: not there" in written
    # Of the modality with the largest share alone.
    assert re.findall(r"<details( open)?>.*?label\">(.*?)<", written) == [(" open", "health record"), ("", "imaging")]
    # 1 / (1 + exp(1.5)) and 1 / (1 + exp(0.75)).
    assert written.index(">18%<") < written.index(">32%<")


def test_the_table_behind_the_waterfall_has_every_line_and_the_risk_after_each_modality():
    rows = lines(report(), {"lactate": "mmol/L"})
    said = [tuple(row.values()) for row in rows]
    assert said[0] == ("Base rate", "\N{MINUS SIGN}1.500", "18%")
    assert said[1] == ("health record", "+1.250", "44%")
    assert [row[0].strip() for row in said[2:4]] == ["lactate 4.7 mmol/L", "age 71"]
    assert said[-1] == ("Risk", "\N{MINUS SIGN}0.750", "32%")


def test_images_are_plain_pictures_where_the_viewer_was_not_built(monkeypatch, tmp_path):
    monkeypatch.setattr(viewer, "STATIC", tmp_path)
    app = shown(film(), volume())
    assert "make viewer" in app.info[0].value
    assert len(app.get("image")) == 2


def test_an_unknown_kind_of_view_is_told_by_name():
    with pytest.raises(TypeError, match="no renderer for ndarray"):
        render(np.zeros(3), "key")
