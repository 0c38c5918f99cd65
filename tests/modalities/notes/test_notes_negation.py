"""Which words are negated: expectations written by hand, with the triggers of NegEx's published lists."""

import pytest

from medfusion.modalities.notes.negation import negated
from medfusion.modalities.notes.words import scan, stem

ENGLISH = [
    # pre-negation triggers
    ("The patient denies chest pain.", "chest pain", "patient"),
    ("No evidence of pneumonia or pleural effusion.", "pneumonia pleural effusion", ""),
    ("Extremities without cyanosis, clubbing, or edema.", "cyanosis clubbing edema", "extremities"),
    ("No fever, chills, night sweats or weight loss.", "fever chills night sweats weight loss", ""),
    ("Negative for pulmonary embolism.", "pulmonary embolism", ""),
    ("CT was negative for intracranial hemorrhage.", "intracranial hemorrhage", "ct"),
    ("Lungs are free of infiltrates.", "infiltrates", "lungs"),
    ("In the absence of fever, antibiotics were stopped.", "fever", "antibiotics stopped"),
    ("Patient never had a seizure.", "seizure", "patient"),
    ("She doesn't have dyspnea.", "dyspnea", "she"),
    ("Cardiac enzymes ruled out myocardial infarction.", "myocardial infarction", "cardiac enzymes"),
    ("Chest film fails to reveal consolidation.", "consolidation", "chest film"),
    ("Neither wheezes nor crackles.", "wheezes crackles", ""),
    ("No nausea/vomiting.", "nausea vomiting", ""),
    ("Pt w/o fever.", "fever", "pt"),
    ("The heart is not enlarged.", "enlarged", "heart"),
    ("She did not present alarm symptoms.", "alarm symptoms", "she"),
    # post-negation triggers
    ("Pneumonia was ruled out.", "pneumonia", ""),
    ("Pulmonary embolism is unlikely.", "pulmonary embolism", ""),
    ("Pleural effusion not seen.", "pleural effusion", ""),
    ("Murmur absent.", "murmur", ""),
    ("Cough is present, fever is absent.", "fever", "cough present"),
    ("Fever, chills and cough were not observed.", "fever chills cough", ""),
    ("Influenza B was negative.", "influenza b", ""),
    ("Wheezing: none.", "wheezing", ""),
    ("Edema: no.", "edema", ""),
    ("Exam: no edema.", "edema", "exam"),
    ("Blood culture negative.", "blood culture", ""),
    # the same word before what it negates
    ("Absent breath sounds.", "breath sounds", ""),
    # pseudo-negation triggers
    ("No increase in the pleural effusion.", "", "increase pleural effusion"),
    ("Not only fever but also cough.", "", "fever cough"),
    ("Gram negative sepsis.", "", "sepsis"),
    ("Pneumonia cannot be excluded.", "", "pneumonia"),
    ("No significant change in the infiltrate.", "", "infiltrate"),
    ("She walks without difficulty.", "", "walks"),
    ("Rule out pneumonia.", "", "pneumonia"),
    ("Pneumonia has not been ruled out.", "", "pneumonia"),
    # the end of the scope
    ("No fever but productive cough.", "fever", "productive cough"),
    ("Denies headache; reports nausea.", "headache", "nausea"),
    ("No rash however pruritus persists.", "rash", "pruritus"),
    ("No edema except at the ankles.", "edema", "ankles"),
    ("No fever, cough persists.", "fever", "cough"),
    ("There is no effusion and the heart is enlarged.", "effusion", "heart enlarged"),
    ("No pneumothorax which would explain dyspnea.", "pneumothorax", "dyspnea"),
    ("No one two three four five six.", "one two three four five", "six"),
    ("Fever and cough for three days.", "", "fever cough three days"),
    ("Fever (-), cough (+), chest pain (-).", "fever chest pain", "cough"),
]

