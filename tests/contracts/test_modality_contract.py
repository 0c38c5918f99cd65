"""What every modality has to do, tried on each that is there."""

import subprocess
import sys
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.core.errors import UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.schema import TableSchema
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Attribution, FeatureShare, Records
from medfusion.core.views import ImageView, SeriesView, TextView
from medfusion.modalities import discover

NAMES = sorted(discover())
EXAMPLES = 12


def dense(values):
    """Return an embedding's values as an array (n, d), be they sparse or not."""
    return np.asarray(values if isinstance(values, np.ndarray) else values.toarray(), dtype=float)


class Case:
    """One modality with example payloads and an encoder that was fitted on them."""

    def __init__(self, name):
        self.name = name
        self.modality = discover()[name](ModalityOptions())
        self.payloads = [self.modality.example(seed) for seed in range(EXAMPLES)]
        self.encoder = self.modality.encoder()
        self.encoder.fit(self.payloads, np.arange(EXAMPLES) % 2 == 0)

    def dense(self, payloads):
        return dense(self.encoder.encode(payloads).values)

    def attribution(self, payload, slope, constant):
        """Open a linear head up: what is missing adds nothing."""
        reference = np.nan_to_num(self.dense(self.payloads)).mean(axis=0)
        shares = np.nan_to_num(slope * (self.dense([payload])[0] - reference))
        return Attribution(shares, constant, slope, reference)


@pytest.fixture(scope="session", params=NAMES)
def case(request):
    return Case(request.param)


def test_a_modality_is_named_like_its_folder(case):
    kind = discover()[case.name]
    assert kind.name == case.name == case.modality.name
    assert kind.__module__.startswith(f"medfusion.modalities.{case.name}")


def test_its_tables_have_a_subject(case):
    assert case.modality.tables
    for table in case.modality.tables:
        assert isinstance(table, TableSchema)
        assert "subject_id" in [column.name for column in table.columns]
        assert all(column.description for column in table.columns)


def test_what_payloads_depend_on_is_text_and_the_same_every_time(case):
    identity = dict(case.modality.identity())
    assert identity
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in identity.items())
    assert dict(discover()[case.name](ModalityOptions()).identity()) == identity


def test_a_setting_that_does_not_exist_is_wrong_usage(case):
    with pytest.raises(UsageError, match="no_such_setting"):
        discover()[case.name](ModalityOptions({"no_such_setting": "1"}))


def test_an_empty_folder_has_nothing_of_it_and_that_is_no_problem(case, tmp_path):
    (tmp_path / "cohort.toml").write_text("", encoding="utf-8")
    folder = CohortFolder.open(tmp_path)
    assert case.modality.index(folder) is None
    assert folder.problems == []


def test_records_without_rows_are_absent(case):
    nothing = pa.table({"subject_id": pa.array([], pa.string()), "time": pa.array([], pa.timestamp("us"))})
    records = [Records(f"P{number}", datetime(2024, 1, 1), nothing) for number in range(3)]
    problems, done = [], []
    assert case.modality.read(records, problems, done.append) == [None, None, None]
    assert (problems, sum(done)) == ([], 3)
    assert case.modality.read([], problems, done.append) == []


def test_an_absent_payload_gives_an_absent_row_and_the_others_are_as_without_it(case):
    embedding = case.encoder.encode([None, case.payloads[0], None])
    assert embedding.present.tolist() == [False, True, False]
    np.testing.assert_allclose(case.dense([None, case.payloads[0]])[1], case.dense(case.payloads)[0], atol=1e-6)


def test_no_payload_gives_no_row_and_absent_payloads_alone_are_no_problem(case):
    width = case.dense(case.payloads).shape[1]
    assert case.encoder.encode([]).values.shape == (0, width)
    assert not case.encoder.encode([None, None]).present.any()


def test_an_embedding_has_a_name_for_every_feature_and_is_never_infinite(case):
    embedding = case.encoder.encode(case.payloads)
    assert embedding.present.all()
    assert len(set(embedding.feature_names)) == len(embedding.feature_names) == embedding.values.shape[1] > 0
    assert embedding.values.dtype == np.float32
    assert not np.isinf(case.dense(case.payloads)).any()


