"""Wrong usage is 2, a problem of the data or the model is 1, and both are told in a line, never by a traceback."""

import shutil

import pytest


def assert_told(done, code, said):
    assert done.code == code, done.err
    assert said in " ".join((done.err + done.out).split())
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "survival"], "the cohort has no task 'survival'; it has: deterioration"),
        (["--task", "[/red]"], "the cohort has no task '[/red]'"),
        (["--only", "mri"], "no modality 'mri'; there are: ehr, imaging, notes"),
        (["--set", "mri.size=3"], "no modality 'mri'"),
        (["--set", "imaging.colour=red"], "imaging has no setting colour; it has backbone, "),
        (["--set", "imaging.size=33"], "imaging.size is '33'; it has to be a multiple of 32 from 64 to 1024"),
        (["--set", "imaging.weights=/nowhere.pt"], "there is no such file"),
        (["--set", "notes.encoder=magic"], "notes.encoder is 'magic', expected tfidf, transformer or auto"),
        (["--set", "ehr.size=1"], "ehr.size: no such setting"),
        (["--set", "size"], "--set size: write MODALITY.KEY=VALUE"),
        (["--set", "imaging.size="], "write MODALITY.KEY=VALUE"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--wrong"], "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_of_training_is_told(medfusion, synthetic, tmp_path, words, said):
    done = medfusion("train", synthetic.folder, "--out", tmp_path / "model", "--no-cache", *words)
    assert_told(done, 2, said)
    assert not (tmp_path / "model").exists()


def test_an_unknown_command_is_wrong_usage(medfusion):
    assert_told(medfusion("predict"), 2, "No such command 'predict'")


def test_a_missing_option_is_wrong_usage(medfusion, synthetic):
    assert_told(medfusion("train", synthetic.folder), 2, "Missing option '--out'")


def test_an_unknown_task_is_wrong_usage_of_validate_too(medfusion, synthetic):
    assert_told(medfusion("validate", synthetic.folder, "--task", "icu"), 2, "no task 'icu'")


def test_a_demonstration_does_not_write_over_other_files(medfusion, tmp_path):
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "mine.txt").write_text("mine")
    assert_told(medfusion("demo", "--out", tmp_path), 2, "is not an empty folder")


def test_a_cohort_of_several_tasks_asks_which(medfusion, synthetic, tmp_path):
    cohort = shutil.copytree(synthetic.folder, tmp_path / "cohort", ignore=shutil.ignore_patterns("imaging"))
    with (cohort / "cohort.toml").open("a") as file:
        file.write('\n[tasks.icu]\nlabels = "labels/deterioration.csv"\n')
    done = medfusion("train", cohort, "--out", tmp_path / "model")
    assert_told(done, 2, "the cohort has several tasks; say which one with --task: deterioration, icu")


def test_somebody_who_is_not_in_the_cohort_is_wrong_usage(medfusion, trained, synthetic, cache):
    done = medfusion("explain", trained.folder, synthetic.folder, "--subject", "P9", "--cache", cache)
    assert_told(done, 2, "the cohort has no sample of subject P9")


@pytest.mark.parametrize("command", ["train", "evaluate", "score"])
def test_a_folder_without_a_cohort_is_a_problem_of_the_data(medfusion, trained, tmp_path, command):
    model = [] if command == "train" else [trained.folder]
    done = medfusion(command, *model, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert_told(done, 1, "error cohort.toml: file is 'No such file or directory'")


@pytest.mark.parametrize("command", ["evaluate", "score"])
def test_a_folder_without_a_model_is_a_problem_of_the_model(medfusion, synthetic, tmp_path, command):
    done = medfusion(command, tmp_path / "nowhere", synthetic.folder, "--out", tmp_path / "out")
    assert_told(done, 1, "no model folder (card.json is missing)")


def test_a_model_that_was_tampered_with_is_refused(medfusion, trained, synthetic, tmp_path):
    model = shutil.copytree(trained.folder, tmp_path / "model")
    text = (model / "state.json").read_text(encoding="utf-8")
    (model / "state.json").write_text(text.replace("deterioration", "recovery", 1), encoding="utf-8")
    done = medfusion("score", model, synthetic.folder, "--out", tmp_path / "out")
    assert_told(done, 1, "its files were changed after training; get the folder again")


def test_a_modality_that_too_few_have_is_left_out_with_a_warning(medfusion, tmp_path):
    (tmp_path / "cohort.toml").write_text('[tasks.died]\nlabels = "labels.csv"\n')
    labels = [f"P{number},2024-01-02T09:00:00,{number % 2 == 0}" for number in range(20)]
    notes = [f"P{number},2024-01-01T09:00:00,admission,Bed {number % 2}." for number in range(20)]
    values = ["P1,2024-01-01T09:00:00,heart_rate,80"]
    for name, header, lines in (
        ("labels.csv", "subject_id,prediction_time,boolean_value", labels),
        ("notes.csv", "subject_id,time,note_type,text", notes),
        ("ehr.csv", "subject_id,time,code,numeric_value", values),
    ):
        (tmp_path / name).write_text("\n".join([header, *lines]) + "\n")
    done = medfusion("train", tmp_path, "--out", tmp_path / "model")
    assert_told(done, 0, "warning ehr is left out: too few patients with and without the event have it")


def test_a_warning_keeps_its_square_brackets(medfusion, monkeypatch, tmp_path):
    from medfusion.modalities import imaging

    monkeypatch.setattr(imaging, "has_default", lambda: False)
    done = medfusion("validate", tmp_path)
    assert "run: pip install 'medfusion[pretrained]'" in " ".join(done.err.split())
