import json

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from medfusion.core.folds import patient_folds
from medfusion.evaluation.shortcuts import TOGETHER, VALUES, acquisition_columns, shortcut_audit
from medfusion.evaluation.shortcuts_model import design, left_out_scores, pairs_within

N = 600


def audit(events, risks, columns, folds=None, presence=None, ids=None, **more):
    n = len(events)
    ids = [f"P{number}" for number in range(n)] if ids is None else ids
    folds = patient_folds(ids, events, 5, 0) if folds is None else folds
    presence = np.ones((n, 1), dtype=bool) if presence is None else presence
    names = ["imaging", "ehr"][: presence.shape[1]]
    more.setdefault("resamples", 100)
    return shortcut_audit(events, risks, ids, folds, columns, presence, names, 0, **more)


def only(audited, name, kind="acquisition"):
    (found,) = (each for each in audited.shortcuts if (each.kind, each.name) == (kind, name))
    return found


def drawn(seed, by_view, by_illness):
    """Draw a view, an illness and events that follow both, so much."""
    rng = np.random.default_rng(seed)
    portable, ill = rng.random(N) < 0.4, rng.normal(size=N)
    events = rng.random(N) < expit(-1.0 + by_view * (portable - 0.4) + by_illness * ill)
    return np.where(portable, "AP", "PA"), portable, ill, events


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 4))
def test_pairs_are_those_that_counting_one_by_one_finds(seed, n, groups):
    rng = np.random.default_rng(seed)
    events, scores = rng.random(n) < 0.5, rng.integers(0, 5, n) / 4.0
    strata = np.unique(rng.integers(0, groups, n), return_inverse=True)[1]
    weights = rng.integers(0, 3, (2, n)).astype(float)
    right, pairs = np.zeros((2, 2, strata.max() + 1))
    for i in np.flatnonzero(events):
        for j in np.flatnonzero(~events & (strata == strata[i])):
            both = weights[:, i] * weights[:, j]
            pairs[:, strata[i]] += both
            right[:, strata[i]] += both * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
    found = pairs_within(events, scores, strata, weights)
    np.testing.assert_allclose(found[0], right, atol=1e-9)
    np.testing.assert_allclose(found[1], pairs, atol=1e-9)


def test_what_two_views_tell_is_what_the_table_of_two_by_two_says():
    # In every fold: of 8 with the event 6 are AP, of 12 without it 3.
    view = np.tile(["AP"] * 6 + ["PA"] * 2 + ["AP"] * 3 + ["PA"] * 9, 5)
    events, folds = np.tile([True] * 8 + [False] * 12, 5), np.repeat(range(5), 20)
    risks = 0.5 * np.random.default_rng(0).uniform(size=100) + 0.2 * events
    found = only(audit(events, risks, {"view": view}, folds), "view")
    assert found.alone.value == pytest.approx(0.5 * (1.0 + 6 / 8 - 3 / 12))
    assert found.model.value == pytest.approx(roc_auc_score(events, risks))
    assert found.share.value == pytest.approx(0.25 / (found.model.value - 0.5))


def test_a_column_that_tells_nothing_looks_like_chance_and_not_like_less():
    # Pooled over folds, base rates of the training parts would bring this to 0.4 and below.
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        events, column = rng.random(150) < 0.3, rng.choice(["a", "b"], 150)
        folds = rng.integers(0, 5, 150)
        scores = left_out_scores({"column": column}, events, folds)
        right, pairs = pairs_within(events, scores, folds, np.ones((1, 150)))
        found.append(right.sum() / pairs.sum())
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_a_model_that_only_knows_the_view_keeps_nothing_within_it():
    view, portable, _, events = drawn(1, 3.0, 0.0)
    audited = audit(events, np.where(portable, 0.6, 0.1), {"view": view})
    found = only(audited, "view")
    assert found.within.value == 0.5
    assert found.share.value == pytest.approx(1.0, abs=0.02)
    assert (found.tells, found.leans) == (True, True)
    assert found.verdict.endswith("part of the result comes with it")
    assert any(sentence.startswith("view alone gives AUROC") for sentence in audited.sentences)


def test_a_model_of_the_illness_is_not_accused_of_a_view_that_tells_nothing():
    view, _, ill, events = drawn(2, 0.0, 2.0)
    audited = audit(events, expit(ill), {"view": view})
    found = only(audited, "view")
    assert found.alone.low < 0.5 < found.alone.high
    assert found.share.low == 0.0
    assert found.share.high < 0.35
    assert abs(found.drop.value) < 0.01
    assert found.verdict.endswith("no shortcut is seen")
    assert "loses no more than chance explains" in " ".join(audited.sentences)


