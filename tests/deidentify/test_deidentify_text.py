"""Notes: what identifies goes, what a doctor needs stays."""

import pytest

from medfusion.deidentify.identity import Identity
from medfusion.deidentify.pseudonyms import Pseudonyms
from medfusion.deidentify.text import Scrubber, Span

PATIENT = Identity(
    names={"Hong^Gildong=洪^吉洞=홍^길동", "Brown^May"},
    numbers={"4711-A", "88123456"},
    texts={"12 Jongno Lane, Seoul"},
)
STAFF = Identity(names={"Featherstone^Ann", "White^Bo", "김^철수"}, texts={"Saint Elsewhere Clinic"})


class OneDay(Pseudonyms):
    """Moves every date by one day, so that expected dates can be read off a calendar."""

    def shift_days(self, subject_id):
        return 1


@pytest.fixture(scope="module")
def scrubber():
    return Scrubber(OneDay(bytes(32)), {"7": PATIENT}, STAFF)


CLINICAL = [
    "BP 120/80, pain 3/10, GCS 15/15, HR 88, SpO2 97% on 2 L/min, temp 38.5",
    "WBC 12.3, K+ 4.5, Na 140, platelets 250000, CRP 10-20, pH 7.35-7.45, INR 1.2",
    "metoprolol 25 mg 2x/day, NaCl 0.9 % 500-1000 ml, 1500-2000 kcal, 5/325 mg, insulin 4-6-8",
    "Ejection fraction 55-60%, L4-5 disc, T2-weighted, C1-C2, 3 x 4 x 5 cm, ST elevation 2 mm in V2-V4",
    "63-year-old man, 2 days of cough; he may do well and march on. Sat 98% on air.",
    "혈압 120/80, 맥박 88회, 체온 38.5도, 통증 3/10, 의식 명료. 환자는 이전 교수님 진료를 받음.",
    "3일간 기침과 가래, 2주 전부터 호흡곤란. 하루 3번 2정씩 복용. 65세 남자. 이상 소견 없음.",
    "white count 12, white matter lesion, on the elsewhere unknown clinic",
    "Apache II 20, NYHA 3, T4N2M0, ICD J18.9, 7.5 Fr tube, ratio 1:2:3, visual acuity 20/20",
    "Glucose 126 (70-100), 24 h urine 1800 ml, dose 0.5-1 mg q4-6h, 10^6 copies, 1,200,000 /uL",
]


