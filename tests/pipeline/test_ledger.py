"""Ledgers in batches say line by line what explaining one sample after the other says, and add up in every row."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from medfusion.core.types import Attribution, FeatureShare
from medfusion.evidence.crossfit import TOGETHER
from medfusion.explain import close_ledger
from medfusion.fusion import projection, restore_fusion, training
from medfusion.fusion.maps import LogitMap
from medfusion.fusion.recalibration import Recalibration
from medfusion.fusion.weights import Weights
from medfusion.outputs.fold import fold
from medfusion.outputs.tables import LEDGER, empty_ledger, value_text
from medfusion.pipeline import ledger as ledger_module
from medfusion.pipeline import open_for_use, train
from medfusion.pipeline.ledger import PATTERN, UNOPENED

KEY = ["subject_id", "prediction_time", "modality"]
FUSIONS = {"late": (), "gated": ("ehr", "notes"), "early": ("ehr", "notes"), "joint": ("imaging", "notes")}


def ledger_table(ledgers, top=None):
    """Build the table line by line."""
    rows = [
        (sample.subject_id, sample.prediction_time, modality, line.feature, value_text(line.value), line.share)
        for sample, ledger in ledgers
        for modality, lines in ledger.by_feature.items()
        for line in (lines if top is None else fold(lines, top))
    ]
    columns = dict(zip([column.name for column in LEDGER.columns], zip(*rows, strict=True), strict=True))
    return pa.table(columns, schema=empty_ledger(zoned=False).schema)


def silent(_stage, _total):
    return lambda done: None


@pytest.fixture(scope="module", params=list(FUSIONS))
def asked(request, synthetic, opened, cache, tmp_path_factory):
    """Return a model, samples (half of them of patients seen in training), and payloads of which some are absent."""
    model = opened.model if request.param == "late" else learned(request.param, synthetic, cache, tmp_path_factory)
    samples = opened.cohort.samples[::5]
    samples = [
        replace(sample, subject_id=f"new-{place}") if place % 2 else sample for place, sample in enumerate(samples)
    ]
    _, payloads = opened.predict(opened.cohort.samples[::5], silent)
    absent = {name: start for start, name in enumerate(model.evidence)}
    payloads = {
        name: [None if place % 7 == absent[name] else each for place, each in enumerate(payloads[name])]
        for name in model.evidence
    }
    return model, samples, payloads


def learned(kind, synthetic, cache, tmp_path_factory):
    """Return a model with a network that counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "_ROWS_PER_DIMENSION", 16)
        patch.setattr(training, "STEPS", 40)
        folder = tmp_path_factory.mktemp(kind) / "model"
        model = train(synthetic.folder, folder, fusion=kind, only=FUSIONS[kind], cache=cache).model
    fusion = restore_fusion(model.fusion.state())
    fusion.fitted = Weights(fusion.base, np.array([0.9, 2.0]), fusion.fitted.covariance)
    return replace(model, fusion=fusion)


def recalibrated(model):
    """Return the model with a map, an offset of a pattern, and one of a group of patients."""
    patterns = {" + ".join(model.evidence): 0.25, "notes": -0.4, "ehr": 0.15}
    return replace(
        model,
        recalibration=Recalibration(LogitMap("beta", shift=-0.3, low=1.4, high=0.6), patterns, "sex", {"F": 0.2}),
    )


def member_lines(evidence, member, payload, part, pull, place):
    """Explain one payload by one member, through the encoder's own `explain`."""
    embedding = member.encoder.encode([payload])
    opened = member.head.shares(embedding.values)
    factor = part * pull.evidence.reshape(-1)[place]
    slope = None if opened.slope is None else factor * evidence.platt.slope * opened.slope
    shares = factor * evidence.platt.slope * opened.shares[0]
    constant = float(factor * (evidence.platt.apply(opened.constant) - evidence.base))
    if pull.embedding:
        along, reference = part * pull.embedding[place].reshape(-1), pull.reference[place]
        more = along * np.nan_to_num(embedding.dense(0) - reference)
        if slope is None:
            return member.encoder.explain(payload, Attribution(shares + more, constant))
        moved = np.where(np.isnan(slope), 0.0, along * (opened.reference - reference))
        slope, shares, constant = slope + along, shares + more - moved, constant + float(moved.sum())
    return member.encoder.explain(payload, Attribution(shares, constant, slope, opened.reference))


