"""The default encoder: the arithmetic is scikit-learn's, and the shares are exact."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from medfusion.core.protocols import ModalityOptions
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Attribution, Explanation
from medfusion.modalities.notes import NotesModality, NotesPayload
from medfusion.modalities.notes.tfidf import AVERAGE, ELSEWHERE, PIECE_WEIGHT, TfidfEncoder

Read = Callable[..., NotesPayload | None]
PLAIN = [
    "bilateral opacities in lower lobes",
    "opacities in the left lower lobe with fever",
    "fever and cough since monday fever",
    "cough and dyspnea with bilateral opacities",
]
VOCABULARY = [
    "fever",
    "no",
    "cough",
    ",",
    ".",
    "but",
    "발열",
    "없음",
    "기침은",
    "있고",
    "FAMILY HISTORY:",
    "\n",
    "asthma",
]


def fitted(payloads: list[NotesPayload | None]) -> TfidfEncoder:
    encoder = TfidfEncoder()
    encoder.fit(payloads, np.zeros(len(payloads), dtype=bool))
    return encoder


@pytest.fixture(scope="module")
def plain(read: Read) -> list[NotesPayload | None]:
    return [read(text) for text in PLAIN]


def test_words_and_pairs_are_weighted_as_scikit_learn_does(plain: list[NotesPayload | None]) -> None:
    expected = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    values = expected.fit_transform(PLAIN).toarray()
    found = fitted(plain).encode(plain)
    names = [f"word:{name}" for name in expected.get_feature_names_out()]
    assert list(found.feature_names)[: len(names)] == names
    np.testing.assert_allclose(found.values.toarray()[:, : len(names)], values, rtol=1e-6)


def test_pieces_are_those_of_scikit_learn_within_word_boundaries(plain: list[NotesPayload | None]) -> None:
    expected = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=2, sublinear_tf=True)
    values = expected.fit_transform(PLAIN).toarray()
    found = fitted(plain).encode(plain)
    names = [f"char:{name}" for name in expected.get_feature_names_out()]
    assert list(found.feature_names)[-len(names) :] == names
    np.testing.assert_allclose(found.values.toarray()[:, -len(names) :], values * PIECE_WEIGHT, rtol=1e-6)


def test_fever_no_fever_and_a_relatives_fever_are_different_features(read: Read) -> None:
    payloads = [read(text) for text in ("Fever.", "No fever.", "FAMILY HISTORY: fever.")] * 2
    encoder = fitted(payloads)
    embedding = encoder.encode(payloads)
    names = [name for name in embedding.feature_names if name.endswith("fever") and name.startswith("word:")]
    assert names == ["word:family:fever", "word:fever", "word:no ¬fever", "word:¬fever"]
    rows = embedding.values.toarray()[:3]
    np.testing.assert_allclose(rows @ rows.T, np.diag(np.diag(rows @ rows.T)))


def test_an_absent_payload_has_an_empty_row(plain: list[NotesPayload | None]) -> None:
    embedding = fitted([*plain, None]).encode([None, *plain])
    assert embedding.present.tolist() == [False, True, True, True, True]
    assert embedding.values.dtype == np.float32
    assert embedding.values.nnz == embedding.values[1:].nnz


def test_notes_that_share_no_word_keep_their_own(read: Read) -> None:
    embedding = fitted([read("fever"), read("기침")]).encode([read("fever")])
    assert {"word:fever", "word:기침"} <= set(embedding.feature_names)


def test_notes_of_unknown_words_have_a_row_of_zeros(read: Read, plain: list[NotesPayload | None]) -> None:
    encoder = fitted(plain)
    payload = read("xyzzy")
    embedding = encoder.encode([payload])
    assert embedding.present.tolist() == [True]
    assert embedding.values.nnz == 0
    shares = np.full(embedding.values.shape[1], 0.01)
    assert payload is not None
    lines = encoder.explain(payload, Attribution(shares, 0.5))
    assert [(line.feature, line.share) for line in lines] == [(ELSEWHERE, pytest.approx(shares.sum())), (AVERAGE, 0.5)]


def test_shares_go_to_the_words_that_carry_them(read: Read) -> None:
    payloads = [read("fever cough"), read("fever cough"), read("no fever")]
    encoder = fitted(payloads)
    payload = read("fever cough fever")
    assert payload is not None
    names = list(encoder.encode([payload]).feature_names)
    shares = np.zeros(len(names))
    shares[names.index("word:fever")] = 1.0
    shares[names.index("word:fever cough")] = 0.4
    shares[names.index("char: fe")] = 0.1
    lines = {line.feature: line for line in encoder.explain(payload, Attribution(shares, -2.0))}
    assert lines["fever"].share == pytest.approx(1.0 + 0.2 + 0.1)
    assert lines["fever"].value == 2.0
    assert lines["cough"].share == pytest.approx(0.2)
    assert lines[AVERAGE].share == -2.0


def test_the_share_of_a_piece_is_split_by_how_often_each_word_brings_it_in(read: Read) -> None:
    texts = ["lungs clear", "lungs clear"]
    encoder = fitted([read(text) for text in texts])
    payload = read("lungs lung lungs")
    assert payload is not None
    names = list(encoder.encode([payload]).feature_names)
    shares = np.zeros(len(names))
    shares[names.index("char:lun")] = 3.0
    lines = {line.feature: line.share for line in encoder.explain(payload, Attribution(shares, 0.0))}
    assert lines["lungs"] == pytest.approx(2.0)
    assert lines["lung"] == pytest.approx(1.0)


TEXTS = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=25).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 1000))
def test_shares_add_up_exactly(read: Read, texts: list[str], seed: int, scale: float) -> None:
    payloads = [read(text) for text in ["fever 기침은 cough", "no fever, cough", *texts]]
    encoder = fitted(payloads)
    embedding = encoder.encode(payloads)
    rng = np.random.default_rng(seed)
    slope, reference = rng.normal(scale=scale, size=embedding.values.shape[1]), embedding.values.toarray().mean(axis=0)
    for row, payload in enumerate(payloads):
        if payload is not None:
            shares = slope * (embedding.values[[row]].toarray()[0].astype(float) - reference)
            attribution = Attribution(shares, float(rng.normal()), slope, reference)
            lines = encoder.explain(payload, attribution)
            assert math.fsum(line.share for line in lines) == pytest.approx(attribution.total, abs=1e-6)
            Explanation(0.0, {"notes": attribution.total}, {"notes": lines}, attribution.total)
            counts = payload.terms()
            assert sum(line.value or 0 for line in lines) <= counts.total()


def test_an_encoder_is_restored_from_plain_files(plain: list[NotesPayload | None], tmp_path: Path) -> None:
    modality = NotesModality(ModalityOptions())
    encoder = fitted(plain)
    save_state(tmp_path, "notes", encoder.state())
    restored = modality.restore(load_state(tmp_path, "notes"))
    before, after = encoder.encode(plain), restored.encode(plain)
    assert list(before.feature_names) == list(after.feature_names)
    assert (before.values != after.values).nnz == 0
    assert "words" in json.loads((tmp_path / "notes.json").read_text(encoding="utf-8"))


def test_the_vocabulary_has_an_upper_bound(plain: list[NotesPayload | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medfusion.modalities.notes.tfidf.MAX_FEATURES", 3)
    names = fitted(plain).encode(plain).feature_names
    assert [name for name in names if name.startswith("word:")] == ["word:and", "word:fever", "word:opacities"]
