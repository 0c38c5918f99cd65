"""From a cohort folder to payloads and views."""

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.core.errors import Problem, UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import FeatureShare, Records
from medfusion.core.views import TextView
from medfusion.modalities.notes import MODALITY, NotesModality, NotesPayload

Read = Callable[..., NotesPayload | None]
MODEL = NotesModality(ModalityOptions())


def folder(path: Path, csv: str) -> CohortFolder:
    (path / "cohort.toml").write_text('name = "c"\n', encoding="utf-8")
    (path / "notes.csv").write_text(csv, encoding="utf-8")
    return CohortFolder.open(path)


def words(payload: NotesPayload | None) -> list[list[str]]:
    assert payload is not None
    return [[term for sentence in note.sentences for term in sentence.terms] for note in payload.notes]


def view(payload: NotesPayload, shares: list[FeatureShare]) -> TextView:
    (found,) = MODEL.view(payload, shares)
    assert isinstance(found, TextView)
    return found


def test_notes_are_indexed_with_type_and_text(tmp_path: Path) -> None:
    cohort = folder(tmp_path, 'subject_id,time,note_type,text\nP1,2024-01-02T03:04:05,,"No fever,\n기침"\n')
    table = MODEL.index(cohort)
    assert table is not None
    assert table.to_pylist() == [
        {
            "subject_id": "P1",
            "time": datetime(2024, 1, 2, 3, 4, 5),
            "note_type": "note",
            "text": "No fever,\n기침",
        }
    ]
    assert cohort.problems == []


def test_a_note_without_a_word_is_a_problem_that_names_its_row(tmp_path: Path) -> None:
    rows = "P1,2024-01-02T03:04:05,a,\nP2,2024-01-02T03:04:05,a,fine\nP3,2024-01-02T03:04:05,a, -- ...\n"
    cohort = folder(tmp_path, f"subject_id,time,note_type,text\n{rows}")
    table = MODEL.index(cohort)
    assert table is not None
    assert table["subject_id"].to_pylist() == ["P2"]
    assert [(each.code, each.where, each.subject_id) for each in cohort.problems] == [
        ("empty-note", "row 1", "P1"),
        ("empty-note", "row 3", "P3"),
    ]


def test_no_message_holds_the_text_of_a_note(tmp_path: Path) -> None:
    rows = "P1,yesterday,a,secret words\n,2024-01-02T03:04:05,a,secret words\nP1,2024-01-02T03:04:05,a,…\n"
    cohort = folder(tmp_path, f"subject_id,time,note_type,text\n{rows}")
    MODEL.index(cohort)
    assert cohort.problems
    assert not [problem.line() for problem in cohort.problems if "secret" in problem.line() or "…" in problem.line()]


