"""Using a model: members that have not seen a patient judge them, and what is told is told honestly."""

import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pydicom
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss, roc_auc_score

from medfusion.core.errors import DataError, UsageError
from medfusion.outputs.ledger import footnotes
from medfusion.pipeline import evaluate_model, explain, open_for_use, score, train, validate
from medfusion.pipeline.data import read_payloads
from medfusion.scoring import Tracked


def silent(_stage, _total):
    return lambda done: None


@pytest.fixture(scope="module")
def everybody(opened):
    """Return predictions and payloads of the training cohort."""
    return opened.predict(opened.cohort.samples, silent)


@pytest.fixture(scope="module")
def evaluated(trained, synthetic, cache, tmp_path_factory):
    """Return the evaluation on the training cohort, and its folder."""
    out = tmp_path_factory.mktemp("evaluation")
    return evaluate_model(trained.folder, synthetic.folder, out, cache=cache).evaluation, out


def by_hand(opened, payloads, members_of):
    """Add up base and weighted evidence of the members that are asked, one sample at a time."""
    model, logits = opened.model, []
    for row, sample in enumerate(opened.cohort.samples):
        total = model.fusion.base
        for weight, (name, evidence) in zip(model.fusion.weights, model.evidence.items(), strict=True):
            if payloads[name][row] is not None:
                asked = [evidence.members[place] for place in members_of(model.roster.fold(sample.subject_id))]
                raw = np.mean([member.raw([payloads[name][row]])[0] for member in asked])
                total += weight * (evidence.platt.intercept + evidence.platt.slope * raw - evidence.base)
        logits.append(total)
    return np.array(logits)


def test_patients_of_the_training_cohort_are_judged_by_the_member_that_has_not_seen_them(opened, everybody, evaluated):
    predictions, payloads = everybody
    left_out = by_hand(opened, payloads, lambda fold: [fold])
    np.testing.assert_allclose(predictions.logit, left_out, atol=1e-5)
    events = np.array([sample.event for sample in opened.cohort.samples])
    figures = evaluated[0].estimates
    assert figures["auroc"].value == pytest.approx(roc_auc_score(events, left_out), abs=1e-9)
    assert figures["brier"].value == pytest.approx(brier_score_loss(events, expit(left_out)), abs=1e-6)


def test_members_that_have_seen_the_patients_would_look_far_better(opened, everybody, evaluated):
    events = np.array([sample.event for sample in opened.cohort.samples])
    seen = by_hand(opened, everybody[1], lambda fold: [each for each in range(5) if each != fold])
    assert roc_auc_score(events, seen) > evaluated[0].estimates["auroc"].value + 0.1


def test_new_patients_get_the_mean_of_all_members(trained, new_patients, cache):
    opened = open_for_use(trained.folder, new_patients.folder, cache)
    predictions, payloads = opened.predict(opened.cohort.samples, silent)
    np.testing.assert_allclose(predictions.logit, by_hand(opened, payloads, lambda fold: range(5)), atol=1e-5)
    assert not predictions.seen.any()
    np.testing.assert_array_equal(predictions.mixture, np.full((len(predictions.logit), 5), 0.2))


def test_an_evaluation_is_written_as_figures_and_as_a_page(evaluated, synthetic, opened):
    result, out = evaluated
    numbers = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert numbers["n"] == numbers["seen_in_training"] == len(synthetic.truth.table) == result.n
    assert numbers["auroc"]["value"] == result.estimates["auroc"].value
    assert (numbers["model_id"], numbers["task"]) == (opened.model.model_id, "deterioration")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "judged by the member that has not seen the patient" in page
    assert "Research use only" in page


def test_figures_of_training_are_of_patients_that_the_heads_had_not_seen(trained, evaluated):
    # The few weights of the fusion are fitted on other folds there, and on all folds here.
    told = trained.training.results["fused"].estimates["auroc"].value
    assert told == pytest.approx(evaluated[0].estimates["auroc"].value, abs=0.05)


def test_intervals_hold_the_risk_and_are_within_its_limits(everybody):
    predictions, _ = everybody
    assert (predictions.interval[:, 0] < predictions.risk).all()
    assert (predictions.risk < predictions.interval[:, 1]).all()
    assert (predictions.interval > 0).all()
    assert (predictions.interval < 1).all()


