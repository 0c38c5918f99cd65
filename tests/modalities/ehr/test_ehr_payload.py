"""From records to payloads."""

from datetime import UTC

import numpy as np
import pyarrow as pa
import pytest

from medfusion.core.errors import UsageError
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Records
from medfusion.modalities.ehr import EhrModality
from medfusion.modalities.ehr.summary import STATISTICS


def summary_of(payload, code):
    """Return the statistics of one code by name."""
    place = payload.vocabulary.codes.index(code)
    (row,) = np.flatnonzero(payload.codes == place)
    return dict(zip(STATISTICS, payload.summaries[row].tolist(), strict=True))


def test_a_payload_keeps_events_and_their_summaries(record, read):
    (payload,) = read(record([(5, "lactate", 2.0), (1, "lactate", 3.0), (4, "I10", None)], {"sex": "F", "site": None}))
    assert [payload.vocabulary.codes[place] for place in payload.event_codes] == ["lactate", "I10", "lactate"]
    assert payload.hours_before.tolist() == [5.0, 4.0, 1.0]
    np.testing.assert_array_equal(payload.values, [2.0, np.nan, 3.0])
    assert payload.facts == {"sex": "F"}
    assert summary_of(payload, "lactate")["slope"] == pytest.approx(0.25)
    assert summary_of(payload, "I10")["count"] == 1.0


def test_records_of_one_batch_do_not_mix(record, read):
    many = [record([(n + 1, "a", float(n)), (n + 2, f"only {n}", 1.0)], subject=f"P{n}") for n in range(7)]
    together, alone = read(*many), [read(one)[0] for one in many]
    for whole, single in zip(together, alone, strict=True):
        assert len(whole.codes) == 2
        for code in single.vocabulary.codes:
            np.testing.assert_equal(summary_of(whole, code), summary_of(single, code))
        np.testing.assert_array_equal(whole.values, single.values)


def test_reading_in_parts_equals_reading_at_once(ehr, record, monkeypatch):
    many = [record([(n + 1, "a", float(n))] * (n % 3), subject=f"P{n}") for n in range(10)]
    at_once, done = ehr.read(many, [], lambda _: None), []
    monkeypatch.setattr("medfusion.modalities.ehr.modality._AT_ONCE", 3)
    in_parts = ehr.read(many, [], done.append)
    assert done == [3, 3, 3, 1]
    assert [payload is None for payload in in_parts] == [payload is None for payload in at_once]
    for one, other in zip(in_parts, at_once, strict=True):
        if one is not None:
            np.testing.assert_array_equal(one.summaries, other.summaries)


def test_nothing_known_is_no_payload_and_facts_alone_are_one(record, read):
    nothing, facts = read(record([], {"sex": None}), record([], {"sex": "F"}))
    assert nothing is None
    assert facts.facts == {"sex": "F"}
    assert len(facts.codes) == len(facts.values) == 0


def test_records_of_a_cohort_without_events_are_read_for_their_facts(record, read):
    bare = pa.table({"subject_id": pa.array([], pa.string()), "time": pa.array([], pa.timestamp("us"))})
    (payload,) = read(Records("P1", record().as_of, bare, {"age_years": 61.0}))
    assert payload.facts == {"age_years": 61.0}
    assert read() == []


def test_times_with_a_zone_give_the_same_hours(record, read):
    naive = record([(5, "a", 2.0), (0, "a", 3.0)])
    zoned = naive.table.set_column(1, "time", naive.table["time"].cast(pa.timestamp("us", tz="UTC")))
    (payload,) = read(Records("P1", naive.as_of.replace(tzinfo=UTC), zoned))
    assert payload.hours_before.tolist() == [5.0, 0.0]


def test_a_cohort_folder_is_read_as_written(ehr, write, record):
    folder = write(
        "subject_id,time,code,numeric_value\nP1,2020-03-04T11:00,na,140\nP2,2020-03-04T10:00,na,\n", {"na": "mmol/L"}
    )
    table = ehr.index(folder).sort_by([("subject_id", "ascending"), ("time", "ascending")])
    records = [Records(f"P{n + 1}", record().as_of, table.slice(n, 1)) for n in range(2)]
    first, second = ehr.read(records, [], lambda _: None)
    assert first.vocabulary.units == ("mmol/L",)
    assert summary_of(first, "na")["hours_since_last"] == 1.0
    assert np.isnan(summary_of(second, "na")["last"])


def test_settings_are_refused_because_there_are_none():
    with pytest.raises(UsageError, match=r"ehr\.statistics: no such setting; ehr has none"):
        EhrModality(ModalityOptions({"statistics": "last"}))
