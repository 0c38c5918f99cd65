import json
import re

import numpy as np
import pytest
from scipy import sparse

from medfusion.core.errors import DataError, ModelFolderError
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Embedding
from medfusion.evaluation.drift import Fingerprint, drift

LABS, DIMENSIONS, WORDS = 12, 128, 60
_LOADINGS = np.random.default_rng(1).normal(size=(8, LABS + DIMENSIONS)) / 3
_USES = np.random.default_rng(2).uniform(0.02, 0.6, WORDS)


class Patients:
    """A made-up cohort: labs with gaps, activations, words, and calibrated risks."""

    def __init__(self, n, seed, ids="P"):
        rng = np.random.default_rng(seed)
        hidden = rng.normal(size=(n, 8))
        values = (hidden @ _LOADINGS + rng.normal(size=(n, LABS + DIMENSIONS))).astype(np.float32)
        self.labs, self.image = values[:, :LABS], values[:, LABS:]
        self.labs[:, 0] = np.round(np.exp(self.labs[:, 0]))
        self.labs[:, 6:][rng.random((n, 6)) < 0.3] = np.nan
        self.words = (rng.random((n, WORDS)) < _USES).astype(np.float32)
        self.here = rng.random((3, n)) < [[0.95], [0.7], [0.8]]
        self.risks = 1 / (1 + np.exp(1.2 - 1.5 * hidden[:, 0]))
        self.events = rng.random(n) < self.risks
        self.ids = [f"{ids}{row}" for row in range(n)]

    @property
    def blocks(self):
        labs, image = (np.where(self.here[[i]].T, each, np.nan) for i, each in enumerate((self.labs, self.image)))
        words = sparse.csr_array(np.where(self.here[[2]].T, self.words, 0).astype(np.float32))
        return {
            "ehr": Embedding(labs, self.here[0], [f"lab{i} last" for i in range(LABS)]),
            "imaging": Embedding(image, self.here[1], [f"dim{i}" for i in range(DIMENSIONS)], same_unit=True),
            "notes": Embedding(words, self.here[2], [f"word:{i}" for i in range(WORDS)]),
        }

    def fingerprint(self, importance=None):
        return Fingerprint.of(self.blocks, self.events, self.risks, self.ids, importance)

    def against(self, fingerprint, outcomes=False, permutations=999):
        events = self.events.astype(float) if outcomes else None
        return drift(fingerprint, self.blocks, events, self.risks, self.ids, permutations=permutations)


@pytest.fixture(scope="module")
def fingerprint():
    even = {"ehr": np.ones(LABS), "imaging": np.ones(DIMENSIONS), "notes": np.ones(WORDS)}
    return Patients(600, 0).fingerprint({name: (1.0, each) for name, each in even.items()})


def test_a_patient_with_many_rows_counts_once():
    values = np.array([[1.0]] * 50 + [[2.0]] * 2, dtype=np.float32)
    ids = ["often"] * 50 + ["once", "other"]
    block = {"ehr": Embedding(values, np.ones(52, dtype=bool), ["lab"])}
    events = np.array([True] * 50 + [False] * 2)
    known = Fingerprint.of(block, events, np.linspace(0.1, 0.9, 52), ids)
    assert known.modalities["ehr"].counts[0].tolist() == pytest.approx([1.0, 2.0])
    assert known.events == pytest.approx(1.0)
    assert known.patients == 3


def test_two_cohorts_of_one_kind_are_told_to_differ_in_one_case_of_20_at_most():
    beyond, hurt = [], []
    for seed in range(20):
        known = Patients(200, 300 + seed).fingerprint()
        report = Patients(60, 400 + seed).against(known, outcomes=True, permutations=499)
        beyond.append((report.changes["reading"] != "within chance").any())
        hurt.append(report.verdict == "performance probably hurt")
    assert sum(beyond) <= 3  # 98 % of binomial(20, 0.05) are 3 at most
    assert sum(hurt) <= 4


