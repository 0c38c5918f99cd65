"""A cohort with every kind of bad input: each is told in one line, and the rest is trained on and scored."""

import json
import math

import pandas as pd
import pytest
from scipy.special import expit

from medfusion.cohort.synthetic import write_synthetic_cohort


def damaged(folder):
    """Write 50 patients and spoil some of their records; return whose film was cut off and whose rows are bad."""
    write_synthetic_cohort(folder, subjects=50, seed=0)
    labels = pd.read_csv(folder / "labels" / "deterioration.csv", dtype=str)
    twice, both = labels.iloc[2], labels.iloc[3]
    films = sorted(folder.glob("imaging/*/*/1.dcm"))
    film = next(path for path in films if len(list(path.parent.iterdir())) == 1 and path.parent.name != both.subject_id)
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    (folder / "imaging" / "scan.txt").write_text("not a film", encoding="utf-8")
    who, when = pd.read_csv(folder / "ehr.csv", dtype=str).loc[0, ["subject_id", "time"]]
    contrary = {"True": "False", "False": "True"}[both.boolean_value]
    added = {
        "ehr.csv": [
            f"{who},{when},lactate,NaN,mmol/L",
            f"{who},{when},lactate,inf,mmol/L",
            f"{who},{when},lactate,2.0,furlong",
            f"{who},01/02/2023,lactate,2.0,mmol/L",
        ],
        "notes.csv": [f"{who},{when},progress, "],
        "labels/deterioration.csv": [
            ",".join(twice),
            f"{both.subject_id},{both.prediction_time},{contrary}",
            f"NOBODY,{twice.prediction_time},False",
        ],
    }
    for name, lines in added.items():
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return {"film": film.relative_to(folder).as_posix(), "rows": who, "twice": twice, "both": both}


class Damaged:
    """The spoilt cohort, and what each command made of it."""

    def __init__(self, root, medfusion, cache):
        self.folder, self.model, self.scores = root / "cohort", root / "model", root / "scores"
        self.who = damaged(self.folder)
        self.validated = medfusion("validate", self.folder, "--cache", cache)
        self.told = medfusion("validate", self.folder, "--json", "--cache", cache)
        self.trained = medfusion("train", self.folder, "--out", self.model, "--cache", cache)
        self.scored = medfusion("score", self.model, self.folder, "--out", self.scores, "--cache", cache)
        self.problems = json.loads(self.told.out)
        self.quarantine = pd.read_parquet(self.scores / "quarantine.parquet")
        self.predictions = pd.read_parquet(self.scores / "predictions.parquet")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, medfusion, cache):
    return Damaged(tmp_path_factory.mktemp("damaged"), medfusion, cache)


def rows_of(folder, name):
    return len(pd.read_csv(folder / name, dtype=str))


ERRORS = [
    ("undecodable-pixels", "PixelData is 'ValueError: there are "),
    ("empty-note", "text is '', expected words; remove the row, or fill it in [empty-note]"),
    ("unknown-unit", "unit is 'furlong for lactate', expected mmol/L, or a UCUM unit that converts to it exactly"),
    ("contradicting-labels", "expected one row; correct the labels; all of these rows were left out"),
    ("not-a-number", "numeric_value is 'NaN', expected a finite number; correct it, or leave it empty if it was not"),
    ("not-a-number", "numeric_value is 'inf', expected a finite number; correct it, or leave it empty if it was not"),
    ("bad-time", "time is '01/02/2023', expected an ISO 8601 time such as 2020-01-31T09:00:00; write the date as"),
]
WARNINGS = [
    ("duplicate-label", "expected one row; remove the copies; one was kept [duplicate-label]"),
    ("no-data", "subject NOBODY: subject_id is 'no records', expected data of a modality"),
]
ids = [f"{code} {number}" for number, (code, _) in enumerate(ERRORS)]


@pytest.mark.parametrize(("code", "said"), ERRORS, ids=ids)
def test_validate_tells_what_is_left_out_and_returns_1(cohort, code, said):
    assert cohort.validated.code == cohort.told.code == 1
    lines = [line for line in cohort.validated.out.splitlines() if said in line]
    assert len(lines) == 1
    assert lines[0].startswith("error ")
    assert lines[0].endswith(f"[{code}]")


