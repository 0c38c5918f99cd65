import math
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from scipy.special import expit

from medfusion.core.errors import Problem
from medfusion.core.files import atomic
from medfusion.core.lines import Entries
from medfusion.core.types import Distance, Explanation, FeatureShare, Sample
from medfusion.outputs.fold import fold, fold_lines
from medfusion.outputs.tables import (
    LEDGER,
    PREDICTIONS,
    QUARANTINE,
    SCHEMAS,
    check_predictions,
    empty_ledger,
    lines_table,
    predictions_table,
    quarantine_table,
    write_table,
)

NOON = datetime(2020, 3, 14, 12, 0)


def ledger_table(ledgers, top=None):
    """Build the table from ledgers of the modality that the first has."""
    samples, explanations = zip(*ledgers, strict=True)
    (name,) = explanations[0].by_feature
    lines = Entries.of([each.by_feature[name] for each in explanations])
    return lines_table(samples, [name], [fold_lines(lines, top)])


def predictions(**changes):
    shares = {"ehr": np.array([0.5, 0.0]), "notes": np.array([-0.25, 0.25])}
    logit = -1.0 + shares["ehr"] + shares["notes"]
    arguments = {
        "risk": expit(logit),
        "interval": np.array([[0.1, 0.6], [np.nan, np.nan]]),
        "logit": logit,
        "base_logit": np.array([-1.0, -1.0]),
        "shares": shares,
        "present": {"ehr": np.array([True, False]), "notes": np.array([True, True])},
        "distances": {"ehr": [None, None], "notes": [Distance(1.5, 80.0, False), None]},
        "risk_sets": ["no event", None],
        "findings": [["out-of-range", "few-notes"], []],
        "model_id": "m1",
        "seen_in_training": [True, None],
    }
    samples = [Sample("C1", NOON), Sample("C2", NOON)]
    return predictions_table(samples, **{**arguments, **changes})


def rows_as_json(path):
    for row in pq.read_table(path).to_pylist():
        yield {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def assert_matches(path, schema):
    validator = Draft202012Validator(schema.json_schema())
    rows = list(rows_as_json(path))
    for row in rows:
        validator.validate(row)
    return rows


def test_predictions_read_back_match_their_schema_and_add_up(tmp_path):
    path = tmp_path / "predictions.parquet"
    write_table(path, predictions())
    first, second = assert_matches(path, PREDICTIONS)
    assert first["risk"] == pytest.approx(1 / (1 + math.exp(0.75)))
    assert (first["risk_low"], first["risk_high"], second["risk_low"]) == (0.1, 0.6, None)
    assert (first["findings"], second["findings"]) == ("out-of-range,few-notes", None)
    assert (first["risk_set"], second["risk_set"]) == ("no event", None)
    assert (first["distance_notes"], first["percentile_notes"]) == (1.5, 80.0)
    assert (first["distance_ehr"], second["percentile_notes"]) == (None, None)
    assert (second["present_ehr"], second["share_ehr"], second["seen_in_training"]) == (False, 0.0, None)
    assert first["prediction_time"] == "2020-03-14T12:00:00"
    assert list(tmp_path.iterdir()) == [path]


def test_times_with_a_zone_stay_in_it():
    aware = [Sample("C1", NOON.replace(tzinfo=UTC)), Sample("C2", NOON.replace(tzinfo=UTC))]
    ledger = Explanation(0.0, {"a": 0.5}, {"a": [FeatureShare("x", None, 0.5)]}, 0.5)
    assert str(ledger_table([(aware[0], ledger)]).schema.field("prediction_time").type) == "timestamp[us, tz=UTC]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_logit": np.full(2, -1.00001)}, "2 of 2 .* subject C1: the shares do not sum to the logit"),
        ({"base_logit": np.array([-1.0, -0.9])}, "1 of 2 .* subject C2: the shares do not sum to the logit"),
        ({"risk": np.array([0.5, 0.5])}, "the risk is not the logistic of the logit"),
        ({"risk": np.array([np.nan, np.nan])}, "the risk is not the logistic of the logit"),
        ({"logit": np.array([-0.75, np.nan])}, "1 of 2 .* subject C2: the shares do not sum"),
        ({"present": {"ehr": np.array([True, False]), "notes": np.array([True, False])}}, "notes is absent and has"),
        ({"interval": np.array([[0.6, 0.1], [0.1, 0.6]])}, "the interval ends before it begins"),
    ],
    ids=["base", "base of one", "risk", "risk missing", "logit missing", "absent", "interval"],
)
def test_predictions_that_do_not_add_up_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        predictions(**changes)