KOREAN = [
    # 없다
    ("발열 없음.", "발열", ""),
    ("발열, 오한, 기침 없음.", "발열 오한 기침", ""),
    ("발열이나 기침은 없음.", "발열 기침", ""),
    ("기침과 가래는 없다.", "기침 가래", ""),
    ("발열 및 오한 없었음.", "발열 오한", ""),
    ("흉통 없이 호흡곤란 호소함.", "흉통", "호흡곤란"),
    ("발열없음.", "발열", ""),
    ("기침 있음 발열 없음.", "발열", "기침"),
    ("흉수: 없음.", "흉수", ""),
    # clauses
    ("기침은 있으나 발열은 없음.", "발열", "기침"),
    ("기침은 있지만 가래는 없다.", "가래", "기침"),
    ("두통이 있고 구토는 없음.", "구토", "두통"),
    ("발열은 없고 기침은 있음.", "발열", "기침"),
    ("가래는 없으며 기침이 심함.", "가래", "기침"),
    ("전신 상태 양호하나 부종 없음.", "부종", "전신 상태"),
    ("기침 심함, 발열 없음.", "발열", "기침"),
    ("폐렴 의심, 흉수 없음.", "흉수", "폐렴"),
    # -지 않다, -지 못하다
    ("흉통을 호소하지 않음.", "흉통", ""),
    ("흉수는 보이지 않음.", "흉수", ""),
    ("우측 폐에 결절은 관찰되지 않았다.", "결절", "우측 폐에"),
    ("종괴는 확인되지 않으나 림프절 비대가 보임.", "종괴", "림프절 비대"),
    ("병변을 확인하지 못함.", "병변", ""),
    # 안, 아니다
    ("열 안 남.", "열 남", ""),
    ("입 안 통증 있음.", "", "입 안 통증"),
    ("폐렴은 아님.", "폐렴", ""),
    ("폐렴이 아니라 결핵이다.", "폐렴", "결핵"),
    ("발열뿐만 아니라 기침도 있음.", "", "발열 기침"),
    # 음성, 배제, 부인
    ("인플루엔자 검사 음성.", "인플루엔자 검사", ""),
    ("쉰 음성 변화 있음.", "", "변화"),
    ("그람 음성 균혈증.", "", "균혈증"),
    ("폐색전증은 배제됨.", "폐색전증", ""),
    ("폐렴을 배제할 수 없음.", "", "폐렴"),
    ("흉통 부인함.", "흉통", ""),
    ("62세 부인 내원.", "", "세 부인 내원"),
    # places, times, what changes
    ("흉부 CT에서 흉수 없음.", "흉수", "흉부 ct"),
    ("내원 당시 의식 저하 없음.", "의식 저하", "내원 당시"),
    ("폐렴 변화 없음.", "변화", "폐렴"),
    ("식사와 상관없이 복통 있음.", "", "식사 복통"),
    # both languages in one sentence
    ("No fever, 기침 있음.", "fever", "기침"),
    ("Fever 없음, cough 있음.", "fever", "cough"),
    ("Chest pain 호소하지 않음.", "chest pain", ""),
]


def _negated_words(sentence: str) -> list[str]:
    items, _ = scan(sentence, 0, len(sentence))
    return [_noun(items[place]) for place in sorted(negated(items))]


def _noun(word: str) -> str:
    return stem(word.removesuffix("없음") or word)


@pytest.mark.parametrize(("sentence", "absent", "present"), ENGLISH)
def test_english_negation_reaches_what_a_reader_would_say(sentence: str, absent: str, present: str) -> None:
    found = _negated_words(sentence)
    assert found == absent.split()
    assert not set(found) & set(present.split())


@pytest.mark.parametrize(("sentence", "absent", "present"), KOREAN)
def test_korean_negation_reaches_what_a_reader_would_say(sentence: str, absent: str, present: str) -> None:
    verbs = ("호소하지", "보이지", "관찰되지", "확인되지", "확인하지")
    found = [word for word in _negated_words(sentence) if word not in verbs]
    assert found == absent.split()
    assert not set(found) & set(present.split())


def test_there_are_enough_sentences_in_both_languages() -> None:
    assert len(ENGLISH) >= 25
    assert len(KOREAN) >= 25


def test_a_long_sentence_is_read_in_time_that_grows_with_its_length() -> None:
    items = ["no", "fever", ",", "발열", "없음", "and"] * 20_000
    assert len(negated(items)) == 40_000