@pytest.mark.parametrize(("code", "said"), WARNINGS, ids=[code for code, _ in WARNINGS])
def test_validate_tells_what_to_look_at(cohort, code, said):
    lines = [line for line in cohort.validated.out.splitlines() if said in line]
    assert len(lines) == 1
    assert lines[0].startswith("warning ")


def test_validate_counts_what_it_told_and_a_program_gets_every_field(cohort):
    severities = [problem["severity"] for problem in cohort.problems]
    errors, warnings = severities.count("error"), severities.count("warning")
    assert errors == len(ERRORS)
    assert cohort.validated.out.splitlines()[-1].startswith(f"{errors} errors, {warnings} warnings in ")
    assert severities == sorted(severities)
    keys = {"code", "file", "where", "field", "got", "expected", "remedy", "severity", "subject_id"}
    assert all(set(problem) == keys for problem in cohort.problems)


def test_the_lines_say_where(cohort):
    by_code = {problem["code"]: problem for problem in cohort.problems}
    assert by_code["undecodable-pixels"]["file"] == cohort.who["film"]
    assert by_code["undecodable-pixels"]["subject_id"] == cohort.who["film"].split("/")[-2]
    assert by_code["empty-note"]["where"] == f"row {rows_of(cohort.folder, 'notes.csv')}"
    assert by_code["empty-note"]["subject_id"] == cohort.who["rows"]
    assert by_code["unknown-unit"]["where"] == f"row {rows_of(cohort.folder, 'ehr.csv') - 1}"
    assert by_code["contradicting-labels"]["where"] == f"subject {cohort.who['both'].subject_id}"
    assert by_code["duplicate-label"]["where"] == f"subject {cohort.who['twice'].subject_id}"


def test_no_line_holds_another_value_of_the_row(cohort):
    assert not [line for line in cohort.validated.out.splitlines() if "progress" in line or "2.0" in line]


def test_training_goes_on_without_what_is_bad_and_lists_and_counts_it(cohort):
    assert cohort.trained.code == 0
    for code, said in ERRORS:
        assert [line for line in cohort.trained.err.splitlines() if said in line and line.endswith(f"[{code}]")]
    assert cohort.trained.err.splitlines()[-1] == f"{len(ERRORS)} lines above: what could not be used was left out"
    card = json.loads((cohort.model / "card.json").read_text(encoding="utf-8"))
    assert card["left_out"] == len(ERRORS)
    assert set(card["cross_validated"]) == {"ehr", "imaging", "notes", "fused"}
    assert "fused" in cohort.trained.out


def test_scoring_lists_what_is_bad_in_the_quarantine_and_returns_1(cohort):
    assert cohort.scored.code == 1
    assert f"{len(cohort.predictions)} samples scored, {len(ERRORS)} quarantined" in cohort.scored.out
    assert sorted(cohort.quarantine["code"]) == sorted(code for code, _ in ERRORS)
    by_code = cohort.quarantine.drop_duplicates("code").set_index("code")
    assert by_code.loc["undecodable-pixels", "path"] == cohort.who["film"]
    assert by_code.loc["undecodable-pixels", "subject_id"] == cohort.who["film"].split("/")[-2]
    assert by_code.loc["contradicting-labels", "subject_id"] == cohort.who["both"].subject_id
    for code in ("empty-note", "not-a-number", "bad-time"):
        assert by_code.loc[code, "subject_id"] == cohort.who["rows"]
    assert (cohort.quarantine["remedy"].str.len() > 0).all()
    assert all(detail.endswith(f"[{code}]") for detail, code in cohort.quarantine[["detail", "code"]].to_numpy())


def test_everybody_else_is_scored(cohort):
    labels = pd.read_csv(cohort.folder / "labels" / "deterioration.csv", dtype=str)
    asked = set(zip(labels["subject_id"], labels["prediction_time"], strict=True))
    both = cohort.who["both"]
    assert len(cohort.predictions) == len(asked) - 1
    times = cohort.predictions["prediction_time"].dt.strftime("%Y-%m-%dT%H:%M:%S")
    assert set(zip(cohort.predictions["subject_id"], times, strict=True)) == asked - {
        (both.subject_id, both.prediction_time)
    }
    assert cohort.predictions["risk"].notna().all()