def test_somebody_of_whom_nothing_is_known_gets_the_base_rate(opened):
    nothing = {name: [None] for name in opened.model.evidence}
    predictions = opened.model.predict(["nobody"], nothing)
    assert predictions.logit[0] == opened.model.fusion.base
    # Of somebody of whom nothing is known, no outcome can be ruled out.
    assert opened.model.findings(predictions, 0) == ["no-data", "abstain-undecided"]
    ledger = opened.model.explain(predictions, 0, nothing, [])
    assert (ledger.by_feature, set(ledger.by_modality.values())) == ({}, {0.0})


def test_no_samples_give_no_predictions(opened):
    predictions = opened.model.predict([], {name: [] for name in opened.model.evidence})
    assert predictions.logit.shape == (0,)
    assert predictions.interval.shape == (0, 2)


def test_a_member_that_does_not_count_cannot_make_a_modality_absent(opened, everybody):
    model, payloads = opened.model, everybody[1]
    row = next(row for row, payload in enumerate(payloads["ehr"]) if payload is not None)
    subject = opened.cohort.samples[row].subject_id
    fold = model.roster.fold(subject)
    evidence = model.evidence["ehr"]

    class Silent:
        def raw(self, payloads):
            return np.full(len(payloads), np.nan)

    members = [member if place == fold else Silent() for place, member in enumerate(evidence.members)]
    quiet = type(evidence)(evidence.modality, tuple(members), evidence.platt, evidence.base)
    changed = type(model)(
        model.task, model.positive, {**model.evidence, "ehr": quiet}, model.fusion, model.roster, model.card
    )
    one = {name: [each[row]] for name, each in payloads.items()}
    assert changed.predict([subject], one).logit[0] == pytest.approx(everybody[0].logit[row], abs=1e-6)


def test_a_patient_is_explained_at_the_latest_time_or_at_the_one_asked_for(opened):
    table = {}
    for sample in opened.cohort.samples:
        table.setdefault(sample.subject_id, []).append(sample.prediction_time)
    subject, times = next((who, times) for who, times in table.items() if len(times) == 2)
    assert explain(opened, subject).prediction_time == times[1]
    report = explain(opened, subject, times[0])
    assert report.prediction_time == times[0]
    assert report.seen_in_training
    assert set(report.views) == {name for name, here in report.present.items() if here}
    with pytest.raises(UsageError, match=f"no prediction time 1999-01-01T00:00:00; there are: {times[0].isoformat()}"):
        explain(opened, subject, datetime(1999, 1, 1))
    with pytest.raises(UsageError, match="no sample of subject P9"):
        explain(opened, "P9")


def test_an_explanation_is_that_of_the_score(opened, everybody):
    sample = opened.cohort.samples[5]
    report = explain(opened, sample.subject_id, sample.prediction_time)
    assert report.explanation.logit == pytest.approx(everybody[0].logit[5], abs=1e-6)
    assert [report.risk_low, report.risk_high] == pytest.approx(everybody[0].interval[5].tolist(), abs=1e-6)


WORDS = {True: "Confusion and cyanosis.", False: "Ambulating, in good spirits."}


def small(root, *, zone="", tasks=("died",), notes=True, labels=lambda number: number % 2 == 0, patients=24):
    """Write a cohort whose notes tell the outcome of most patients."""
    root.mkdir()
    lines = [f'[tasks.{task}]\nlabels = "labels.csv"\n' for task in tasks]
    (root / "cohort.toml").write_text("\n".join(lines), encoding="utf-8")
    rows = [f"P{number},2024-01-02T09:00:00{zone},{labels(number)}" for number in range(patients)]
    (root / "labels.csv").write_text("\n".join(["subject_id,prediction_time,boolean_value", *rows]), encoding="utf-8")
    rows = [
        f'P{number},2024-01-01T09:00:00{zone},admission,"{WORDS[(number % 2 == 0) != (number % 7 == 0)]} Day {number}."'
        for number in range(patients)
    ]
    if notes:
        (root / "notes.csv").write_text("\n".join(["subject_id,time,note_type,text", *rows]), encoding="utf-8")
    return root