@pytest.mark.parametrize("text", CLINICAL)
def test_clinical_numbers_and_words_survive(scrubber, text):
    assert scrubber.scrub(text, "7") == (text, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Gildong HONG seen", "Mr. [NAME] seen"),
        ("hong gildong's cough", "[NAME]'s cough"),
        ("Gil-Dong Hong-Gildong", "[NAME]"),
        ("HongGildong, gildonghong", "[NAME]"),
        ("홍길동님은 기침", "[NAME]님은 기침"),
        ("환자 홍 길동이 내원", "환자 [NAME]이 내원"),
        ("길동이는 아프다", "[NAME]이는 아프다"),
        ("홍씨 보호자", "[NAME]씨 보호자"),
        ("洪吉洞", "[NAME]"),
        ("chart 4711-a, 88123456", "chart [ID], [ID]"),
        ("lives at 12 Jongno Lane,  Seoul", "lives at [PLACE]"),
        ("Read by Featherstone at saint elsewhere clinic", "Read by [NAME] at [PLACE]"),
        ("김철수에게 의뢰", "[NAME]에게 의뢰"),
        ("Dr. Bo White called", "Dr. [NAME] called"),
        ("Dr. Pemberton-Smith and Prof. Ada B. Lovelace", "Dr. [NAME] and Prof. [NAME]"),
        ("John Smith, MD", "[NAME], MD"),
        ("Patient name: Jane Q. Doe", "Patient name: [NAME]"),
        ("Patient name: Jane Doe", "Patient name: [NAME]"),
        ("박영희 교수 회진, 보호자: 이순자", "[NAME] 교수 회진, 보호자: [NAME]"),
        ("a.b-c@mail.example.org, see https://x.example/p?id=3", "[EMAIL], see [URL]"),
        ("010-1234-5678, 01012345678, 02-555-1234, (02) 555-1234", "[PHONE], [PHONE], [PHONE], [PHONE]"),
        ("+82 10-1234-5678, +49 (0)30 1234567, (212) 555-0187", "[PHONE], [PHONE], [PHONE]"),
        ("212-555-0187, 212.555.0187; Tel: 555 0187 12", "[PHONE], [PHONE]; Tel: [PHONE]"),
        ("전화 1588-1234", "전화 [PHONE]"),
        ("900101-1234567, 9001011234568, 900101-1******", "[RRN], [RRN], [RRN]"),
        ("SSN 536-22-8741", "SSN [SSN]"),
        ("MRN: 0099887, 등록번호 12345678", "MRN: [ID], 등록번호 [ID]"),
        ("서울특별시 강남구 테헤란로 152 거주", "[ADDRESS] 거주"),
        ("at 221 Baker Street since birth", "at [ADDRESS] since birth"),
        ("A 93-year-old, 101세 여자, aged 95", "A 90-year-old, 90세 여자, aged 90"),
    ],
)
def test_identifiers_become_typed_placeholders(scrubber, text, expected):
    assert scrubber.scrub(text, "7")[0] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-03-01", "2020-02-29"),
        ("2020-03-01T10:15:00Z", "2020-02-29T10:15:00Z"),
        ("2020.1.2.", "2020.1.1."),
        ("2020. 1. 2", "2020. 1. 1"),
        ("2020/01/01", "2019/12/31"),
        ("20200301", "20200229"),
        ("2020년 3월 1일", "2020년 2월 29일"),
        ("2020년3월10일", "2020년3월09일"),
        ("1 March 2020, 1st of March 2020", "29 February 2020, 29 of February 2020"),
        ("March 1, 2020; Mar 1st, 2020", "February 29, 2020; Feb 29, 2020"),
        ("01-MAR-2020", "29-FEB-2020"),
        ("31/12/2020, 12/31/2020, 31.12.2020", "30/12/2020, 12/30/2020, 30.12.2020"),
        ("05/05/2020", "05/04/2020"),
        ("01/02/2020", "[DATE]"),
        ("20.01.31, 3/1/20, 20년 3월, 3월 1일, 2020-03", "[DATE], [DATE], [DATE], [DATE], [DATE]"),
        ("May 2020, on 5 May, on Jan 6, in 2007, 2015년", "[DATE], on [DATE], on [DATE], [DATE], [DATE]"),
        ("30 February 2020", "[DATE]"),
    ],
)
def test_dates_move_where_they_are_certain(scrubber, text, expected):
    assert scrubber.scrub(text, "7")[0] == expected


def test_nobodys_dates_become_placeholders(scrubber):
    assert scrubber.scrub("frozen on 2020-03-01")[0] == "frozen on [DATE]"


def test_kinds_are_counted(scrubber):
    counts = scrubber.scrub("홍길동, 010-1234-5678, 010-1234-5679, 2020-03-01", "7")[1]
    assert counts == {"NAME": 1, "PHONE": 2, "DATE": 1}


def test_korean_letters_in_pieces_are_found(scrubber):
    import unicodedata

    assert scrubber.scrub(unicodedata.normalize("NFD", "홍길동"), "7")[0] == "[NAME]"


def test_a_further_engine_is_asked_and_overlaps_are_joined():
    class Wide:
        def find(self, text):
            start = text.index("Anna")
            yield Span(start, start + len("Anna 2020-03-01"), "NAME")

    scrubber = Scrubber(OneDay(bytes(32)), {}, Identity(), [Wide()])
    assert scrubber.scrub("met Anna 2020-03-01.", "7")[0] == "met [NAME]."


def test_names_of_others_are_left_alone_where_they_are_words(scrubber):
    assert scrubber.scrub("white count; White called; bo", "7")[0] == "white count; [NAME] called; bo"


def test_another_patients_text_is_not_searched_for_this_ones_names(scrubber):
    assert scrubber.scrub("Brown sputum", "8")[0] == "Brown sputum"
