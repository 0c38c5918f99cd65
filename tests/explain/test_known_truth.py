"""The ledger against the truth: outcomes were drawn from known contributions, and the model has to find them."""

import numpy as np
import pandas as pd
import pydicom
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from medfusion.cohort.synthetic import draw_patients, write_synthetic_cohort
from medfusion.cohort.synthetic.anatomy import GRID, filled, lung_outlines, opacity_map
from medfusion.pipeline import Options, score, train

KEY = ["subject_id", "prediction_time"]
NEW, SEED = 120, 4
CELLS = 10
"""Rows and columns of the regions of a film of 320 pixels: the backbone sees every 32."""


class Answer:
    """The ledgers of new patients, beside what each driver truly added to their log-odds."""

    def __init__(self, folder, cohort, truth, training):
        self.cohort = cohort
        self.training = training
        self.drivers = truth.drivers
        self.truth = truth.table.set_index(KEY)
        self.predictions = pd.read_parquet(folder / "predictions.parquet").set_index(KEY)
        self.lines = pd.read_parquet(folder / "ledger.parquet")
        self.events = self.truth["event"].astype(bool)

    def auroc(self, scores):
        return roc_auc_score(self.events, scores.reindex(self.truth.index))

    def of_code(self, code):
        """Return what all lines of a code of the EHR add, per sample that has any."""
        ehr = self.lines[self.lines["modality"] == "ehr"]
        return ehr[ehr["feature"].str.split().str[0] == code].groupby(KEY)["share"].sum()

    def of_word(self, word):
        notes = self.lines[(self.lines["modality"] == "notes") & (self.lines["feature"] == word)]
        return notes["share"]


@pytest.fixture(scope="module")
def answer(tmp_path_factory, cache):
    root = tmp_path_factory.mktemp("truth")
    write_synthetic_cohort(root / "cohort", subjects=240, seed=3)
    truth = write_synthetic_cohort(root / "new", subjects=NEW, seed=SEED)
    training = train(root / "cohort", root / "model", cache=cache)
    score(root / "model", root / "new", root / "scores", cache=cache, options=Options(lines=None, regions=True))
    return Answer(root / "scores", root / "new", truth, training)


@pytest.mark.parametrize("code", ["lactate", "spo2", "creatinine", "age_years"])
def test_what_a_value_adds_goes_with_what_it_truly_adds(answer, code):
    both = pd.concat({"found": answer.of_code(code), "true": answer.truth[code]}, axis=1).dropna()
    # A driver that was not observed adds 0 in truth.
    both = both[both["true"] != 0]
    assert len(both) > 90
    assert spearmanr(both["found"], both["true"]).statistic > 0.75


def test_true_drivers_move_the_risk_more_than_values_that_mean_nothing(answer):
    spread = {code: answer.of_code(code).std() for code in ("lactate", "spo2", "potassium", "sodium", "hemoglobin")}
    assert min(spread["lactate"], spread["spo2"]) > max(spread["potassium"], spread["sodium"], spread["hemoglobin"])


@pytest.mark.parametrize("word", ["confusion", "cyanosis", "mottling", "혼돈", "청색증"])
def test_words_that_raise_the_risk_are_found_in_both_languages(answer, word):
    assert len(answer.of_word(word)) >= 8
    assert answer.of_word(word).mean() > 0.02


def test_a_word_that_lowers_the_risk_is_found(answer):
    assert answer.of_word("ambulating").mean() < -0.02


@pytest.mark.parametrize("word", ["confusion", "cyanosis", "mottling"])
def test_what_is_ruled_out_does_not_raise_the_risk(answer, word):
    assert answer.of_word(f"not {word}").mean() < 0.01 < answer.of_word(word).mean()


def test_the_illness_of_a_relative_does_not_raise_the_risk(answer):
    for word in ("confusion", "cyanosis"):
        assert answer.of_word(f"family: {word}").mean() < answer.of_word(word).mean() / 2