def test_a_time_without_a_zone_is_utc_where_the_cohort_has_zones(tmp_path):
    cohort = small(tmp_path / "zoned", zone="+09:00")
    train(cohort, tmp_path / "model")
    opened = open_for_use(tmp_path / "model", cohort)
    for at in (datetime(2024, 1, 2), datetime(2024, 1, 2, tzinfo=UTC)):
        assert explain(opened, "P3", at).prediction_time == datetime(2024, 1, 2, tzinfo=UTC)
    scored = score(tmp_path / "model", cohort, tmp_path / "scores")
    assert (scored.scored, scored.quarantined) == (24, 0)


def test_modalities_that_nobody_has_change_nothing(tmp_path):
    cohort = small(tmp_path / "cohort")
    every = train(cohort, tmp_path / "every")
    one = train(cohort, tmp_path / "one", only=["notes"])
    assert list(every.model.evidence) == list(one.model.evidence) == ["notes"]
    opened = [open_for_use(tmp_path / name, cohort) for name in ("every", "one")]
    logits = [each.predict(each.cohort.samples, silent)[0].logit for each in opened]
    np.testing.assert_array_equal(*logits)
    assert every.results["notes"].estimates["auroc"].value > 0.7


def test_training_twice_with_one_seed_gives_the_same_predictions(tmp_path):
    cohort = small(tmp_path / "cohort")
    logits = []
    for name in ("first", "second"):
        train(cohort, tmp_path / name, seed=3)
        opened = open_for_use(tmp_path / name, cohort)
        logits.append(opened.predict(opened.cohort.samples, silent)[0].logit)
    np.testing.assert_array_equal(*logits)


def test_a_cohort_with_other_tasks_is_used_by_its_only_one(tmp_path):
    train(small(tmp_path / "cohort"), tmp_path / "model")
    other = small(tmp_path / "other", tasks=["survived"])
    assert open_for_use(tmp_path / "model", other).cohort.task.name == "survived"


def test_of_several_other_tasks_one_has_to_be_named(tmp_path):
    train(small(tmp_path / "cohort"), tmp_path / "model")
    other = small(tmp_path / "other", tasks=["survived", "returned"])
    with pytest.raises(UsageError, match="--task"):
        open_for_use(tmp_path / "model", other)
    assert open_for_use(tmp_path / "model", other, task="returned").cohort.task.name == "returned"


def test_a_trained_model_knows_its_id(tmp_path):
    trained = train(small(tmp_path / "cohort"), tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text(encoding="utf-8"))
    assert trained.model.model_id == card["model_id"] != ""


@pytest.mark.parametrize("tasks", ["tasks = 1", "tasks = 'died'", ""])
def test_a_cohort_without_a_task_is_refused_and_not_stumbled_over(tmp_path, tasks):
    cohort = small(tmp_path / "cohort")
    train(cohort, tmp_path / "model")
    (cohort / "cohort.toml").write_text(tasks, encoding="utf-8")
    with pytest.raises(DataError, match="no-task"):
        open_for_use(tmp_path / "model", cohort)
    assert [problem.code for problem in validate(cohort)] == ["no-task"]


def test_a_task_that_cannot_be_checked_does_not_hide_the_problems_of_another(tmp_path):
    cohort = small(tmp_path / "cohort", tasks=["died", "icu"])
    text = (
        (cohort / "cohort.toml").read_text().replace('[tasks.icu]\nlabels = "labels.csv"', '[tasks.icu]\nlabels = ""')
    )
    (cohort / "cohort.toml").write_text(text, encoding="utf-8")
    with (cohort / "notes.csv").open("a", encoding="utf-8") as file:
        file.write("\nP1,2024-01-01T10:00:00,progress, \n")
    assert {"bad-task", "empty-note"} <= {problem.code for problem in validate(cohort)}


