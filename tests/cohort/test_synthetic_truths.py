import hashlib

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medfusion.cohort import open_cohort
from medfusion.cohort.synthetic import Truth, draw_patients, truth_of, write_synthetic_cohort
from medfusion.cohort.synthetic.patients import Patient
from medfusion.cohort.synthetic.truth import TRUTHS
from medfusion.core.errors import UsageError

PATIENTS = 700
Drawn = tuple[list[Patient], Truth]


def drawn(truth) -> Drawn:
    patients = draw_patients(PATIENTS, 3, truth)
    return patients, truth_of(patients)


@pytest.fixture(scope="module")
def interaction() -> Drawn:
    return drawn("interaction")


@pytest.fixture(scope="module")
def useless() -> Drawn:
    return drawn("useless")


@pytest.fixture(scope="module")
def single() -> Drawn:
    return drawn("single")


def additive_evidence(truth: Truth, groups: dict[str, pd.Series]) -> float:
    """Return the AUROC of the best sum of evidence: log-odds of each modality alone, weighed by a logistic regression.

    The evidence of a modality is the mean risk of those with the same value of what it carries.
    """
    risk = truth.table["risk"]
    prior = logit(risk.mean())
    evidence = np.column_stack([logit(risk.groupby(key).transform("mean")) - prior for key in groups.values()])
    outcome, weight = np.repeat([True, False], len(risk)), np.concatenate([risk, 1 - risk])
    fit = LogisticRegression(C=np.inf).fit(np.vstack([evidence, evidence]), outcome, sample_weight=weight)
    return truth.auroc(evidence @ fit.coef_[0])


def in_parts(values: pd.Series, parts: int) -> pd.Series:
    return pd.qcut(values, parts, duplicates="drop").cat.codes


def test_the_additive_cohort_is_what_it_was_before_there_were_others(tmp_path):
    # Of the tables alone: encoders of pixels may change between versions.
    write_synthetic_cohort(tmp_path / "cohort", 6, seed=7)
    digest = hashlib.sha256()
    for file in sorted((tmp_path / "cohort").rglob("*")):
        if file.is_file() and file.suffix != ".dcm":
            digest.update(file.relative_to(tmp_path / "cohort").as_posix().encode() + b"\0" + file.read_bytes())
    assert digest.hexdigest() == "2db7fc205eb4f554c5c2d44e82f9c53967a05095051c4a0d1bb23d01974a0141"


@pytest.mark.parametrize("truth", TRUTHS)
def test_every_cohort_is_written_and_opens_and_equal_seeds_are_equal(tmp_path, truth):
    written = write_synthetic_cohort(tmp_path / "cohort", 5, seed=2, truth=truth)
    cohort = open_cohort(tmp_path / "cohort", {})
    assert not cohort.problems
    events = written.table.set_index(["subject_id", "prediction_time"])["event"]
    assert {(s.subject_id, s.prediction_time): s.event for s in cohort.samples} == events.to_dict()
    pd.testing.assert_frame_equal(truth_of(draw_patients(5, 2, truth)).table, written.table)


def test_a_truth_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(UsageError, match="truth is 'chaos'; there are: additive, interaction, useless, single"):
        write_synthetic_cohort(tmp_path / "cohort", 5, truth="chaos")


