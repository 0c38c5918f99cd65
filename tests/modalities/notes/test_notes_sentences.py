"""Words, particles, sections and sentences."""

import unicodedata

import pytest

from medfusion.modalities.notes.sentences import sentences
from medfusion.modalities.notes.words import plain, scan, stem

REPORT = """INDICATION: Rule out pneumonia.
PAST MEDICAL HISTORY:
1. diabetes
2. hypertension

FAMILY HISTORY: mother had asthma.
FINDINGS:
No effusion.
IMPRESSION: Pneumonia."""


def terms(text: str) -> list[list[str]]:
    return [list(sentence.terms) for sentence in sentences(text)]


def flat(text: str) -> list[str]:
    return [term for sentence in terms(text) for term in sentence]


@pytest.mark.parametrize(
    ("eojeol", "noun"),
    [
        ("발열은", "발열"),
        ("기침이", "기침"),
        ("흉수를", "흉수"),
        ("환자가", "환자"),
        ("폐렴과", "폐렴"),
        ("설사와", "설사"),
        ("폐하엽에", "폐하엽"),
        ("병원에서", "병원"),
        ("환자의", "환자"),
        ("발열도", "발열"),
        ("폐렴으로", "폐렴"),
        ("수술로", "수술"),
        ("두통이나", "두통"),
        # the particle does not fit after a vowel or consonant, or too little would remain
        ("고름가", "고름가"),
        ("열은", "열은"),
        ("중으로", "중으로"),
        # words that end like a particle
        ("검사결과", "검사결과"),
        ("중등도", "중등도"),
        ("산소포화도", "산소포화도"),
        ("뼈전이", "뼈전이"),
        ("만성피로", "만성피로"),
        ("염증증가", "염증증가"),
        # no Korean
        ("fever", "fever"),
    ],
)
def test_particles_are_taken_off_nouns_and_only_those(eojeol: str, noun: str) -> None:
    assert stem(eojeol) == noun


def test_words_of_two_scripts_are_parted() -> None:
    assert scan("CT상 COVID-19 5mg", 0, 16)[0] == ["ct", "상", "covid", "19", "5", "mg"]


def test_decomposed_korean_reads_like_composed() -> None:
    text = "발열은 없고 기침은 있음."
    assert flat(unicodedata.normalize("NFD", text)) == flat(text)


def test_full_width_letters_and_curly_apostrophes_read_like_plain_ones() -> None:
    assert plain("\uff23\uff34") == "ct"
    assert flat("The patient\u2019s fever") == flat("the patient's fever") == ["the", "patient", "fever"]


def test_words_say_in_which_section_they_stand() -> None:
    assert terms(REPORT) == [
        ["reason:rule", "reason:out", "reason:pneumonia"],
        ["past:1"],
        ["past:diabetes"],
        ["past:2"],
        ["past:hypertension"],
        ["family:mother", "family:had", "family:asthma"],
        ["no", "¬effusion"],
        ["pneumonia"],
    ]


def test_korean_headings_work_on_their_own_line_in_brackets_and_within_a_line() -> None:
    assert flat("과거력\n당뇨\n현병력\n기침") == ["past:당뇨", "기침"]
    assert flat("[가족력] 고혈압\n[주호소] 발열") == ["family:고혈압", "발열"]
    assert flat("과거력: 당뇨 없음 가족력: 천식 소견: 폐렴") == ["past:¬당뇨", "past:없음", "family:천식", "폐렴"]


def test_a_section_ends_at_a_blank_line_after_text_and_at_a_line_that_opens_with_another_heading() -> None:
    assert flat("Family history: asthma\n\nCough today.") == ["family:asthma", "cough", "today"]
    assert flat("PMH:\n\ndiabetes\nOxygen therapy: 2 L") == ["past:diabetes", "oxygen", "therapy", "2", "l"]


def test_a_heading_word_within_a_sentence_is_no_heading() -> None:
    assert flat("The past history is unknown") == ["the", "past", "history", "is", "unknown"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("No fever. Cough.", 2),
        ("Temp 38.5 today.", 1),
        ("Dr. Kim saw the patient vs. yesterday.", 1),
        ("발열 없음. 기침 있음.", 2),
        ("Left lower field.Multiple areas", 2),
        ("no fever\ncough", 2),
        ("the patient was admitted with a cough that had lasted for three\nweeks and had no fever", 1),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, count: int) -> None:
    assert len(sentences(text)) == count


def test_a_negation_does_not_reach_into_the_next_sentence() -> None:
    assert flat("No fever. Cough.") == ["no", "¬fever", "cough"]


def test_words_stand_where_the_sentence_says() -> None:
    for sentence in sentences(REPORT):
        for term, (start, end) in zip(sentence.terms, sentence.places, strict=True):
            assert REPORT[start:end].lower() == term.rpartition(":")[2].lstrip("¬")


def test_copies_have_equal_keys_whatever_their_case_spacing_and_end() -> None:
    first, second = sentences("Fever  since Monday."), sentences("fever since\tmonday")
    assert first[0].key == second[0].key
    assert sentences("PMH: diabetes")[0].key != sentences("diabetes")[0].key