def test_whose_film_cannot_be_read_is_scored_without_it(cohort):
    mine = cohort.predictions[cohort.predictions["subject_id"] == cohort.who["film"].split("/")[-2]]
    assert len(mine)
    assert not mine["present_imaging"].any()
    assert (mine["share_imaging"] == 0.0).all()
    assert mine["findings"].str.contains("no-imaging").all()


def test_whose_rows_are_bad_is_scored_from_the_good_ones(cohort):
    mine = cohort.predictions[cohort.predictions["subject_id"] == cohort.who["rows"]]
    assert mine["present_ehr"].all()


def test_a_subject_without_any_data_gets_the_base_rate_and_a_finding(cohort):
    mine = cohort.predictions.set_index("subject_id").loc["NOBODY"]
    assert mine["findings"].startswith("no-data")
    assert mine["logit"] == mine["base_logit"]
    assert mine["risk"] == pytest.approx(expit(mine["base_logit"]))
    assert [mine[f"share_{name}"] for name in ("ehr", "imaging", "notes")] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("answers", "got"),
    [
        ("True", "40 with the event, 0 without, 0 empty"),
        ("False", "0 with the event, 40 without, 0 empty"),
        ("", "0 with the event, 0 without, 40 empty"),
    ],
    ids=["all", "none", "unknown"],
)
def test_a_label_column_with_one_class_is_refused(medfusion, tmp_path, answers, got):
    folder = one_class(tmp_path / "cohort", answers)
    done = medfusion("train", folder, "--out", tmp_path / "model")
    line = f"error labels.csv: boolean_value is '{got}', expected samples with the event and samples without; label"
    assert done.code == 1
    assert done.err.startswith(line)
    assert done.err.rstrip().endswith("[one-class]")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("answers", ["True", "False"])
def test_validate_tells_a_label_column_with_one_class(medfusion, tmp_path, answers):
    done = medfusion("validate", one_class(tmp_path / "cohort", answers))
    assert done.code == 1
    assert "[one-class]" in done.out


def test_a_cohort_that_is_to_be_scored_needs_no_labels(medfusion, tmp_path):
    assert "[one-class]" not in medfusion("validate", one_class(tmp_path / "cohort", "")).out


def one_class(folder, answers):
    folder.mkdir()
    (folder / "cohort.toml").write_text('[tasks.died]\nlabels = "labels.csv"\n')
    labels = [f"P{number},2024-01-02T09:00:00,{answers}" for number in range(40)]
    notes = [f"P{number},2024-01-01T09:00:00,admission,Bed {number % 7}." for number in range(40)]
    for name, header, lines in (
        ("labels.csv", "subject_id,prediction_time,boolean_value", labels),
        ("notes.csv", "subject_id,time,note_type,text", notes),
    ):
        (folder / name).write_text("\n".join([header, *lines]) + "\n")
    return folder


def test_too_few_patients_with_the_event_are_told(medfusion, tmp_path):
    folder = one_class(tmp_path / "cohort", "False")
    text = (folder / "labels.csv").read_text().replace("P3,2024-01-02T09:00:00,False", "P3,2024-01-02T09:00:00,True")
    (folder / "labels.csv").write_text(text)
    done = medfusion("train", folder, "--out", tmp_path / "model")
    assert done.code == 1
    assert "1 patients with the event and 39 with a row without it" in done.err
    assert "[too-few-patients]" in done.err


def test_a_model_of_a_damaged_cohort_says_the_same_as_one_of_the_cohort_without_the_damage(cohort, medfusion, cache):
    """What was left out has left no trace: predictions do not depend on rows that were refused."""
    clean = pd.read_csv(cohort.folder / "ehr.csv", dtype=str).iloc[:-4]
    clean.to_csv(cohort.folder / "ehr.csv", index=False)
    out = cohort.scores.parent / "again"
    again = medfusion("score", cohort.model, cohort.folder, "--out", out, "--no-ledger", "--cache", cache)
    assert again.code == 1
    logits = pd.read_parquet(out / "predictions.parquet")["logit"]
    assert logits.tolist() == cohort.predictions["logit"].tolist()
    assert all(math.isfinite(logit) for logit in logits)
