"""One patient kept open: what is told of them is what a scoring run tells, and a "what if" is what files would give."""

import csv
import shutil
from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist, pdist
from scipy.special import expit, logit
from sklearn.preprocessing import StandardScaler

from medfusion.core.errors import DataError, UsageError
from medfusion.core.types import Embedding
from medfusion.fusion.recalibration import Recalibration
from medfusion.outputs.ledger import footnotes, ledger_json
from medfusion.pipeline import Desk, TrainingCohort, explain, open_for_use, run_fingerprints, score, scored_at
from medfusion.pipeline.similar import Space
from medfusion.pipeline.worth import LEVELS, SHARES, quantiles

SERIES = "lactate (last value)"


@pytest.fixture(scope="module")
def model(opened):
    return opened.model


@pytest.fixture(scope="module")
def desk(model, new_patients):
    return Desk(model, new_patients.folder)


@pytest.fixture(scope="module")
def whole(desk):
    """Return a patient who has everything, and a lactate."""
    for subject in desk.cohort.subjects:
        patient = desk.patient(subject)
        lactate = {value.name: value for value in patient.editable()["ehr"]}.get(SERIES)
        if all(patient.report().present.values()) and lactate is not None and lactate.value is not None:
            return patient
    raise AssertionError("nobody has everything")


@pytest.fixture
def copied(new_patients, tmp_path):
    """Return a copy of the cohort whose tables may be changed."""
    return shutil.copytree(new_patients.folder, tmp_path / "cohort")


def rewritten(path, change):
    """Rewrite a table row by row; a row that becomes None is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names, rows = reader.fieldnames, [change(row) for row in reader]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(row for row in rows if row is not None)


def fresh(patient, trained, folder, cache):
    """Explain the patient as a cohort folder has them."""
    opened = open_for_use(trained.folder, folder, cache)
    return explain(opened, patient.sample.subject_id, patient.sample.prediction_time)


def lacks_films(patient):
    return not patient.report().present["imaging"]


def same(one, other):
    """Say that two reports tell the same, line by line."""
    a, b = ledger_json(one), ledger_json(other)
    for name in ("risk", "risk_low", "risk_high", "logit", "base_logit"):
        assert a[name] == pytest.approx(b[name], abs=1e-9), name
    assert (a["findings"], a["certainty"]) == (b["findings"], b["certainty"])
    for mine, theirs in zip(a["modalities"], b["modalities"], strict=True):
        assert (mine["modality"], mine["present"]) == (theirs["modality"], theirs["present"])
        lines = [
            {line["feature"]: (line["value"], line["share"]) for line in each["features"]} for each in (mine, theirs)
        ]
        assert lines[0].keys() == lines[1].keys()
        for feature, (value, share) in lines[0].items():
            assert value == pytest.approx(lines[1][feature][0]), feature
            assert share == pytest.approx(lines[1][feature][1], abs=1e-7), feature


def mine(patient, row):
    """Say whether a row of a table is this patient's, and was known at the prediction time."""
    known = "time" not in row or datetime.fromisoformat(row["time"]) <= patient.sample.prediction_time
    return row["subject_id"] == patient.sample.subject_id and known


def last_of(patient, path, code):
    with path.open(encoding="utf-8", newline="") as file:
        times = [row["time"] for row in csv.DictReader(file) if mine(patient, row) and row["code"] == code]
    return max(times)


def test_the_report_is_that_of_explain(whole, trained, new_patients, cache):
    same(whole.report(), fresh(whole, trained, new_patients.folder, cache))
    assert {name for name, views in whole.report().views.items() if views} == set(whole.model.modalities)


def test_a_last_value_that_is_changed_is_as_if_it_stood_in_the_file(whole, trained, copied, cache):
    path = copied / "ehr.csv"
    last = last_of(whole, path, "lactate")
    before = next(value.value for value in whole.editable()["ehr"] if value.name == SERIES)

    def change(row):
        hit = mine(whole, row) and row["code"] == "lactate" and row["time"] == last
        return row | {"numeric_value": "1.25"} if hit else row

    rewritten(path, change)
    hypothetical = whole.what_if({"ehr": {SERIES: 1.25}})
    same(hypothetical, fresh(whole, trained, copied, cache))
    assert hypothetical.hypothetical == (f"{SERIES}: {before:.6g} → 1.25 mmol/L",)
    assert "Hypothetical" in footnotes(hypothetical)[0]
    assert whole.report().hypothetical == ()
    assert not any("Hypothetical" in line for line in footnotes(whole.report()))