def by_hand(model, predictions, row, payloads):
    """Explain one sample member by member and line by line, as the formula of the ledger has it."""
    blocks = model.blocks({name: [payloads[name][row]] for name in model.evidence})
    pulls, mixture = model.fusion.pulls(blocks), predictions.mixture[row]
    factor = float(predictions.terms.factor[row])
    offset = float(predictions.terms.offset[row]) / max(1, predictions.present[row].sum())
    lines, shares = {}, dict(zip(model.evidence, predictions.shares[row].tolist(), strict=True))
    for column, (name, evidence) in enumerate(model.evidence.items()):
        if not predictions.present[row, column]:
            continue
        pull, found = pulls[name].times(factor), {}
        for place, (member, part) in enumerate(zip(evidence.members, mixture, strict=True)):
            if part > 0:
                for line in member_lines(evidence, member, payloads[name][row], part, pull, place):
                    before = found.get(line.feature, line).share if line.feature in found else 0.0
                    found[line.feature] = FeatureShare(line.feature, line.value, before + line.share)
        rest = shares[name] - offset - float(pull.own(blocks[name], mixture)[0])
        if abs(rest) > 1e-9:
            found[TOGETHER] = FeatureShare(TOGETHER, None, rest)
        if offset:
            found[PATTERN] = FeatureShare(PATTERN, None, offset)
        lines[name] = list(found.values())
    return close_ledger(float(predictions.terms.base[row]), shares, lines, float(predictions.logit[row]))


def assert_same(found, expected):
    """Compare two ledgers line by line; lines of equal size may stand in either order."""
    assert found.schema.equals(expected.schema)
    one, other = found.to_pandas(), expected.to_pandas()
    assert len(one) == len(other)
    np.testing.assert_array_equal(one[KEY].to_numpy(), other[KEY].to_numpy())
    np.testing.assert_allclose(one["share"].abs(), other["share"].abs(), rtol=0, atol=1e-9)
    both = one.merge(other, on=[*KEY, "feature"], how="outer", indicator=True)
    assert (both["_merge"] == "both").all()
    np.testing.assert_allclose(both["share_x"], both["share_y"], rtol=0, atol=1e-9)
    pd.testing.assert_series_equal(both["value_x"], both["value_y"], check_names=False)


def assert_adds_up(table, model, samples, predictions):
    """Compare the sums of lines with the shares of the predictions."""
    sums = table.to_pandas().groupby(KEY)["share"].agg(math.fsum)
    for row, sample in enumerate(samples):
        for column, name in enumerate(model.evidence):
            key = sample.subject_id, pd.Timestamp(sample.prediction_time), name
            assert (key in sums.index) == predictions.present[row, column]
            if key in sums.index:
                assert sums[key] == pytest.approx(predictions.shares[row, column], abs=1e-9)


@pytest.mark.parametrize("top", [None, 10, 1])
@pytest.mark.parametrize("change", [lambda model: model, recalibrated], ids=["as trained", "recalibrated"])
def test_a_batch_says_what_samples_one_by_one_say(asked, change, top):
    model, samples, payloads = change(asked[0]), asked[1], asked[2]
    subjects, facts = [sample.subject_id for sample in samples], [{"sex": "FM"[place % 2]} for place in range(20)]
    predictions, problems = model.predict(subjects, payloads, facts[: len(samples)]), []
    found = model.ledger(samples, predictions, payloads, problems, top=top, regions=True)
    expected = [(sample, by_hand(model, predictions, row, payloads)) for row, sample in enumerate(samples)]
    assert_same(found, ledger_table(expected, top))
    assert_adds_up(found, model, samples, predictions)
    assert not problems
    assert {column.name for column in LEDGER.columns} == set(found.column_names)
    for row in (0, 1):
        one = ledger_table([(samples[row], model.explain(predictions, row, payloads, problems))])
        assert_same(one, ledger_table(expected[row : row + 1]))