@pytest.mark.parametrize("name", ["interaction", "useless", "single"])
def test_every_truth_adds_up_and_draws_outcomes_as_often_as_it_says(name, request):
    _, truth = request.getfixturevalue(name)
    columns = [*(driver for drivers in truth.drivers.values() for driver in drivers), *truth.products]
    np.testing.assert_allclose(truth.table["logit"], truth.base + truth.table[columns].sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(truth.table["risk"], expit(truth.table["logit"]), atol=1e-12)
    risk = truth.table["risk"]
    error = np.sqrt((risk * (1 - risk)).sum()) / len(risk)
    assert truth.table["event"].mean() == pytest.approx(risk.mean(), abs=3.5 * error)
    assert 0.2 < risk.mean() < 0.4
    assert set(truth.drivers) == {"imaging", "ehr", "notes"}


def test_the_auroc_of_a_truth_is_what_many_draws_of_the_outcomes_have_on_average(single):
    _, truth = single
    rng = np.random.default_rng(0)
    risk, lactate = truth.table["risk"].to_numpy(), truth.table["lactate"].to_numpy()
    draws = rng.random((60, len(risk))) < risk
    assert truth.auroc() == pytest.approx(np.mean([roc_auc_score(one, risk) for one in draws]), abs=0.005)
    assert truth.auroc(lactate) == pytest.approx(np.mean([roc_auc_score(one, lactate) for one in draws]), abs=0.005)


def test_of_the_interaction_the_risk_is_high_only_where_film_and_lactate_are_abnormal(interaction):
    _, truth = interaction
    table, least = truth.table, TRUTHS["interaction"].drivers["lactate"].contribution(99.0)
    opaque, raised = table["opaque_fraction"] == least, table["lactate"] == least
    clear, low = table["opaque_fraction"] == 0.0, table["lactate"] == 0.0
    risk = table["risk"]
    assert risk[opaque & raised].mean() > 0.98
    assert risk[opaque & low].mean() < risk[clear & low].mean() < 0.3
    assert risk[clear & raised].mean() < risk[clear & low].mean()
    assert (opaque & raised).mean() > 0.1
    assert truth.products == {"opaque_fraction x lactate": ("opaque_fraction", "lactate")}


def test_no_sum_of_evidence_comes_near_the_interaction(interaction):
    _, truth = interaction
    table = truth.table
    product = table["opaque_fraction x lactate"]
    groups = {
        "imaging": table["opaque_fraction"].round(1),
        "ehr": table["lactate"].round(1),
        "notes": table[list(truth.drivers["notes"])].sum(axis=1),
    }
    best_sum = additive_evidence(truth, groups)
    assert best_sum <= truth.auroc() - 0.06
    # What each carries by itself can be learnt all the same, or nobody would find what they are together.
    for name in ("imaging", "ehr"):
        risk = table["risk"].groupby(groups[name]).transform("mean")
        assert truth.auroc(risk) > 0.65
    assert truth.auroc(product) > best_sum


def test_of_the_additive_truth_a_sum_of_evidence_is_as_good_as_can_be():
    _, truth = drawn("additive")
    sums = {name: truth.table[list(drivers)].sum(axis=1) for name, drivers in truth.drivers.items()}
    best_sum = additive_evidence(truth, {name: in_parts(values, 40) for name, values in sums.items()})
    assert best_sum == pytest.approx(truth.auroc(), abs=0.02)


def test_of_the_interaction_nearly_everybody_has_both(interaction):
    patients, truth = interaction
    both = [any(p.films) and any(event.code == "lactate" for event in p.events) for p in patients]
    assert np.mean(both) > 0.85
    assert truth.table["lactate"].ne(0.0).mean() > 0.5


def findings_of(patients: list[Patient]) -> pd.DataFrame:
    """Return what the notes of each first prediction say, and how many and how long they are."""
    rows = []
    for patient in patients:
        moment = patient.samples[0].prediction_time
        notes = [note for note in patient.notes if note.time <= moment]
        found = frozenset().union(*(note.findings for note in notes))
        said = {name: float(name in found) for name in ("confusion", "cyanosis", "mottling", "ambulating")}
        rows.append({**said, "notes": len(notes), "characters": sum(len(note.text) for note in notes)})
    return pd.DataFrame(rows)


def test_useless_notes_say_nothing_of_the_outcome_nor_of_what_drives_it(useless):
    patients, truth = useless
    assert truth.drivers["notes"] == ()
    assert [len(patient.samples) for patient in patients] == [1] * PATIENTS
    for _, column in findings_of(patients).items():
        # An AUROC of nothing has a standard error of 0.02 here, over draws of outcomes and of notes.
        assert truth.auroc(column) == pytest.approx(0.5, abs=0.05)
        assert abs(np.corrcoef(column, truth.table["logit"])[0, 1]) < 0.1


def test_beside_useless_notes_the_others_tell_much(useless):
    _, truth = useless
    assert truth.auroc() > 0.82
    for name in ("imaging", "ehr"):
        assert truth.auroc(truth.table[list(truth.drivers[name])].sum(axis=1)) > 0.68


def test_of_the_single_truth_values_alone_drive_the_risk(single):
    patients, truth = single
    assert (truth.drivers["imaging"], truth.drivers["notes"]) == ((), ())
    np.testing.assert_allclose(truth.table[list(truth.drivers["ehr"])].sum(axis=1) + truth.base, truth.table["logit"])
    assert truth.auroc() > 0.75
    notes = findings_of(patients)
    first = truth.table.drop_duplicates("subject_id")
    for name in ("confusion", "cyanosis", "mottling", "ambulating"):
        assert abs(np.corrcoef(notes[name], first["logit"])[0, 1]) < 0.1