def test_too_few_patients_for_any_modality_is_told(tmp_path):
    cohort = small(tmp_path / "cohort", notes=False)
    with pytest.raises(DataError, match="nothing-to-learn-from"):
        train(cohort, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_evaluation_without_labels_is_refused(tmp_path):
    train(small(tmp_path / "cohort"), tmp_path / "model")
    with pytest.raises(DataError, match="no-labels"):
        evaluate_model(tmp_path / "model", small(tmp_path / "new", labels=lambda number: ""), tmp_path / "out")


def test_an_evaluation_of_patients_with_one_outcome_says_what_it_cannot_tell(tmp_path):
    train(small(tmp_path / "cohort"), tmp_path / "model")
    result = evaluate_model(tmp_path / "model", small(tmp_path / "new", labels=lambda number: True), tmp_path / "out")
    result = result.evaluation
    assert result.estimates["auroc"].value is None
    assert "all samples have the event" in result.estimates["auroc"].note
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["auroc"]["value"] is None


def test_progress_is_told_for_every_stage(tmp_path):
    told = {}

    def track(stage, total):
        told[stage] = [total, 0]

        def advance(done):
            told[stage][1] += done

        return advance

    train(small(tmp_path / "cohort"), tmp_path / "model", track=track)
    score(tmp_path / "model", tmp_path / "cohort", tmp_path / "scores", monitors=[Tracked(track)])
    assert {"read notes", "fit notes", "cross-validate", "score"} <= set(told)
    assert all(total == done for total, done in told.values())


def test_payloads_hold_nothing_that_came_after_the_prediction(opened, synthetic):
    samples = opened.cohort.samples
    payloads = read_payloads(opened.cohort, opened.model.modalities, samples, [], silent)
    for sample, films, notes in zip(samples, payloads["imaging"], payloads["notes"], strict=True):
        assert all(film.time <= sample.prediction_time for film in (films.films if films else ()))
        assert all(note.time <= sample.prediction_time for note in (notes.notes if notes else ()))


def test_a_film_that_vanishes_after_the_prediction_stays_one_line_and_is_told(trained, new_patients, tmp_path, cache):
    cohort = shutil.copytree(new_patients.folder, tmp_path / "cohort")
    opened = open_for_use(trained.folder, cohort, cache)
    predictions, payloads = opened.predict(opened.cohort.samples, silent)
    row = next(index for index, films in enumerate(payloads["imaging"]) if films is not None)
    for film in payloads["imaging"][row].films:
        film.source.unlink()
    problems = []
    ledger = opened.model.explain(predictions, row, payloads, problems)
    (line,) = ledger.by_feature["imaging"]
    assert line.share == pytest.approx(ledger.by_modality["imaging"], abs=1e-9) != 0
    assert [problem.code for problem in problems] == ["unreadable-file"]


def test_a_wrong_film_among_right_ones_is_flagged_with_its_distance(trained, new_patients, tmp_path, cache):
    cohort = shutil.copytree(new_patients.folder, tmp_path / "cohort")
    opened = open_for_use(trained.folder, cohort, cache)
    samples = opened.cohort.samples
    predictions, payloads = opened.predict(samples, silent)
    flagged = [distance.outside for distance in predictions.distances["imaging"] if distance is not None]
    assert sum(flagged) <= 2
    row = next(index for index, films in enumerate(payloads["imaging"]) if films is not None)
    film = payloads["imaging"][row].films[-1].source
    dataset = pydicom.dcmread(film)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress()
    dataset.PixelData = np.ascontiguousarray(np.rot90(dataset.pixel_array, 2)).tobytes()
    dataset.save_as(film)
    sample = samples[row]
    report = explain(open_for_use(trained.folder, cohort, cache), sample.subject_id, sample.prediction_time)
    distance = report.distances["imaging"]
    assert (distance.outside, distance.percentile) == (True, 100.0)
    assert distance.times > predictions.distances["imaging"][row].times
    assert "out-of-domain-imaging" in report.findings
    assert any(line.startswith("Do not trust the share of imaging") for line in footnotes(report))


def test_distances_of_training_patients_are_those_of_the_member_that_has_not_seen_them(opened, everybody):
    predictions, payloads = everybody
    model = opened.model.evidence["imaging"]
    row = next(index for index, films in enumerate(payloads["imaging"]) if films is not None)
    fold = opened.model.roster.fold(opened.cohort.samples[row].subject_id)
    films = [model.modality.encoder().encode([item]).values for item in model.modality.items(payloads["imaging"][row])]
    expected = max(model.domain.members[fold].distance(values)[0] / model.domain.typical for values in films)
    assert predictions.distances["imaging"][row].times == pytest.approx(expected)
    absent = [index for index, films in enumerate(payloads["imaging"]) if films is None]
    assert all(predictions.distances["imaging"][index] is None for index in absent)
    assert all(each is None for name in ("ehr", "notes") for each in predictions.distances[name])