def test_a_model_of_the_illness_keeps_its_ranking_beside_a_view_that_tells_much():
    view, portable, ill, events = drawn(3, 2.5, 2.0)
    honest, cheating = (
        only(audit(events, risks, {"view": view}), "view")
        for risks in (expit(ill), expit(-1.0 + 2.0 * ill + 2.5 * portable))
    )
    assert honest.tells
    assert not honest.leans
    assert cheating.leans
    assert cheating.drop.value > honest.drop.value + 0.03


def test_a_gap_between_sites_is_no_ranking_of_patients():
    rng = np.random.default_rng(4)
    site = rng.choice(["north", "river"], N)
    events = rng.random(N) < np.where(site == "north", 0.7, 0.1)
    risks = np.where(site == "north", 0.7, 0.1) + rng.uniform(-0.05, 0.05, N)
    found = only(audit(events, risks, {}, subjects={"site": site}), "site", "subject")
    assert found.model.value > 0.75
    assert found.within.value == pytest.approx(0.5, abs=0.06)
    levels = {level.name: level for level in found.levels}
    for name in ("north", "river"):
        here = site == name
        assert levels[name].auroc.value == pytest.approx(roc_auc_score(events[here], risks[here]))
        assert (levels[name].n, levels[name].n_events) == (here.sum(), events[here].sum())


def test_columns_that_tell_nothing_alone_may_tell_all_together():
    rng = np.random.default_rng(5)
    rows, maker = rng.choice(["1024", "2048"], N), rng.choice(["A", "B"], N)
    events = rng.random(N) < np.where((rows == "1024") == (maker == "A"), 0.8, 0.2)
    audited = audit(events, rng.uniform(size=N), {"rows": rows, "maker": maker})
    assert only(audited, "rows").alone.value < 0.6
    assert only(audited, TOGETHER).alone.value > 0.75
    assert only(audited, TOGETHER).levels == ()


def test_who_lacks_a_modality_or_a_value_may_tell_the_outcome():
    rng = np.random.default_rng(6)
    events = rng.random(N) < 0.4
    presence = np.column_stack([np.ones(N, bool), rng.random(N) < np.where(events, 0.9, 0.4)])
    missing = {"lactate": rng.random(N) < np.where(events, 0.1, 0.7), "sodium": rng.random(N) < 0.2}
    audited = audit(events, rng.uniform(size=N), {}, presence=presence, missing=missing)
    where = only(audited, "which modalities are there", "missingness")
    assert where.alone.value == pytest.approx(0.75, abs=0.05)
    assert [level.name for level in where.levels] == ["imaging", "imaging + ehr"]
    assert only(audited, VALUES, "missingness").alone.value == pytest.approx(0.8, abs=0.05)


def test_a_column_is_judged_where_it_is_known_and_the_model_with_it():
    view, _, ill, events = drawn(7, 1.0, 1.0)
    known = np.random.default_rng(0).random(N) < 0.5
    partly = [value if here else None for value, here in zip(view, known, strict=True)]
    found = only(audit(events, expit(ill), {"view": partly}), "view")
    assert found.n == known.sum()
    assert found.model.value == pytest.approx(roc_auc_score(events[known], ill[known]))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["DX"] * N, "the same everywhere: DX"),
        ([None] * N, "too few: 0 of 20 patients"),
        ([np.nan] * N, "too few: 0 of 20 patients"),
        (["AP"] * 15 + [""] * (N - 15), "too few: 15 of 20 patients"),
    ],
)
def test_a_column_that_cannot_be_judged_says_why(values, said):
    _, _, ill, events = drawn(8, 0.0, 1.0)
    audited = audit(events, expit(ill), {"column": values, "hours": np.arange(N)})
    assert only(audited, "column").verdict == said
    assert audited.sentences[-1].startswith(f"Not judged: column ({said})")
    assert only(audited, TOGETHER).alone.value is not None


def test_a_column_of_three_hundred_levels_is_judged_by_its_frequent_ones():
    _, _, ill, events = drawn(9, 0.0, 1.0)
    model = np.array([f"X{number // 2}" for number in range(N)], dtype=object)
    model[:200] = "common"
    levels = only(audit(events, expit(ill), {"model": model}), "model").levels
    assert len(levels) == 20
    assert {"common", "182 others"} <= {level.name for level in levels}


@pytest.mark.parametrize("values", [np.arange(N) % 2 == 0, np.arange(N) % 3, np.arange(N) / 7.0])
def test_columns_may_be_truths_counts_or_measures(values):
    _, _, ill, events = drawn(10, 0.0, 1.0)
    found = only(audit(events, expit(ill), {"column": values}), "column")
    assert found.alone.value == pytest.approx(0.5, abs=0.1)
    assert sum(level.n for level in found.levels) == N