def test_a_cohort_without_notes_has_none(tmp_path: Path) -> None:
    (tmp_path / "cohort.toml").write_text('name = "c"\n', encoding="utf-8")
    assert MODEL.index(CohortFolder.open(tmp_path)) is None


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    table = pa.table(
        {
            "subject_id": ["P1", "P2"],
            "time": pa.array([datetime(2024, 1, 1)] * 2, pa.timestamp("ns")),
            "text": pa.array(["기침", None], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "notes.parquet")
    (tmp_path / "cohort.toml").write_text('name = "c"\n', encoding="utf-8")
    cohort = CohortFolder.open(tmp_path)
    found = MODEL.index(cohort)
    assert found is not None
    assert found.select(["note_type", "text"]).to_pylist() == [{"note_type": "note", "text": "기침"}]
    assert [(each.code, each.file) for each in cohort.problems] == [("empty-note", "notes.parquet")]


def test_text_that_was_copied_forward_counts_once(read: Read) -> None:
    found = words(read("Fever since Monday. Cough.", "FEVER  since monday. Now dyspnea. Now dyspnea."))
    assert found == [["fever", "since", "monday", "cough"], ["now", "dyspnea", "now", "dyspnea"]]


def test_a_sentence_is_no_copy_if_it_stands_in_another_section(read: Read) -> None:
    assert words(read("Family history: asthma", "asthma")) == [["family:asthma"], ["asthma"]]


def test_a_record_without_words_has_no_payload() -> None:
    empty = {"time": pa.array([], pa.timestamp("us")), "note_type": pa.array([], pa.string())}
    record = Records("P1", datetime(2024, 1, 1), pa.table({**empty, "text": pa.array([], pa.string())}))
    problems: list[Problem] = []
    done: list[int] = []
    assert MODEL.read([record, record], problems, done.append) == [None, None]
    assert problems == []
    assert sum(done) == 2


def test_fingerprints_are_equal_for_copies_alone(read: Read) -> None:
    payload = read("Fever since Monday.", "fever  since MONDAY", "Fever since Tuesday.")
    assert payload is not None
    first, second, third = MODEL.fingerprints(payload)
    assert first == second != third


def test_the_view_has_the_newest_note_last_with_titles(read: Read) -> None:
    payload = read("Fever.", "Cough.")
    assert payload is not None
    assert view(payload, []).titles == ["progress, 2024-03-10 11:00", "progress, 2024-03-10 12:00"]


def test_a_words_share_is_spread_evenly_over_where_it_stands_and_copies_have_none(read: Read) -> None:
    payload = read("Fever, no cough.", "Fever, no cough. Still fever.")
    assert payload is not None
    shares = [FeatureShare("fever", 2.0, 0.6), FeatureShare("not cough", 1.0, -0.2), FeatureShare("(else)", None, 9.0)]
    spans = [[(span.text, span.share, span.negated) for span in text] for text in view(payload, shares).texts]
    assert spans[0] == [
        ("Fever", 0.3, False),
        (", ", 0.0, False),
        ("no", 0.0, False),
        (" ", 0.0, False),
        ("cough", -0.2, True),
        (".", 0.0, False),
    ]
    assert spans[1] == [
        ("Fever, no cough. ", 0.0, False),
        ("Still", 0.0, False),
        (" ", 0.0, False),
        ("fever", 0.3, False),
        (".", 0.0, False),
    ]


PARTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["No fever. ", "발열 없음", "\n", "FAMILY HISTORY:", "(-)", ". ", "n't ", "ﷺ", "½", "\r\n"]),
)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.lists(PARTS, max_size=12).map("".join), min_size=1, max_size=3))
def test_spans_concatenate_to_what_was_written(read: Read, texts: list[str]) -> None:
    payload = read(*texts)
    if payload is None:
        return
    shares = [FeatureShare(term, 1.0, 1.0) for term in payload.terms()]
    found = view(payload, shares)
    assert ["".join(span.text for span in text) for text in found.texts] == texts


def test_what_python_prints_of_a_payload_holds_no_text(read: Read) -> None:
    assert "secret" not in repr(read("A secret."))


def test_examples_are_in_both_languages_and_seeded() -> None:
    english, korean = (" ".join(note.text for note in MODEL.example(seed).notes) for seed in (0, 1))
    assert "IMPRESSION" in english
    assert "가족력" in korean
    assert words(MODEL.example(4)) == words(MODEL.example(4))


def test_an_unknown_setting_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown setting notes\.colour; valid are notes\.encoder .* notes\.model"):
        MODALITY(ModalityOptions({"colour": "red"}))
    with pytest.raises(UsageError, match=r"notes\.encoder is 'bert', expected tfidf, transformer or auto"):
        MODALITY(ModalityOptions({"encoder": "bert"}))
    with pytest.raises(UsageError, match=r"set notes\.encoder=auto"):
        MODALITY(ModalityOptions({"encoder": "tfidf", "model": "folder"}))


def test_the_identity_names_the_rules() -> None:
    assert set(MODEL.identity()) == {"encoder", "rules", "cues"}


def test_importing_notes_loads_no_heavy_library() -> None:
    code = "import sys, medfusion.modalities.notes as n; print({'torch', 'sklearn', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.shared
def test_real_notes_are_read_whole(shared: Path) -> None:
    cohort = CohortFolder.open(shared / "cohorts" / "covid-cxr")
    table = MODEL.index(cohort)
    assert table is not None
    assert cohort.problems == []
    assert len(table) == len(pd.read_csv(shared / "cohorts" / "covid-cxr" / "notes.csv"))
    as_of = datetime(2100, 1, 1)
    records = [Records(str(row), as_of, table.slice(row, 1)) for row in range(len(table))]
    payloads = MODEL.read(records, [], lambda done: None)
    texts = table["text"].to_pylist()
    for payload, text in zip(payloads, texts, strict=True):
        assert payload is not None
        assert "".join(span.text for span in view(payload, []).texts[0]) == text