def test_without_regions_an_image_is_one_line_with_the_whole_share(asked):
    model, samples, payloads = asked
    if "imaging" not in model.evidence:
        pytest.skip("this model has no images")
    predictions = model.predict([sample.subject_id for sample in samples], payloads)
    whole = model.ledger(samples, predictions, payloads, []).to_pandas()
    parts = model.ledger(samples, predictions, payloads, [], regions=True).to_pandas()
    images = whole[whole["modality"] == "imaging"]
    assert set(images["feature"]) == {"(all regions)"}
    here = predictions.present[:, list(model.evidence).index("imaging")]
    assert len(images) == here.sum() > 0
    np.testing.assert_allclose(images["share"], predictions.shares[here, list(model.evidence).index("imaging")])
    others = [each[each["modality"] != "imaging"].reset_index(drop=True) for each in (whole, parts)]
    pd.testing.assert_frame_equal(*others)


def test_how_many_samples_are_opened_together_changes_nothing(asked, monkeypatch):
    model, samples, payloads = asked
    predictions = model.predict([sample.subject_id for sample in samples], payloads)
    together = model.ledger(samples, predictions, payloads, [])
    monkeypatch.setattr(ledger_module, "AT_ONCE", 3)
    monkeypatch.setattr(ledger_module, "_AT_ONCE_EMBEDDED", 3)
    assert_same(model.ledger(samples, replace(predictions, batches=None), payloads, []), together)


def test_nobody_has_an_empty_ledger_and_somebody_without_data_no_line(opened):
    nobody = opened.model.predict([], {name: [] for name in opened.model.evidence})
    empty = opened.model.ledger([], nobody, {name: [] for name in opened.model.evidence}, [])
    assert (empty.num_rows, set(empty.column_names)) == (0, {column.name for column in LEDGER.columns})
    nothing = {name: [None] for name in opened.model.evidence}
    predictions = opened.model.predict(["nobody"], nothing)
    assert opened.model.ledger(opened.cohort.samples[:1], predictions, nothing, []).num_rows == 0


def test_a_film_that_vanished_costs_its_own_lines_and_no_others(trained, new_patients, tmp_path, cache):
    cohort = shutil.copytree(new_patients.folder, tmp_path / "cohort")
    opened = open_for_use(trained.folder, cohort, cache)
    samples = opened.cohort.samples
    predictions, payloads = opened.predict(samples, silent)
    row = [place for place, films in enumerate(payloads["imaging"]) if films is not None][1]
    for film in payloads["imaging"][row].films:
        film.source.unlink()
    problems = []
    table = opened.model.ledger(samples, predictions, payloads, problems, top=None, regions=True).to_pandas()
    key = (table["subject_id"] == samples[row].subject_id) & (
        table["prediction_time"] == pd.Timestamp(samples[row].prediction_time)
    )
    (line,) = table[key & (table["modality"] == "imaging")].itertuples()
    column = list(opened.model.evidence).index("imaging")
    assert (line.feature, line.share) == (UNOPENED, pytest.approx(predictions.shares[row, column], abs=1e-9))
    assert {problem.code for problem in problems} == {"unreadable-file"}
    gone = {film.content for film in payloads["imaging"][row].films}
    others = [
        place
        for place, films in enumerate(payloads["imaging"])
        if films is not None and not gone & {film.content for film in films.films}
    ]
    lines = table[table["modality"] == "imaging"].groupby(["subject_id", "prediction_time"]).size()
    assert len(lines) == predictions.present[:, column].sum()
    assert (lines > 1).sum() == len(others)