def test_numbers_are_described_without_the_outcome_and_what_says_nothing_is_left_out():
    columns = {"rows": [*range(90), *[None] * 10], "empty": [None] * 100, "bits": [8, 12] * 50}
    values = design(columns)
    # Five fifths and a rank, nothing, and two values.
    assert values.shape == (100, 5 + 1 + 0 + 2)
    assert (values[90:, :6] == 0).all()
    assert np.isfinite(values).all()


def test_a_fold_whose_training_part_has_one_class_is_not_judged_by_it():
    events = np.array([True] * 10 + [False] * 10)
    scores = left_out_scores({"view": ["AP", "PA"] * 10}, events, np.repeat([0, 1], 10))
    assert (scores == 0.0).all()


def test_samples_of_one_class_or_of_other_lengths_are_refused():
    events, risks = np.array([True, False] * 20), np.full(40, 0.5)
    with pytest.raises(ValueError, match="needs samples with and without the event"):
        audit(np.ones(40, bool), risks, {}, folds=np.arange(40) % 5)
    with pytest.raises(ValueError, match="view has 3 values for 40 samples"):
        audit(events, risks, {"view": ["AP"] * 3})


def test_a_model_that_is_no_better_than_chance_owes_nothing():
    view, _, _, events = drawn(11, 2.0, 0.0)
    found = only(audit(events, np.full(N, 0.3), {"view": view}), "view")
    assert found.model.value == 0.5
    assert found.share.note == "the model ranks no better than chance"


def test_everything_is_said_as_json_tables_and_pictures():
    view, portable, ill, events = drawn(12, 2.0, 1.0)
    columns = {"view": view, "modality": ["DX"] * N, "rows": np.random.default_rng(0).choice([512, 1024], N)}
    audited = audit(events, expit(ill + portable), columns, subjects={"age_years": 60 + 10 * ill})
    said = json.loads(json.dumps(audited.as_dict(), allow_nan=False))
    assert [each["name"] for each in said["shortcuts"]] == [each.name for each in audited.shortcuts]
    assert said["shortcuts"][0]["levels"][0]["level"] == "AP"
    sources, levels = audited.panels
    table = sources.frame()
    assert table["name"].tolist() == [each.name for each in audited.shortcuts]
    assert table.loc[table["name"] == "modality", "alone"].isna().all()
    assert levels.frame()["n"].sum() == sum(level.n for each in audited.shortcuts for level in each.levels)
    for panel in audited.panels:
        assert panel.title
        assert panel.caption
        assert len(panel.plot().axes) == 1
    assert "may be good medicine" in " ".join(audited.sentences)


def test_equal_seeds_say_the_same_and_intervals_are_those_of_patients():
    view, _, ill, events = drawn(13, 1.0, 1.0)
    one, two = (audit(events, expit(ill), {"view": view}) for _ in range(2))
    assert one.as_dict() == two.as_dict()
    # Each patient four times over is no more evidence than once.
    ids = [f"P{number}" for number in range(N)] * 4
    fourfold = audit(np.tile(events, 4), np.tile(expit(ill), 4), {"view": np.tile(view, 4)}, ids=ids)
    once, again = only(one, "view").within, only(fourfold, "view").within
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.15)


def test_what_modalities_say_becomes_columns_with_their_names():
    told = {"imaging": [{"view": "AP"}, None, {"rows": 40.0}], "notes": [None, None, {"notes": 2}]}
    assert acquisition_columns(told) == {
        "imaging: view": ["AP", None, None],
        "imaging: rows": [None, None, 40.0],
        "notes: notes": [None, None, 2],
    }


@pytest.mark.shared
@pytest.mark.parametrize("task", ["icu", "covid"])
def test_the_view_of_real_films_tells_what_a_table_of_two_by_two_says(shared, task):
    root = shared / "cohorts" / "covid-cxr"
    labels = pd.read_csv(root / "labels" / f"{task}.csv").dropna(subset=["boolean_value"])
    headers = (pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((root / "imaging").rglob("*.dcm")))
    films = pd.DataFrame(
        [(h.PatientID, pd.Timestamp(f"{h.StudyDate} {h.StudyTime[:6]}"), h.ViewPosition) for h in headers],
        columns=["subject_id", "time", "view"],
    )
    labels["prediction_time"] = pd.to_datetime(labels["prediction_time"])
    table = pd.merge_asof(
        *(labels.sort_values("prediction_time"), films.sort_values("time")),
        left_on="prediction_time",
        right_on="time",
        by="subject_id",
    ).dropna(subset=["view"])
    events = table["boolean_value"].to_numpy(dtype=bool)
    portable = (table["view"] == "AP").to_numpy()
    expected = 0.5 * (1.0 + portable[events].mean() - portable[~events].mean())
    ids = table["subject_id"].tolist()
    found = only(audit(events, np.full(len(events), 0.5), {"view": table["view"].tolist()}, ids=ids), "view")
    assert expected > 0.62
    assert found.alone.value == pytest.approx(expected, abs=0.02)
