"""Changing a last value or a fact of a record: what may be changed, to what, and what comes of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from medfusion.core.edits import EditableValue, check_changes
from medfusion.core.errors import UsageError
from medfusion.core.protocols import Editable, ModalityOptions
from medfusion.core.types import Records
from medfusion.modalities.ehr import MODALITY
from medfusion.modalities.ehr.payload import read_payloads
from medfusion.modalities.ehr.summary import STATISTICS

AS_OF = datetime(2024, 3, 4, 9, 30)
LACTATE = "lactate (last value)"


def record(rows, subject=None, as_of=AS_OF):
    """Return a record of (hours before, code, unit, value)."""
    rows = sorted(rows, key=lambda row: -row[0])
    hours, codes, units, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    zone = "UTC" if as_of.tzinfo else None
    table = pa.table(
        {
            "subject_id": pa.array(["P1"] * len(rows), pa.string()),
            "time": pa.array([as_of - timedelta(hours=each) for each in hours], pa.timestamp("us", tz=zone)),
            "code": pc.dictionary_encode(pa.array(codes, pa.string())),
            "unit": pc.dictionary_encode(pa.array(units, pa.string())),
            "numeric_value": pa.array(values, pa.float64()),
        }
    )
    return Records("P1", as_of, table, subject or {})


@pytest.fixture(scope="module")
def modality():
    return MODALITY(ModalityOptions())


@pytest.fixture(scope="module")
def encoder(modality):
    """Return an encoder that has seen lactates from 1 to 9 mmol/L and proteins from 10 to 90 g/L."""
    training = [
        record(
            [(5.0, "lactate", "mmol/L", 2.0), (1.0, "lactate", "mmol/L", value), (1.0, "protein", "g/L", 10 * value)],
            {"age_years": 30.0 + value, "sex": "F" if value % 2 else "M"},
        )
        for value in map(float, [*range(1, 10), *range(1, 10)])
    ]
    encoder = modality.encoder()
    encoder.fit(read_payloads(training), np.zeros(len(training), dtype=bool))
    return encoder


def listed(modality, encoder, mine):
    return {value.name: value for value in modality.editable(mine, [encoder])}


def summary(changed, code):
    """Return the statistics of a code, by name."""
    (payload,) = read_payloads([changed])
    place = payload.vocabulary.codes.index(code)
    return dict(zip(STATISTICS, payload.summaries[payload.codes.tolist().index(place)], strict=True))


def test_it_is_a_modality_whose_values_may_be_changed(modality):
    assert isinstance(modality, Editable)


def test_values_that_were_recorded_come_first_with_the_range_of_the_training(modality, encoder):
    mine = record([(2.0, "lactate", "mmol/L", 4.7), (2.0, "unheard of", "", 1.0)], {"sex": "F", "age_years": 50.0})
    values = modality.editable(mine, [encoder])
    assert [value.value is None for value in values] == sorted(value.value is None for value in values)
    known = {value.name: value for value in values}
    assert known[LACTATE] == EditableValue(LACTATE, 4.7, "mmol/L", 1.0, 9.0)
    assert known["age_years"] == EditableValue("age_years", 50.0, "", 31.0, 39.0)
    assert known["sex"] == EditableValue("sex", "F", choices=("F", "M"))
    assert known["protein (last value)"].value is None
    assert not any("unheard" in name for name in known)


def test_the_range_is_told_in_the_unit_of_the_record(modality, encoder):
    value = listed(modality, encoder, record([(2.0, "protein", "g/dL", 4.0)]))["protein (last value)"]
    assert (value.value, value.unit) == (4.0, "g/dL")
    assert (value.low, value.high) == pytest.approx((1.0, 9.0))
    # There is no exact conversion, so no range either.
    value = listed(modality, encoder, record([(2.0, "lactate", "mg/dL", 40.0)]))[LACTATE]
    assert (value.low, value.high) == (None, None)


def test_the_last_value_changes_and_the_earlier_ones_stay(modality):
    mine = record([(9.0, "lactate", "mmol/L", 6.0), (2.0, "lactate", "mmol/L", 4.0), (1.0, "sodium", "mmol/L", 139.0)])
    changed = summary(modality.edited(mine, {LACTATE: 1.5}), "lactate")
    assert (changed["first"], changed["last"], changed["min"], changed["max"]) == (6.0, 1.5, 1.5, 6.0)
    assert changed["hours_since_last"] == 2.0
    assert summary(modality.edited(mine, {LACTATE: 1.5}), "sodium")["last"] == 139.0
    assert mine.table["numeric_value"].to_pylist() == [6.0, 4.0, 139.0]


def test_values_of_the_last_moment_all_change(modality, encoder):
    mine = record([(2.0, "lactate", "mmol/L", 4.0), (2.0, "lactate", "mmol/L", 6.0)])
    assert listed(modality, encoder, mine)[LACTATE].value == 5.0
    assert summary(modality.edited(mine, {LACTATE: 1.5}), "lactate")["max"] == 1.5


def test_an_event_without_a_value_is_no_last_value(modality, encoder):
    mine = record([(9.0, "lactate", "mmol/L", 6.0), (2.0, "lactate", "mmol/L", None)])
    assert listed(modality, encoder, mine)[LACTATE].value == 6.0
    assert summary(modality.edited(mine, {LACTATE: 1.5}), "lactate")["last"] == 1.5


@pytest.mark.parametrize("zone", [None, UTC])
def test_what_was_not_recorded_is_as_if_it_had_been_at_the_prediction(modality, zone):
    as_of = AS_OF.replace(tzinfo=zone)
    for mine in (record([(2.0, "sodium", "mmol/L", 139.0)], as_of=as_of), record([], as_of=as_of)):
        changed = summary(modality.edited(mine, {LACTATE: 1.5}), "lactate")
        assert (changed["last"], changed["count"], changed["hours_since_last"]) == (1.5, 1.0, 0.0)
    nothing = pa.table({"subject_id": pa.array([], pa.string()), "time": pa.array([], pa.timestamp("us"))})
    bare = Records("P1", AS_OF, nothing, {})
    assert summary(modality.edited(bare, {LACTATE: 1.5}), "lactate")["last"] == 1.5
    assert modality.edited(bare, {LACTATE: None}).table.num_rows == 0


def test_none_leaves_a_whole_series_out_and_makes_a_fact_unknown(modality):
    mine = record([(9.0, "lactate", "mmol/L", 6.0), (2.0, "sodium", "mmol/L", 139.0)], {"sex": "F", "age_years": 50.0})
    changed = modality.edited(mine, {LACTATE: None, "sex": None})
    (payload,) = read_payloads([changed])
    assert payload.vocabulary.codes == ("sodium",)
    assert payload.facts == {"age_years": 50.0}


def test_nothing_changed_is_the_record(modality):
    mine = record([(9.0, "lactate", "mmol/L", 6.0)], {"sex": "F"})
    assert modality.edited(mine, {}) == mine
    assert modality.edited(mine, {"sex": "M"}) == replace(mine, subject={"sex": "M"})


def test_a_value_outside_the_training_is_refused_unless_it_is_what_was_recorded():
    values = [EditableValue("lactate", 40.0, "mmol/L", 1.0, 9.0)]
    check_changes(values, {"lactate": 40.0})
    check_changes(values, {"lactate": None})
    with pytest.raises(UsageError, match="from 1 to 9"):
        check_changes(values, {"lactate": 39.0})
