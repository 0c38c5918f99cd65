"""Each statistic against values computed by hand, and against NumPy and pandas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.modalities.ehr.summary import COURSE, STATISTICS, summarise


def table(groups, hours, values):
    groups = np.asarray(groups, dtype=np.int64)
    summary = summarise(groups, int(groups.max()) + 1, np.asarray(hours, float), np.asarray(values, float))
    return pd.DataFrame(summary, columns=list(STATISTICS))


def test_each_statistic_of_a_short_series_is_what_one_computes_by_hand():
    # 2 at 10 h before, 5 at 6 h before, 3 at 2 h before.
    one = table([0, 0, 0], [10.0, 6.0, 2.0], [2.0, 5.0, 3.0]).iloc[0]
    assert one["last"] == 3.0
    assert one["first"] == 2.0
    assert one["min"] == 2.0
    assert one["max"] == 5.0
    assert one["mean"] == pytest.approx(10 / 3)
    # times -4, 0, 4 around their mean; values -4/3, 5/3, -1/3: (16/3 - 4/3) / 32
    assert one["slope"] == pytest.approx(0.125)
    assert one["count"] == 3.0
    assert one["hours_since_last"] == 2.0


def test_the_last_day_is_summarised_by_itself():
    one = table([0, 0, 0, 0], [30.0, 24.0, 5.0, 1.0], [9.0, 2.0, 4.0, 3.0]).iloc[0]
    assert one[["min_24h", "max_24h", "mean_24h"]].tolist() == [2.0, 4.0, 3.0]
    assert one[["min", "max", "mean"]].tolist() == [2.0, 9.0, 4.5]
    before = table([0], [24.1], [9.0]).iloc[0]
    assert before[["min_24h", "max_24h", "mean_24h"]].isna().all()
    assert before["mean"] == 9.0


def test_the_course_of_a_short_series_is_what_one_computes_by_hand():
    # 2 at 30 h before, 5 at 10 h before, 3 at 4 h before.
    one = table([0, 0, 0], [30.0, 10.0, 4.0], [2.0, 5.0, 3.0]).iloc[0]
    assert one[["mean_0_12h", "min_0_12h", "max_0_12h", "count_12h"]].tolist() == [4.0, 3.0, 5.0, 2.0]
    assert one[["mean_24_36h"]].tolist() == [2.0]
    assert one[["mean_12_24h", "min_12_24h", "max_12_24h", "mean_36_48h", "mean_48_96h"]].isna().all()
    assert one[["sum_24h", "count_24h"]].tolist() == [8.0, 2.0]
    # The latest value counts 1, the others exp(-6 / 6) and exp(-26 / 6).
    weights = np.exp([-26 / 6, -1.0, 0.0])
    assert one["recent_6h"] == pytest.approx(weights @ [2, 5, 3] / weights.sum())
    # 2 stood for 20 h, 5 for 6 h, 3 for the last 4.
    assert one["mean_in_time"] == pytest.approx((20 * 2 + 6 * 5 + 4 * 3) / 30, abs=1e-3)
    assert one[["tenth", "ninetieth"]].tolist() == [2.0, 5.0]
    assert one["spread"] == pytest.approx(np.std([2, 5, 3]))


def test_a_window_holds_its_near_end_and_not_its_far_one():
    one = table([0, 0, 0], [0.0, 12.0, 24.0], [1.0, 2.0, 3.0]).iloc[0]
    assert one[["mean_0_12h", "mean_12_24h", "mean_24_36h"]].tolist() == [1.0, 2.0, 3.0]


def test_where_nothing_has_a_value_in_time_counts_are_zero_and_all_else_is_missing():
    one = table([0], [3.0], [np.nan]).iloc[0]
    assert one[["count_12h", "count_24h"]].tolist() == [0.0, 0.0]
    assert one[list(COURSE)].drop(["count_12h", "count_24h"]).isna().all()


def test_a_record_of_years_has_recent_values_too():
    one = table([0, 0], [90_000.0, 80_000.0], [1.0, 4.0]).iloc[0]
    assert one["recent_24h"] == pytest.approx(4.0)
    assert one["mean_in_time"] == pytest.approx((1 * 10_000 + 4 * 80_000) / 90_000, abs=1e-3)


def test_a_single_value_has_no_slope():
    one = table([0], [3.0], [7.0]).iloc[0]
    assert one[["last", "first", "min", "max", "mean"]].tolist() == [7.0] * 5
    assert np.isnan(one["slope"])


def test_values_of_one_moment_have_no_slope_and_are_averaged_for_last_and_first():
    # 0.1 + 0.2 hours: a mean of equal times need not equal them in floating point
    one = table([0, 0, 0], [0.30000000000000004] * 3, [1.0, 2.0, 6.0]).iloc[0]
    assert np.isnan(one["slope"])
    assert one["last"] == one["first"] == 3.0


def test_events_without_a_value_are_counted_and_dated_but_have_no_values():
    one = table([0, 0], [30.0, 4.0], [np.nan, np.nan]).iloc[0]
    assert one[["count", "hours_since_last"]].tolist() == [2.0, 4.0]
    assert one[["last", "first", "min", "max", "mean", "slope", "mean_24h"]].isna().all()


def test_an_event_without_a_value_counts_beside_values_but_does_not_change_them():
    one = table([0, 0, 0], [9.0, 5.0, 1.0], [4.0, 6.0, np.nan]).iloc[0]
    assert one[["last", "first", "count", "hours_since_last"]].tolist() == [6.0, 4.0, 3.0, 1.0]


def test_no_series_at_all_gives_no_rows():
    empty = np.empty(0)
    assert summarise(np.empty(0, dtype=np.int64), 0, empty, empty).shape == (0, len(STATISTICS))


events = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 5000).map(lambda minutes: minutes / 60),
        st.one_of(st.none(), st.floats(-1e4, 1e4)),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(events)
def test_statistics_agree_with_pandas_and_polyfit(rows):
    frame = pd.DataFrame(rows, columns=["group", "hours", "value"]).astype({"value": float})
    frame["group"] = pd.factorize(frame["group"])[0]
    got = table(frame["group"], frame["hours"], frame["value"])
    for group, mine in frame.groupby("group"):
        valued = mine.dropna()
        one = got.loc[group]
        assert one["count"] == len(mine)
        assert one["hours_since_last"] == mine["hours"].min()
        by_time = valued.groupby("hours")["value"].mean()
        expected = {
            "last": by_time.iloc[0] if len(by_time) else np.nan,
            "first": by_time.iloc[-1] if len(by_time) else np.nan,
            "min": valued["value"].min(),
            "max": valued["value"].max(),
            "mean": valued["value"].mean(),
            "min_24h": valued.loc[valued["hours"] <= 24, "value"].min(),
            "max_24h": valued.loc[valued["hours"] <= 24, "value"].max(),
            "mean_24h": valued.loc[valued["hours"] <= 24, "value"].mean(),
            "mean_0_12h": valued.loc[valued["hours"] < 12, "value"].mean(),
            "max_12_24h": valued.loc[valued["hours"].between(12, 24, inclusive="left"), "value"].max(),
            "sum_24h": valued.loc[valued["hours"] <= 24, "value"].sum(min_count=1),
            "count_24h": (valued["hours"] <= 24).sum(),
            "spread": valued["value"].std(ddof=0) if len(valued) > 1 else np.nan,
            "slope": np.polyfit(-valued["hours"], valued["value"], 1)[0] if len(by_time) > 1 else np.nan,
        }
        for name, number in expected.items():
            # A slope over a minute multiplies the rounding of a value by 60.
            assert one[name] == pytest.approx(number, rel=1e-6, abs=1e-5, nan_ok=True), name


@settings(max_examples=50, deadline=None)
@given(events, st.randoms(use_true_random=False))
def test_statistics_do_not_depend_on_the_order_of_events(rows, random):
    shuffled = random.sample(rows, len(rows))
    size = max(row[0] for row in rows) + 1

    def summary(some):
        groups, hours, values = zip(*some, strict=True)
        return summarise(np.array(groups), size, np.array(hours, float), np.array(values, float))

    groups = sorted({row[0] for row in rows})
    np.testing.assert_allclose(summary(shuffled)[groups], summary(rows)[groups], rtol=1e-9, atol=1e-6)