def test_a_small_cohort_without_drift_does_not_alarm(fingerprint):
    report = Patients(20, 8).against(fingerprint)
    assert report.changes["size"].max() > 0.25  # by chance, which a plain reading of the PSI would not say
    assert report.verdict == "no sign of drift"


def test_what_moved_is_named_most_first_and_its_direction_told(fingerprint):
    cohort = Patients(200, 9)
    cohort.labs[:, 3] += 1.0
    cohort.labs[:, 4] += 0.6
    report = cohort.against(fingerprint)
    first = report.changes.iloc[:2]
    assert first["feature"].tolist() == ["lab3 last", "lab4 last"]
    assert first["reading"].tolist() == ["moved much", "moved much"]
    assert (first["after"] > 0.6).all()
    assert (first["p_adjusted"] < 0.001).all()
    assert report.verdict == "moved, performance probably not hurt"
    assert "lab3 last, lab4 last" in " ".join(report.reasons)


def test_what_moved_hurts_only_if_the_model_leans_on_it():
    cohort = Patients(200, 9)
    cohort.labs[:, 3] += 1.0
    verdicts = {}
    for weight in (0.01, 9.0):
        shares = {"ehr": (1.0, np.where(np.arange(LABS) == 3, weight, 1.0)), "imaging": (0.5, np.zeros(DIMENSIONS))}
        report = cohort.against(Patients(600, 0).fingerprint({**shares, "notes": (0.1, np.ones(WORDS))}))
        assert report.changes.iloc[0]["feature"] == "lab3 last"
        assert bool(report.changes.iloc[0]["matters"]) == (weight > 1)
        verdicts[weight] = report.verdict
    assert verdicts == {0.01: "moved, performance probably not hurt", 9.0: "performance probably hurt"}


def test_gaps_words_presence_and_activations_each_are_found(fingerprint):
    cohort = Patients(200, 10)
    cohort.labs[::2, 2] = np.nan
    cohort.words[:, 5] = 1
    cohort.here[2] &= np.arange(200) % 2 == 0
    cohort.image += 0.6
    changes = cohort.against(fingerprint).changes
    moved = changes[changes["reading"].isin(["moved", "moved much"])]
    found = set(zip(moved["modality"], moved["feature"], moved["what"], strict=True))
    assert {
        ("ehr", "lab2 last", "missing"),
        ("notes", "word:5", "used"),
        ("notes", "", "presence"),
        ("imaging", "", "all"),
    } <= found
    gap = changes[(changes["feature"] == "lab2 last") & (changes["what"] == "missing")].iloc[0]
    assert (gap["before"], gap["after"]) == (0.0, pytest.approx(0.5, abs=0.05))


def test_outcomes_decide_where_there_are_enough(fingerprint):
    worse = Patients(400, 11)
    worse.events = np.random.default_rng(0).permutation(worse.events)
    report = worse.against(fingerprint, outcomes=True)
    assert report.verdict == "performance probably hurt"
    assert "AUROC changed by -0.3" in report.reasons[0]
    more = Patients(400, 12)
    more.events |= np.random.default_rng(1).random(400) < 0.4
    assert "times as many events as the risks promised" in more.against(fingerprint, outcomes=True).reasons[0]
    moved = Patients(3000, 13)
    moved.labs[:] += 1.0  # much of what the model leans on, and yet it is right
    report = moved.against(fingerprint, outcomes=True)
    assert report.verdict == "moved, performance probably not hurt"
    assert moved.against(fingerprint).verdict == "performance probably hurt"


def test_risks_that_grew_alike_promise_a_lower_auroc(fingerprint):
    cohort = Patients(400, 14)
    cohort.risks = np.clip(cohort.risks, 0.2, 0.3)
    report = cohort.against(fingerprint)
    assert report.outlook.estimates["expected_change"].high < -0.05
    assert report.verdict == "performance probably hurt"
    assert "if risks are still calibrated" in report.reasons[0]