def test_different_payloads_have_different_rows(case):
    rows = np.nan_to_num(case.dense(case.payloads))
    assert len(np.unique(rows, axis=0)) > EXAMPLES // 2


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), which=st.integers(0, EXAMPLES - 1), constant=st.floats(-5, 5))
def test_the_lines_of_a_payload_sum_to_its_share_whatever_the_slope(case, seed, which, constant):
    width = case.dense(case.payloads).shape[1]
    slope = np.random.default_rng(seed).normal(size=width) / np.sqrt(width)
    attribution = case.attribution(case.payloads[which], slope, constant)
    lines = case.encoder.explain(case.payloads[which], attribution)
    assert all(isinstance(line, FeatureShare) and line.feature for line in lines)
    assert all(line.value is None or isinstance(line.value, float | str) for line in lines)
    assert len({line.feature for line in lines}) == len(lines)
    assert sum(line.share for line in lines) == pytest.approx(attribution.total, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), which=st.integers(0, EXAMPLES - 1))
def test_where_trees_suit_it_lines_need_no_slope(case, seed, which):
    if "trees" not in case.encoder.heads:
        return
    width = case.dense(case.payloads).shape[1]
    attribution = Attribution(np.random.default_rng(seed).normal(size=width), -0.3)
    lines = case.encoder.explain(case.payloads[which], attribution)
    assert sum(line.share for line in lines) == pytest.approx(attribution.total, abs=1e-6)


def test_an_encoder_that_is_written_and_read_back_is_the_same(case, tmp_path):
    save_state(tmp_path, "encoder", case.encoder.state())
    again = case.modality.restore(load_state(tmp_path, "encoder"))
    before, after = case.encoder.encode(case.payloads), again.encode(case.payloads)
    assert list(after.feature_names) == list(before.feature_names)
    assert after.same_unit == before.same_unit
    width = before.values.shape[1]
    np.testing.assert_array_equal(case.dense(case.payloads), dense(after.values))
    attribution = case.attribution(case.payloads[0], np.linspace(-1, 1, width) / width, 0.1)
    assert again.explain(case.payloads[0], attribution) == case.encoder.explain(case.payloads[0], attribution)


def test_fitting_does_not_look_at_who_comes_first(case):
    order = np.random.default_rng(0).permutation(EXAMPLES)
    other = case.modality.encoder()
    other.fit([case.payloads[place] for place in order], order % 2 == 0)
    before, after = case.encoder.encode(case.payloads), other.encode(case.payloads)
    assert sorted(after.feature_names) == sorted(before.feature_names)
    by_name = [list(after.feature_names).index(name) for name in before.feature_names]
    np.testing.assert_allclose(dense(after.values)[:, by_name], case.dense(case.payloads), atol=1e-5)


def test_fingerprints_are_texts_equal_for_equal_payloads(case):
    prints = [case.modality.fingerprints(payload) for payload in case.payloads]
    assert all(isinstance(each, str) for some in prints for each in some)
    assert case.modality.fingerprints(case.modality.example(3)) == prints[3]
    if prints[0]:
        assert len({tuple(some) for some in prints}) > EXAMPLES // 2


def test_how_a_payload_came_about_is_text_and_finite_numbers_the_same_every_time(case):
    told = [dict(case.modality.acquisition(payload)) for payload in case.payloads]
    assert all(isinstance(key, str) and key for each in told for key in each)
    for value in (value for each in told for value in each.values()):
        assert isinstance(value, str | int | float)
        assert value if isinstance(value, str) else np.isfinite(value)
    assert dict(case.modality.acquisition(case.modality.example(3))) == told[3]


def test_a_view_is_of_a_kind_that_screens_know(case):
    width = case.dense(case.payloads).shape[1]
    attribution = case.attribution(case.payloads[0], np.ones(width) / width, 0.2)
    lines = case.encoder.explain(case.payloads[0], attribution)
    for shares in (lines, []):
        views = case.modality.view(case.payloads[0], shares)
        assert views
        assert all(isinstance(view, ImageView | SeriesView | TextView) for view in views)
        assert all(view.title for view in views)


def test_an_example_is_the_same_for_the_same_seed(case):
    again = case.modality.example(5)
    np.testing.assert_array_equal(case.dense([again]), case.dense([case.payloads[5]]))


@pytest.mark.parametrize("name", NAMES)
def test_importing_a_modality_is_light(name):
    heavy = ["torch", "monai", "transformers", "shap", "xgboost"]
    code = f"import sys, medfusion.modalities.{name}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
