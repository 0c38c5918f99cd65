"""Each statistic against values computed by hand, and against NumPy and pandas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.modalities.ehr.summary import STATISTICS, summarise


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
