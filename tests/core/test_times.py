"""Times: strict ISO 8601, never a guess."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfusion.core.times import date_only, parse_times


@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), min_size=1, max_size=20))
def test_what_python_writes_as_iso_8601_is_read_back_exactly(moments):
    times, bad = parse_times(pa.array([moment.isoformat() for moment in moments]))
    assert times.to_pylist() == moments
    assert not bad.any()


@given(
    st.lists(
        st.datetimes(
            datetime(1900, 1, 2),
            datetime(2200, 1, 1),
            timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_zoned_times_become_utc(moments):
    times, bad = parse_times(pa.array([moment.isoformat() for moment in moments]))
    assert str(times.type.tz) == "UTC"
    assert times.to_pylist() == [moment.astimezone(UTC) for moment in moments]
    assert not bad.any()


@pytest.mark.parametrize(
    "text",
    ["01/02/2020", "1.2.2020", "2020-1-2", "20200102", "2020-02-30", "2020-01-01T24:00", "2020-01-01 9:00",
     "Jan 2 2020", "1577836800",
     "2020-01-01T10:00:00 PM", "yesterday", "2020-W01-1", "2020-01-01T10:00+25:00"],
)  # fmt: skip
def test_what_is_ambiguous_or_impossible_is_refused(text):
    times, bad = parse_times(pa.array([text, "2020-01-02T00:00:00"]))
    assert bad.tolist() == [True, False] or (bad.tolist() == [True, True] and "+" in text)
    assert times[0].as_py() is None


@pytest.mark.parametrize("text", ["2020-01-01 10:00:00+00", "2020-01-01T11:00+0100", "2020-01-01T10:00Z"])
def test_zones_are_read_in_the_forms_that_databases_write(text):
    times, _ = parse_times(pa.array([text]))
    assert times[0].as_py() == datetime(2020, 1, 1, 10, tzinfo=UTC)


def test_a_date_without_a_clock_is_the_end_of_its_day_so_that_it_cannot_be_seen_earlier():
    end = datetime(2020, 1, 31, 23, 59, 59, 999999)
    for values in (pa.array(["2020-01-31"]), pa.array([date(2020, 1, 31)])):
        assert parse_times(values)[0].to_pylist() == [end]
        assert date_only(values).tolist() == [True]


def test_a_naive_time_among_zoned_ones_is_bad():
    _, bad = parse_times(pa.array(["2020-01-01T10:00Z", "2020-01-01T10:00", None]))
    assert bad.tolist() == [False, True, False]


def test_numbers_are_no_times():
    times, bad = parse_times(pa.array([1577836800, None]))
    assert times.null_count == 2
    assert bad.tolist() == [True, False]


def test_a_year_beyond_the_calendar_is_bad_not_an_overflow():
    ticks = np.array([0, 2**62], dtype="datetime64[us]")
    times, bad = parse_times(pa.array(ticks))
    assert bad.tolist() == [False, True]
    assert times.to_pylist() == [datetime(1970, 1, 1), None]


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+14:00", "0000-01-01"])
def test_a_text_beyond_the_calendar_is_bad_too(text):
    times, bad = parse_times(pa.array([text]))
    assert bad.tolist() == [True]
    assert times.to_pylist() == [None]


def test_parquet_times_with_another_zone_become_utc():
    berlin = pa.array([datetime(2020, 7, 1, 8, tzinfo=UTC)], pa.timestamp("ns", tz="Europe/Berlin"))
    assert parse_times(berlin)[0].to_pylist() == [datetime(2020, 7, 1, 8, tzinfo=UTC)]
