from datetime import UTC, datetime

import pytest

from medfusion.modalities.imaging.clock import BadTime, taken_at

END = {"hour": 23, "minute": 59, "second": 59, "microsecond": 999999}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20200131090501.25", datetime(2020, 1, 31, 9, 5, 1, 250000)),
        ("20200131090501", datetime(2020, 1, 31, 9, 5, 1)),
        ("202001310905", datetime(2020, 1, 31, 9, 5)),
        ("2020013109", datetime(2020, 1, 31, 9, 59, 59, 999999)),
        ("20200131", datetime(2020, 1, 31, **END)),
        ("202002", datetime(2020, 2, 29, **END)),
        ("2020", datetime(2020, 12, 31, **END)),
        ("20161231235960", datetime(2016, 12, 31, 23, 59, 59)),
        ("20200131090501+0130", datetime(2020, 1, 31, 7, 35, 1, tzinfo=UTC)),
        ("20200131233000.5-0100", datetime(2020, 2, 1, 0, 30, 0, 500000, tzinfo=UTC)),
    ],
)
def test_a_date_time_means_the_end_of_what_it_names(text: str, expected: datetime) -> None:
    assert taken_at({"AcquisitionDateTime": text}) == expected


def test_sources_are_taken_in_the_order_of_how_close_they_are_to_the_exposure() -> None:
    header = {
        "AcquisitionDateTime": "20200101010101",
        "AcquisitionDate": "20200102",
        "AcquisitionTime": "020202",
        "ContentDate": "20200103",
        "ContentTime": "030303",
        "SeriesDate": "20200104",
        "SeriesTime": "040404",
        "StudyDate": "20200105",
        "StudyTime": "050505",
    }
    days = []
    for first in ("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"):
        time = taken_at(header)
        assert time is not None
        days.append((time.day, time.hour))
        header[first] = ""
    assert days == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]
    assert taken_at(header) is None


def test_a_date_without_a_time_is_not_completed_from_an_earlier_step_of_the_workflow() -> None:
    header = {"AcquisitionDate": "20200131", "StudyDate": "20200131", "StudyTime": "090000"}
    assert taken_at(header) == datetime(2020, 1, 31, **END)


def test_the_forms_from_before_dicom_are_read() -> None:
    assert taken_at({"StudyDate": "2020.01.31", "StudyTime": "09:05:01"}) == datetime(2020, 1, 31, 9, 5, 1)


def test_the_zone_of_the_header_applies_where_the_value_has_none() -> None:
    header = {"StudyDate": "20200131", "StudyTime": "0900", "TimezoneOffsetFromUTC": "-0500"}
    assert taken_at(header) == datetime(2020, 1, 31, 14, 0, tzinfo=UTC)
    own = {"AcquisitionDateTime": "20200131090000+0200", "TimezoneOffsetFromUTC": "-0500"}
    assert taken_at(own) == datetime(2020, 1, 31, 7, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "header",
    [
        {"StudyDate": "31/01/2020"},
        {"StudyDate": "20200230"},
        {"StudyDate": "20200131", "StudyTime": "2500"},
        {"StudyDate": "20200131", "StudyTime": "9am"},
        {"StudyDate": "202001", "StudyTime": "0900"},
        {"AcquisitionDateTime": "yesterday", "StudyDate": "20200131"},
        {"AcquisitionDateTime": "9999"},
        {"AcquisitionDateTime": "00010101000000+1400"},
    ],
)
def test_what_is_no_date_is_an_error_and_not_a_reason_to_look_further(header: dict[str, str]) -> None:
    with pytest.raises(BadTime, match="Date"):
        taken_at(header)


@pytest.mark.parametrize("zone", ["0100", "+1", "+9900", "+0160", "CET"])
def test_a_bad_zone_is_an_error(zone: str) -> None:
    with pytest.raises(BadTime, match="TimezoneOffsetFromUTC"):
        taken_at({"StudyDate": "20200131", "StudyTime": "0900", "TimezoneOffsetFromUTC": zone})
