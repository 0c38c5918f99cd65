"""From payloads to an embedding, and back to features."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.core.errors import MedfusionWarning
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Attribution
from medfusion.modalities.ehr.summary import PLAIN


@pytest.fixture(scope="module")
def ward(record, read):
    """Twenty patients: heart rate in all, lactate in half, a rare code in three, a diagnosis in ten."""
    rng = np.random.default_rng(5)
    records = []
    for n in range(20):
        rows = [(float(hours), "heart rate", float(rng.normal(80, 10))) for hours in rng.uniform(0, 48, 4)]
        rows += [(float(hours), "lactate", float(rng.lognormal())) for hours in rng.uniform(0, 48, 7)] * (n % 2)
        rows += [(3.0, "rare", 1.0)] * (n < 3) + [(float(n), "I10", None)] * (n < 10)
        facts = {"sex": "FM"[n % 2], "age_years": 40.0 + n, "site": "A", "ward": "X" if n < 3 else None, "empty": None}
        records.append(record(rows, facts, {"lactate": "mmol/L"}, f"P{n}"))
    return read(*records)


@pytest.fixture
def encoder(ehr, ward):
    encoder = ehr.encoder()
    encoder.fit(ward, np.arange(20) % 3 == 0)
    return encoder


def column(embedding, name):
    return embedding.values[:, list(embedding.feature_names).index(name)]


def test_features_are_codes_with_statistics_numbers_and_levels(encoder, ward):
    embedding = encoder.encode(ward)
    names = list(embedding.feature_names)
    assert [name for name in names if name.startswith("lactate ")] == [f"lactate {name}" for name in PLAIN]
    assert [name for name in names if name.startswith("I10 ")] == ["I10 count", "I10 hours_since_last"]
    assert names[-3:] == ["age_years", "sex=F", "sex=M"]
    assert embedding.values.dtype == np.float32
    assert embedding.present.all()


def test_what_is_rare_constant_or_all_missing_is_no_feature(encoder, ward):
    names = encoder.encode(ward).feature_names
    # "rare" and ward=X are known of three; site is A for all; heart rate was always counted four times.
    assert not [name for name in names if name.startswith(("rare", "ward", "site", "empty"))]
    assert "heart rate count" not in names


def test_statistics_that_say_the_same_are_one_feature(ehr, record, read):
    encoder = ehr.encoder()
    encoder.fit(read(*[record([(2.0 + n, "temperature", 36.0 + n / 10)]) for n in range(20)]), None)
    assert encoder.feature_names == ["temperature last", "temperature hours_since_last"]


def test_no_column_is_entirely_missing_or_constant_in_training(encoder, ward):
    values = encoder.encode(ward).values
    assert (~np.isnan(values)).any(axis=0).all()
    assert (np.nanmin(values, axis=0) < np.nanmax(values, axis=0)).all()


def test_missing_stays_nan_and_only_the_count_of_what_was_not_recorded_is_zero(encoder, ward):
    embedding = encoder.encode(ward)
    without = np.arange(20) % 2 == 0
    for name in PLAIN:
        values = column(embedding, f"lactate {name}")[without]
        assert (values == 0).all() if name == "count" else np.isnan(values).all()


def test_somebody_without_any_event_has_no_counts(encoder, record, read):
    embedding = encoder.encode(read(record([], {"age_years": 50.0})))
    assert column(embedding, "age_years").tolist() == [50.0]
    assert np.isnan(column(embedding, "lactate count")).all()


def test_absent_payloads_are_absent_rows(encoder, record, read):
    embedding = encoder.encode([None, *read(record([(1, "heart rate", 80.0)]), record([], {"site": "B"}))])
    assert embedding.present.tolist() == [False, True, False]
    assert np.isnan(embedding.values[[0, 2]]).all()


def test_a_new_level_is_zero_in_all_columns_and_an_unknown_one_is_nan(encoder, record, read):
    new, unknown = read(record([], {"sex": "other", "age_years": 1}), record([], {"age_years": 1}))
    embedding = encoder.encode([new, unknown])
    assert embedding.values[:, -2:].tolist()[0] == [0.0, 0.0]
    assert np.isnan(embedding.values[1, -2:]).all()


def test_levels_that_a_table_gives_as_numbers_or_text_are_the_same(ehr, record, read):
    encoder = ehr.encoder()
    encoder.fit(read(*[record([], {"unit": ["2", "ICU"][n % 2], "weight_kg": 60.0 + n}) for n in range(10)]), None)
    embedding = encoder.encode(
        read(record([], {"unit": 2.0, "weight_kg": "61.5"}), record([], {"weight_kg": "unknown"}))
    )
    assert embedding.feature_names == ["weight_kg", "unit=2", "unit=ICU"]
    assert embedding.values[0].tolist() == [61.5, 1.0, 0.0]
    assert np.isnan(embedding.values[1]).all()


def test_order_of_subjects_changes_nothing(ehr, encoder, ward):
    order = np.random.default_rng(0).permutation(len(ward))
    other = ehr.encoder()
    other.fit([ward[place] for place in order], None)
    np.testing.assert_array_equal(
        other.encode([ward[place] for place in order]).values, encoder.encode(ward).values[order]
    )
    assert other.feature_names == encoder.feature_names


def test_other_payloads_in_a_batch_change_nothing(encoder, ward):
    together = encoder.encode(ward).values
    alone = np.vstack([encoder.encode([payload]).values for payload in ward])
    np.testing.assert_array_equal(alone, together)


def test_another_unit_than_in_training_is_converted(encoder, record, read):
    rows = [(9, "lactate", 1.0), (3, "lactate", 1.6)]
    smaller = [(hours, code, 1000 * value) for hours, code, value in rows]
    same, other = read(record(rows, units={"lactate": "mmol/L"})), read(record(smaller, units={"lactate": "umol/L"}))
    np.testing.assert_allclose(encoder.encode(other).values, encoder.encode(same).values, rtol=1e-6)
    lines = encoder.explain(other[0], Attribution(np.zeros(len(encoder.feature_names)), 0.0))
    observed = {line.feature: line.value for line in lines}
    expected = {"last": 1.6, "first": 1.0, "min": 1.0, "max": 1.6, "mean": 1.3, "slope": 0.1, "count": 2.0}
    for name, number in expected.items():
        assert observed[f"lactate {name}"] == pytest.approx(number)


def test_a_unit_without_exact_conversion_is_missing_and_warned_of(encoder, record, read):
    payloads = read(record([(3, "lactate", 18.0)], units={"lactate": "mg/dL"}))
    with pytest.warns(MedfusionWarning, match="lactate is given in mg/dL; the model was trained on mmol/L"):
        embedding = encoder.encode(payloads)
    assert np.isnan(column(embedding, "lactate last")).all()
    assert column(embedding, "lactate count").tolist() == [1.0]


def test_values_outside_the_training_range_are_drawn_in_but_shown_as_observed(ehr, record, read):
    encoder = ehr.encoder()
    encoder.fit(read(*[record([(1.0 + n, "ph", 7.0 + n / 20)]) for n in range(10)]), None)
    low, high = read(record([(3, "ph", -4.0)]), record([(3, "ph", 735.0)]))
    assert column(encoder.encode([low, high]), "ph last").tolist() == pytest.approx([7.0, 7.45])
    attribution = Attribution(np.zeros(len(encoder.feature_names)), 0.0)
    assert [encoder.explain(payload, attribution)[0].value for payload in (low, high)] == [-4.0, 735.0]


def test_fitting_on_nothing_gives_no_features_and_nobody_is_present(ehr, ward):
    encoder = ehr.encoder()
    encoder.fit([None, None], np.array([True, False]))
    embedding = encoder.encode([None, ward[0]])
    assert embedding.values.shape == (2, 0)
    assert not embedding.present.any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 19), st.integers(0, 2**32 - 1))
def test_an_explanation_adds_up_and_shows_what_was_observed(ehr, ward, place, seed):
    encoder = ehr.encoder()
    encoder.fit(ward, None)
    shares = np.random.default_rng(seed).normal(size=len(encoder.feature_names))
    lines = encoder.explain(ward[place], Attribution(shares, 0.25))
    assert math.fsum(line.share for line in lines) == pytest.approx(shares.sum() + 0.25, abs=1e-9)
    by_name = {line.feature: line for line in lines}
    assert len(by_name) == len(lines)
    assert by_name["age_years"].value == 40.0 + place
    assert by_name["sex"].value == "FM"[place % 2]
    assert by_name["sex"].share == pytest.approx(shares[-2:].sum())
    assert by_name["(average record)"].share == 0.25
    assert (by_name["lactate last"].value is None) == (place % 2 == 0)
    assert by_name["heart rate last"].value in ward[place].values


def test_an_encoder_comes_back_from_disk_as_it_was(ehr, encoder, ward, tmp_path):
    save_state(tmp_path, "ehr", encoder.state())
    restored = ehr.restore(load_state(tmp_path, "ehr"))
    assert restored.feature_names == encoder.feature_names
    np.testing.assert_array_equal(restored.encode(ward).values, encoder.encode(ward).values)
    attribution = Attribution(np.arange(len(encoder.feature_names), dtype=float), 0.0)
    assert restored.explain(ward[1], attribution) == encoder.explain(ward[1], attribution)


def test_an_unfitted_encoder_comes_back_from_disk_too(ehr, ward, tmp_path):
    save_state(tmp_path, "ehr", ehr.encoder().state())
    assert ehr.restore(load_state(tmp_path, "ehr")).encode(ward).values.shape == (20, 0)