def test_a_table_that_was_changed_afterwards_is_refused():
    table = predictions()
    changed = table.set_column(table.column_names.index("share_ehr"), "share_ehr", [[0.6, 0.0]])
    with pytest.raises(ValueError, match="first of subject C1"):
        check_predictions(changed)


def test_the_ledger_has_a_line_per_feature_with_its_value_as_text(tmp_path):
    lines = [FeatureShare("lactate", 4.70, 0.75), FeatureShare("sex", "F", -0.25), FeatureShare("pH", None, 0.0)]
    ledger = Explanation(-1.0, {"ehr": 0.5, "notes": 0.0}, {"ehr": lines}, -0.5)
    path = tmp_path / "ledger.parquet"
    write_table(path, ledger_table([(Sample("C1", NOON), ledger)]))
    rows = assert_matches(path, LEDGER)
    assert [(row["modality"], row["feature"], row["value"], row["share"]) for row in rows] == [
        ("ehr", "lactate", "4.7", 0.75),
        ("ehr", "sex", "F", -0.25),
        ("ehr", "pH", None, 0.0),
    ]


def test_a_folded_ledger_sums_to_the_same_share():
    lines = [FeatureShare(f"x{number}", None, (-1) ** number * number / 8) for number in range(20)]
    total = math.fsum(line.share for line in lines)
    ledger = Explanation(0.0, {"ehr": total}, {"ehr": lines}, total)
    table = ledger_table([(Sample("C1", NOON), ledger)], top=5)
    assert table.num_rows == 6
    assert math.fsum(table["share"].to_pylist()) == pytest.approx(total, abs=1e-12)
    assert table["feature"].to_pylist()[-1] == "(15 others)"


def test_the_quarantine_tells_whose_file_it_was_and_what_to_do(tmp_path):
    problems = [
        Problem("bad-time", "ehr.csv", "row 3", "time", "1/2/20", "ISO 8601", "write 2020-02-01", subject_id="C1"),
        Problem("unreadable-image", "imaging/a.dcm", "", "file", "zeros", "DICOM", "export it again"),
    ]
    path = tmp_path / "quarantine.parquet"
    write_table(path, quarantine_table(problems))
    first, second = assert_matches(path, QUARANTINE)
    assert (first["subject_id"], first["path"], first["code"]) == ("C1", "ehr.csv", "bad-time")
    assert first["detail"] == problems[0].line()
    assert (second["subject_id"], second["remedy"]) == (None, "export it again")


def test_empty_tables_have_the_columns_and_types_of_full_ones():
    ledger = Explanation(0.0, {"a": 0.5}, {"a": [FeatureShare("x", None, 0.5)]}, 0.5)
    assert empty_ledger(zoned=False).schema == ledger_table([(Sample("C1", NOON), ledger)]).schema
    zoned = ledger_table([(Sample("C1", NOON.replace(tzinfo=UTC)), ledger)])
    assert empty_ledger(zoned=True).schema == zoned.schema
    problem = Problem("bad-time", "ehr.csv", "", "time", "", "", "")
    assert quarantine_table([]).schema == quarantine_table([problem]).schema
    assert [column.name for column in QUARANTINE.columns] == quarantine_table([]).column_names


def test_every_schema_names_columns_of_its_table_and_is_itself_valid():
    for schema in SCHEMAS:
        Draft202012Validator.check_schema(schema.json_schema())
    assert {column.name for column in PREDICTIONS.columns} <= set(predictions().column_names)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


shares = st.floats(-5, 5, allow_nan=False)


@given(st.lists(shares, max_size=40), st.integers(1, 10))
@settings(deadline=None)
def test_folding_keeps_the_sum_and_the_largest(values, top):
    lines = [FeatureShare(f"x{number}", float(number), value) for number, value in enumerate(values)]
    folded = fold(lines, top)
    assert math.fsum(line.share for line in folded) == pytest.approx(math.fsum(values), abs=1e-12)
    assert len(folded) <= top + 1
    kept = [size for size in sorted((abs(value) for value in values), reverse=True)[:top] if size >= 0.005]
    assert [abs(line.share) for line in folded[: len(kept)]] == kept


def test_a_single_other_line_is_shown_as_it_is():
    lines = [FeatureShare("a", 1.0, 0.5), FeatureShare("b", 2.0, 0.25)]
    assert fold(lines, 1) == lines