def test_features_that_nobody_has_any_more_are_listed_with_their_number(fingerprint):
    cohort = Patients(100, 15)
    cohort.labs[:, [1, 2]] = np.nan
    (problem,) = cohort.against(fingerprint).problems
    assert problem.line() == (
        "warning ehr: features is '2 of the model\\'s in no patient', expected as in the training; "
        "the model takes them as missing; check how they are coded: lab1, lab2 [features-never-seen]"
    ).replace("'2 of the model\\'s in no patient'", repr("2 of the model's in no patient"))


def test_a_cohort_with_nothing_in_common_is_refused(fingerprint):
    cohort = Patients(50, 16)
    cohort.here[:] = False
    message = r"no row has any.*expected ehr, imaging, notes; compare the names of files, codes and columns"
    with pytest.raises(DataError, match=message):
        cohort.against(fingerprint)


def test_what_does_not_belong_together_is_refused(fingerprint):
    cohort = Patients(50, 17)
    with pytest.raises(ValueError, match=re.escape("have [49, 50] rows")):
        drift(fingerprint, cohort.blocks, None, cohort.risks[1:], cohort.ids)
    with pytest.raises(ValueError, match=r"1 risks are not within \[0, 1\]; the first is 2.0 at position 3"):
        drift(fingerprint, cohort.blocks, None, np.where(np.arange(50) == 3, 2.0, cohort.risks), cohort.ids)
    blocks = {name: block for name, block in cohort.blocks.items() if name != "notes"}
    with pytest.raises(ValueError, match="notes: none features, the fingerprint was taken with 60"):
        drift(fingerprint, blocks, None, cohort.risks, cohort.ids)


def test_a_fingerprint_says_the_same_after_it_was_written_and_read(fingerprint, tmp_path):
    save_state(tmp_path, "fingerprint", fingerprint.state())
    again = Fingerprint.restore(load_state(tmp_path, "fingerprint"))
    cohort = Patients(80, 18)
    one, other = (json.dumps(cohort.against(each, outcomes=True).as_dict()) for each in (fingerprint, again))
    assert one == other
    with pytest.raises(ModelFolderError, match="version 9, expected 1; train the model again"):
        Fingerprint.restore({**fingerprint.state(), "format": 9})
    with pytest.raises(ModelFolderError, match="train the model again"):
        Fingerprint.restore({"format": 1})


def test_no_subject_id_and_no_row_of_the_training_is_in_a_fingerprint(fingerprint, tmp_path):
    cohort = Patients(600, 0)
    save_state(tmp_path, "fingerprint", fingerprint.state())
    text = (tmp_path / "fingerprint.json").read_text()
    assert not re.search(r"\bP\d+\b", text)
    rows = (tmp_path / "fingerprint.safetensors").read_bytes()
    for kind in (np.float32, np.float64):
        assert not any(row.astype(kind)[:3].tobytes() in rows for row in cohort.image[:50])
        assert not any(row.astype(kind)[3:5].tobytes() in rows for row in cohort.labs[:50])


@pytest.mark.parametrize("outcomes", [True, False])
def test_every_panel_yields_its_table_and_its_picture(fingerprint, outcomes):
    cohort = Patients(60, 19)
    cohort.labs[:, 3] += 3
    report = cohort.against(fingerprint, outcomes=outcomes, permutations=19)
    for panel in report.panels:
        assert len(panel.frame())
        assert panel.caption.endswith(".")
        panel.plot().canvas.draw()
    risks = next(panel for panel in report.panels if panel.title == "Risks").frame()
    assert risks[["training", "now"]].sum().tolist() == pytest.approx([1, 1])
    assert risks["n_outcomes"].sum() == (60 if outcomes else 0)
    assert list(report.frame().columns) == ["label", "value", "low", "high", "meaning", "note"]
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_single_new_patient_is_compared_without_an_alarm(fingerprint):
    report = Patients(1, 20).against(fingerprint, outcomes=True)
    assert report.verdict == "no sign of drift"
    json.dumps(report.as_dict(), allow_nan=False)