def test_a_fact_that_is_changed_is_as_if_it_stood_in_the_file(whole, trained, copied, cache):
    rewritten(copied / "subjects.csv", lambda row: row | {"age_years": "40", "sex": "F"} if mine(whole, row) else row)
    report = whole.what_if({"ehr": {"age_years": 40.0, "sex": "F"}})
    same(report, fresh(whole, trained, copied, cache))


def test_a_series_that_is_left_out_is_as_if_it_had_never_been_measured(whole, trained, copied, cache):
    rewritten(copied / "ehr.csv", lambda row: None if mine(whole, row) and row["code"] == "lactate" else row)
    same(whole.what_if({"ehr": {SERIES: None}}), fresh(whole, trained, copied, cache))


def test_a_series_that_was_never_measured_may_be_as_of_the_prediction_time(desk, trained, copied, cache):
    patient, value = next(
        (patient, value)
        for patient in map(desk.patient, desk.cohort.subjects)
        for value in patient.editable()["ehr"]
        if value.value is None and value.name.endswith("(last value)") and patient.records["ehr"].table.num_rows
    )
    middle = (value.low + value.high) / 2
    row = [
        patient.sample.subject_id,
        patient.sample.prediction_time.isoformat(),
        value.name.removesuffix(" (last value)"),
    ]
    with (copied / "ehr.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow([*row, middle, value.unit])
    same(patient.what_if({"ehr": {value.name: middle}}), fresh(patient, trained, copied, cache))


def test_a_modality_that_is_blanked_is_as_if_the_cohort_did_not_have_it(whole, trained, copied, cache):
    shutil.rmtree(copied / "imaging")
    report = whole.what_if({}, without=["imaging"])
    same(report, fresh(whole, trained, copied, cache))
    assert not report.present["imaging"]
    assert report.explanation.by_modality["imaging"] == 0.0
    assert report.hypothetical == ("without imaging",)


@pytest.mark.parametrize(
    ("changes", "without", "said"),
    [
        ({"ehr": {SERIES: 1e6}}, [], "what the model has learnt from"),
        ({"ehr": {SERIES: "high"}}, [], "has to be a number"),
        ({"ehr": {SERIES: float("nan")}}, [], "has to be a number"),
        ({"ehr": {"sex": "x"}}, [], "one of F, M"),
        ({"ehr": {"shoe size": 43.0}}, [], "no value that may be changed"),
        ({"imaging": {"pixels": 1.0}}, [], "no value that may be changed"),
        ({"genome": {}}, [], "no modality 'genome'"),
        ({}, ["genome"], "no modality 'genome'"),
    ],
)
def test_what_cannot_be_is_refused(whole, changes, without, said):
    with pytest.raises(UsageError, match=said):
        whole.what_if(changes, without)


def test_a_change_of_the_group_reaches_the_recalibration_by_group(whole):
    groups = Recalibration(column="sex", groups={"F": 0.4, "M": -0.3})
    patient = replace(whole, model=replace(whole.model, recalibration=groups))
    offsets = {}
    for sex in ("F", "M"):
        with_groups = patient.what_if({"ehr": {"sex": sex}}).explanation.logit
        offsets[sex] = with_groups - whole.what_if({"ehr": {"sex": sex}}).explanation.logit
    assert offsets == pytest.approx(groups.groups, abs=1e-9)


def test_the_risk_is_the_scored_one_and_a_changed_file_is_noticed(desk, trained, copied, cache, tmp_path):
    score(trained.folder, copied, tmp_path / "scores", cache=cache)
    rows = pq.read_table(tmp_path / "scores" / "predictions.parquet").to_pylist()
    runs = run_fingerprints(tmp_path / "scores", desk.model.model_id)
    here = Desk(desk.model, copied)
    for row in rows[:6]:
        patient = here.patient(row["subject_id"], row["prediction_time"])
        assert patient.report().explanation.risk == pytest.approx(row["risk"], abs=1e-9)
        assert patient.is_as_scored(row["input_hash"], runs) is True
        assert patient.is_as_scored("", runs) is None
        assert patient.is_as_scored(row["input_hash"], []) is None
    first = here.patient(rows[0]["subject_id"], rows[0]["prediction_time"])
    rewritten(copied / "subjects.csv", lambda row: row | {"age_years": "41"} if mine(first, row) else row)
    again = here.patient(rows[0]["subject_id"], rows[0]["prediction_time"])
    assert again.facts["age_years"] == 41.0
    assert again.is_as_scored(rows[0]["input_hash"], runs) is False
    assert run_fingerprints(tmp_path / "scores", "another") == []
    last = rows[-1]
    assert scored_at(tmp_path / "scores", last["subject_id"], last["prediction_time"]) == last["scored_at"]
    assert scored_at(tmp_path / "scores", "nobody", last["prediction_time"]) is None


def test_of_others_nothing_is_read_once_the_cohort_is_indexed(desk, whole, copied):
    here = Desk(desk.model, copied)
    assert len(here.cohort) == len(desk.cohort)
    for folder in (copied / "imaging").glob("*/*"):
        if folder.name != whole.sample.subject_id:
            shutil.rmtree(folder)
    patient = here.patient(whole.sample.subject_id, whole.sample.prediction_time)
    assert patient.problems == ()
    same(patient.report(), whole.report())


def test_a_patient_who_vanished_and_a_film_that_is_broken_are_told_of(desk, whole, copied):
    here = Desk(desk.model, copied)
    subject = whole.sample.subject_id
    films = [path for path in (copied / "imaging").rglob("*") if path.is_file() and subject in path.parts]
    for film in films:
        film.write_bytes(film.read_bytes()[:2000])
    patient = here.patient(subject, whole.sample.prediction_time)
    assert {problem.subject_id for problem in patient.problems} == {subject}
    assert not patient.report().present["imaging"]
    rewritten(copied / "labels" / "deterioration.csv", lambda row: None if mine(whole, row) else row)
    with pytest.raises(UsageError, match="no sample"):
        here.patient(subject)
    (copied / "cohort.toml").unlink()
    with pytest.raises(DataError, match=r"cohort\.toml"):
        here.patient(subject)


def test_what_is_missing_is_worth_what_it_was_to_training_patients_of_that_risk(opened, model, desk):
    """Draw from the training: patients with the event as often as the risk says, and without it else."""
    predictions, _ = opened.predict(opened.cohort.samples, lambda _stage, _total: lambda _done: None)
    events = np.array([sample.event for sample in opened.cohort.samples])
    subjects = np.array([sample.subject_id for sample in opened.cohort.samples])
    weights = np.array([1.0 / (subjects == subject).sum() for subject in subjects])
    patient = next(each for each in map(desk.patient, desk.cohort.subjects) if lacks_films(each))
    report, worth = patient.report(), {each.modality: each for each in patient.worth()}
    assert set(worth) == {name for name, here in report.present.items() if not here}
    column = list(model.evidence).index("imaging")
    here, rng = predictions.present[:, column], np.random.default_rng(0)
    drawn = []
    for outcome, often in ((True, report.explanation.risk), (False, 1 - report.explanation.risk)):
        group = here & (events == outcome)
        chance = weights[group] / weights[group].sum()
        drawn.append(rng.choice(predictions.shares[group, column], round(100_000 * often), p=chance))
    expected = expit(report.explanation.logit + np.quantile(np.concatenate(drawn), [0.1, 0.5, 0.9]))
    found = worth["imaging"]
    assert [found.low, found.middle, found.high] == pytest.approx(expected.tolist(), abs=0.06)
    assert found.low < found.middle < found.high


def test_what_is_missing_is_worth_what_a_recalibrated_model_would_say(desk):
    """An offset of the pattern that the patient would have moves where the risk would end, and nothing else."""
    patient = next(each for each in map(desk.patient, desk.cohort.subjects) if lacks_films(each))
    plain = next(each for each in patient.worth() if each.modality == "imaging")
    pattern = " + ".join(name for name, here in patient.report().present.items() if here or name == "imaging")
    recalibrated = replace(patient.model, recalibration=Recalibration(patterns={pattern: 0.3}))
    moved = next(each for each in replace(patient, model=recalibrated).worth() if each.modality == "imaging")
    assert logit([moved.low, moved.high]) - logit([plain.low, plain.high]) == pytest.approx([0.3, 0.3])


def test_a_model_folder_that_does_not_tell_what_a_modality_is_worth_says_so(desk):
    patient = next(each for each in map(desk.patient, desk.cohort.subjects) if lacks_films(each))
    card = {key: said for key, said in patient.model.card.items() if key != SHARES}
    older = replace(patient, model=replace(patient.model, card=card))
    assert older.worth()
    assert not any(each.known for each in older.worth())


def test_the_card_keeps_quantiles_and_no_patient(model):
    for said in model.card[SHARES].values():
        assert set(said) == {"event", "no_event"}
        for values in said.values():
            assert len(values) == len(LEVELS)
            assert values == sorted(values)
    assert set(model.card[SHARES]) <= set(model.evidence)


def test_quantiles_of_equal_weights_are_those_of_numpy():
    values = np.random.default_rng(3).normal(size=101)
    expected = np.quantile(values, LEVELS, method="inverted_cdf")
    np.testing.assert_allclose(quantiles(values, np.ones(101), LEVELS), expected)


@pytest.fixture(scope="module")
def training(opened):
    return TrainingCohort.of(opened)


def test_similar_patients_are_others_with_their_outcomes_and_out_of_fold_risks(training, whole, opened):
    found = training.similar(whole, 5)
    assert [each.distance for each in found] == sorted(each.distance for each in found)
    assert len({each.subject_id for each in found}) == 5
    known = {(sample.subject_id, sample.prediction_time): sample.event for sample in opened.cohort.samples}
    for each in found:
        assert known[each.subject_id, each.prediction_time] == each.event
        report = explain(opened, each.subject_id, each.prediction_time)
        assert report.explanation.risk == pytest.approx(each.risk, abs=1e-6)


def test_a_patient_of_the_training_is_not_similar_to_themself(training, model, synthetic):
    desk = Desk(model, synthetic.folder)
    everybody = set(desk.cohort.subjects)
    subject = min(everybody)
    found = training.similar(desk.patient(subject), len(everybody))
    assert {each.subject_id for each in found} == everybody - {subject}


def test_distances_are_those_of_standardised_features():
    rng = np.random.default_rng(0)
    values = rng.normal([5.0, -2.0, 40.0], [1.0, 0.1, 20.0], (60, 3)).astype(np.float32)
    values[7] = np.nan
    present = ~np.isnan(values).all(axis=1)
    values[3, 1] = np.nan
    names = ["a", "b", "c"]
    space = Space.of([Embedding(values[:20], present[:20], names), Embedding(values[20:], present[20:], names)])
    scaled = StandardScaler().fit_transform(values.astype(float)[present])
    scaled = np.nan_to_num(scaled)  # what is missing is the mean
    expected = cdist(scaled, scaled[:1])[:, 0] / np.median(pdist(scaled))
    found = space.distances(Embedding(values[:1], present[:1], names))[present]
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=1e-6)
    np.testing.assert_allclose(found[1:] / expected[1:], found[1] / expected[1], rtol=1e-4)


def test_distances_of_words_are_those_between_their_weights():
    dense = np.maximum(np.random.default_rng(1).normal(size=(40, 30)), 0).astype(np.float32)
    names = [f"w{column}" for column in range(30)]
    space = Space.of([Embedding(sparse.csr_array(dense), np.ones(40, dtype=bool), names)])
    expected = cdist(dense, dense[:1])[:, 0] / np.median(pdist(dense))
    found = space.distances(Embedding(sparse.csr_array(dense[:1]), np.ones(1, dtype=bool), names))
    assert found[0] == pytest.approx(0.0, abs=1e-3)
    np.testing.assert_allclose(found[1:], expected[1:], rtol=0.1)
    np.testing.assert_allclose(found[1:] / expected[1:], found[1] / expected[1], rtol=1e-4)


def test_who_lacks_what_the_patient_has_is_at_the_typical_distance_in_it(training, whole):
    found = training.similar(whole, 80)
    lacking = [each for each in found if set(each.compared) < set(whole.model.modalities)]
    assert lacking
    for each in lacking:
        missing = len(whole.model.modalities) - len(each.compared)
        assert each.distance >= np.sqrt(missing / len(whole.model.modalities)) - 1e-9