def regions(answer):
    """Yield, per film, the shares of its regions and whether each region is opaque."""
    lines = answer.lines[answer.lines["feature"].str.startswith("film 1 row")]
    places = lines["feature"].str.extract(r"row (\d+) column (\d+)").astype(int)
    lines = lines.assign(row=places[0], column=places[1])
    by_sample = dict(iter(lines.groupby(KEY)))
    for patient in draw_patients(NEW, SEED):
        last = patient.samples[-1]
        each = by_sample.get((last.subject_id, pd.Timestamp(last.prediction_time)))
        if each is not None:
            number, film = [pair for pair in enumerate(patient.films, 1) if pair[1].time <= last.prediction_time][-1]
            (path,) = answer.cohort.glob(f"imaging/*/{patient.subject_id}/{number}.dcm")
            header = pydicom.dcmread(path, stop_before_pixels=True)
            yield each["share"].to_numpy(), opaque(film, header.Rows, header.Columns, each)


def opaque(film, height, width, each):
    """Say in which regions the lung is opaque, seen through the square that the film is put into."""
    map_ = opacity_map(film.anatomy, film.opacities) * filled(lung_outlines(film.anatomy), (GRID, GRID))
    side = max(height, width)
    y, x = (
        np.clip(((each[name].to_numpy() - 0.5) / CELLS * side - (side - length) / 2) / length, 0, 1)
        for name, length in (("row", height), ("column", width))
    )
    half = GRID // CELLS // 2
    boxes = [(slice(max(r - half, 0), r + half), slice(max(c - half, 0), c + half)) for r, c in
             zip((y * GRID).astype(int), (x * GRID).astype(int), strict=True)]  # fmt: skip
    return np.array([map_[box].mean() > 0.3 for box in boxes])


def test_regions_of_a_film_that_are_opaque_raise_the_risk_more_than_its_other_regions(answer):
    films = [(shares, there) for shares, there in regions(answer) if 3 <= there.sum() <= len(there) - 3]
    assert len(films) > 40
    assert np.mean([shares[there].mean() > shares[~there].mean() for shares, there in films]) > 0.85
    assert np.mean([roc_auc_score(there, shares) for shares, there in films]) > 0.7


@pytest.mark.parametrize(("modality", "least"), [("imaging", 0.6), ("ehr", 0.5), ("notes", 0.3)])
def test_what_a_modality_adds_goes_with_what_its_drivers_truly_add(answer, modality, least):
    here = answer.predictions[f"present_{modality}"]
    true = answer.truth[list(answer.drivers[modality])].sum(axis=1)
    found = answer.predictions[f"share_{modality}"]
    assert spearmanr(found[here], true.reindex(found.index)[here]).statistic > least


def test_the_risk_of_new_patients_is_told_better_than_chance_and_not_better_than_is_possible(answer):
    fused, possible = answer.auroc(answer.predictions["risk"]), answer.auroc(answer.truth["risk"])
    # More would mean that something from after the prediction got in.
    assert 0.65 < fused < possible + 0.03


def test_the_sum_tells_more_than_any_of_its_parts(answer):
    parts = {name: answer.auroc(answer.predictions[f"share_{name}"]) for name in answer.drivers}
    assert answer.auroc(answer.predictions["risk"]) > max(parts.values()) - 0.02
    found = answer.training.results
    assert found["fused"].estimates["auroc"].value > max(
        each.estimates["auroc"].value for name, each in found.items() if name != "fused"
    )


def test_risks_of_new_patients_are_calibrated_in_the_large(answer):
    expected, observed = answer.predictions["risk"].mean(), answer.events.mean()
    standard_error = (observed * (1 - observed) / len(answer.events)) ** 0.5
    assert abs(expected - observed) < 3 * standard_error


def test_the_best_known_patients_have_ledgers_that_rank_them_by_their_true_risk(answer):
    everything = answer.predictions[[f"present_{name}" for name in answer.drivers]].all(axis=1)
    true = answer.truth["logit"].reindex(answer.predictions.index)
    assert spearmanr(answer.predictions["logit"][everything], true[everything]).statistic > 0.6
