"""What the notes are made of, in English and in Korean. No phrase tells the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrases:
    """The sentences of one language.

    Attributes
    ----------
    sections : tuple of 5 str
        Headings: history, past history, family history, examination, impression.
    update : str
        Heading of what a progress note adds to the text that it carries forward.
    complaints : tuple of str
        With ``{days}``.
    present, negated, relative : mapping from finding to sentences
        A driver found, a driver ruled out, and a driver in a relative, which is not the patient's.
    symptoms : mapping from symptom to (sentence if present, sentence if negated)
        They do not drive the risk.
    past, family, general, impressions, unchanged : tuple of str
    """

    sections: tuple[str, str, str, str, str]
    update: str
    complaints: tuple[str, ...]
    present: Mapping[str, tuple[str, ...]]
    negated: Mapping[str, tuple[str, ...]]
    relative: Mapping[str, tuple[str, ...]]
    symptoms: Mapping[str, tuple[str, str]]
    past: tuple[str, ...]
    family: tuple[str, ...]
    general: tuple[str, ...]
    impressions: tuple[str, ...]
    unchanged: tuple[str, ...]


ENGLISH = Phrases(
    sections=("HISTORY", "PAST HISTORY", "FAMILY HISTORY", "EXAM", "IMPRESSION"),
    update="UPDATE",
    complaints=(
        "Admitted with cough and shortness of breath for {days} days.",
        "Presents with {days} days of productive cough and malaise.",
        "Brought in by family after {days} days of poor oral intake and weakness.",
        "Referred by the general practitioner for a respiratory infection of {days} days.",
        "Came to the emergency department with breathlessness that began {days} days ago.",
        "Was well until {days} days ago, when chills and cough began.",
    ),
    present={
        "confusion": (
            "New confusion since this morning, not oriented to date.",
            "Acute confusion on arrival, answers slowly.",
            "Nursing staff noted confusion overnight.",
        ),
        "cyanosis": (
            "Cyanosis of the lips on room air.",
            "Peripheral cyanosis of the fingers.",
            "Central cyanosis was seen on arrival.",
        ),
        "mottling": (
            "Mottling of both knees.",
            "Skin mottling of the legs, capillary refill 4 seconds.",
            "There is mottling around the knees and the feet are cool.",
        ),
        "ambulating": (
            "Ambulating independently in the corridor.",
            "Ambulating to the bathroom unaided.",
            "Has been ambulating since yesterday and tolerates it well.",
        ),
    },
    negated={
        "confusion": (
            "No confusion.",
            "Alert and oriented, without confusion.",
            "The family denies any confusion at home.",
        ),
        "cyanosis": ("No cyanosis.", "Lips pink, no evidence of cyanosis.", "Extremities warm without cyanosis."),
        "mottling": ("No mottling.", "Skin warm and dry, without mottling.", "Negative for mottling."),
        "ambulating": ("Not ambulating yet.", "Bed rest, not ambulating.", "Has not been ambulating today."),
    },
    relative={
        "confusion": ("Mother had confusion with dementia.", "Father had confusion in old age."),
        "cyanosis": ("A brother had cyanosis from congenital heart disease.", "Niece born with cyanosis."),
    },
    symptoms={
        "fever": ("Fever at home.", "No fever."),
        "chest pain": ("Reports pleuritic chest pain.", "Denies chest pain."),
        "sputum": ("Yellow sputum.", "No sputum."),
        "nausea": ("Nausea after meals.", "Denies nausea or vomiting."),
        "diarrhoea": ("Loose stools twice a day, diarrhoea.", "No diarrhoea."),
        "headache": ("Complains of headache.", "Denies headache."),
        "leg swelling": ("Leg swelling on both sides.", "No leg swelling."),
    },
    past=(
        "Hypertension.",
        "Type 2 diabetes, on metformin.",
        "COPD, former smoker.",
        "Atrial fibrillation, on apixaban.",
        "Chronic kidney disease stage 3.",
        "Asthma since childhood.",
        "Appendectomy in youth.",
        "Hypothyroidism.",
    ),
    family=("Non-contributory.", "Father with hypertension.", "Mother with diabetes.", "Sister with breast cancer."),
    general=(
        "Lying in bed, cooperative.",
        "Tired but in good spirits.",
        "Looks moderately unwell.",
        "Sitting up, speaks in full sentences.",
        "Coarse breath sounds at the bases.",
        "Heart sounds regular, no murmur.",
    ),
    impressions=(
        "Community-acquired pneumonia, on ceftriaxone and azithromycin.",
        "Lower respiratory tract infection, cultures pending.",
        "Acute bronchitis versus early pneumonia.",
        "Infection of unclear source, broad cover started.",
        "Exacerbation of chronic lung disease, on nebulisers.",
    ),
    unchanged=(
        "Seen on the round, plan as before.",
        "Slept well, continues current treatment.",
        "Antibiotics continued, laboratory tests tomorrow.",
        "Eating half of the meals, fluids encouraged.",
    ),
)

KOREAN = Phrases(
    sections=("현병력", "과거력", "가족력", "소견", "평가"),
    update="경과",
    complaints=(
        "{days}일 전부터 시작된 기침과 호흡곤란으로 입원함.",
        "{days}일간 지속된 가래와 전신 쇠약감을 주소로 내원함.",
        "내원 {days}일 전부터 식사량이 줄고 기운이 없어 보호자와 함께 응급실에 옴.",
        "{days}일 전 오한과 기침이 시작되어 인근 의원에서 의뢰됨.",
        "평소 건강하게 지내던 중 {days}일 전부터 숨이 차서 내원함.",
    ),
    present={
        "confusion": (
            "금일 오전부터 의식 혼돈 있음.",
            "밤사이 혼돈 양상이 새로 관찰됨.",
            "내원 당시 혼돈 상태로 지남력 저하됨.",
        ),
        "cyanosis": ("입술에 청색증 있음.", "손끝에 말초 청색증 관찰됨.", "내원 당시 중심성 청색증이 확인됨."),
        "mottling": (
            "양측 무릎에 피부 얼룩 있음.",
            "하지에 피부 얼룩 관찰됨.",
            "무릎 주위 피부 얼룩이 확인됨.",
        ),
        "ambulating": ("병동 복도에서 독립 보행 가능함.", "어제부터 혼자 보행 중임.", "화장실까지 스스로 보행함."),
    },
    negated={
        "confusion": ("혼돈 없음.", "의식 명료하며 혼돈은 관찰되지 않음.", "보호자는 혼돈 증상을 부인함."),
        "cyanosis": ("청색증 없음.", "청색증은 보이지 않음.", "사지 따뜻하고 청색증은 관찰되지 않음."),
        "mottling": ("피부 얼룩 없음.", "피부 얼룩은 보이지 않음.", "피부 따뜻하고 피부 얼룩은 관찰되지 않음."),
        "ambulating": ("아직 보행하지 않음.", "침상 안정 중으로 보행은 하지 않음.", "금일 보행하지 못함."),
    },
    relative={
        "confusion": ("모친 치매로 혼돈 증상이 있었음.", "부친 노년기에 혼돈 있었음."),
        "cyanosis": ("형제 중 선천성 심장병으로 청색증 있었음.", "조카가 출생 시 청색증 있었음."),
    },
    symptoms={
        "fever": ("집에서 발열 있었음.", "발열 없음."),
        "chest pain": ("심호흡 시 흉통 있음.", "흉통은 호소하지 않음."),
        "sputum": ("누런 가래 있음.", "가래 없음."),
        "nausea": ("식후 오심 있음.", "오심이나 구토는 없음."),
        "diarrhoea": ("하루 두 차례 설사함.", "설사는 부인함."),
        "headache": ("두통 호소함.", "두통은 호소하지 않음."),
        "leg swelling": ("양측 하지 부종 있음.", "하지 부종 없음."),
    },
    past=(
        "고혈압으로 투약 중.",
        "제2형 당뇨병, metformin 복용 중.",
        "만성폐쇄성폐질환, 과거 흡연력 있음.",
        "심방세동으로 항응고제 복용 중.",
        "만성 신장병 3기.",
        "소아기부터 천식.",
        "충수절제술 받음.",
        "갑상선기능저하증.",
    ),
    family=("특이사항 없음.", "부친 고혈압.", "모친 당뇨병.", "여동생 유방암."),
    general=(
        "침상에 누워 있으며 협조적임.",
        "피곤해 보이나 대화 원활함.",
        "급성 병색을 보임.",
        "앉은 자세로 문장 단위 대화 가능함.",
        "양측 폐저부에서 거친 호흡음 들림.",
        "심음 규칙적이고 심잡음은 들리지 않음.",
    ),
    impressions=(
        "지역사회획득 폐렴으로 ceftriaxone, azithromycin 투여 중.",
        "하기도 감염, 배양 검사 결과 대기 중.",
        "급성 기관지염 또는 초기 폐렴.",
        "감염 병소 불명확하여 광범위 항생제 시작함.",
        "만성 폐질환의 급성 증상으로 흡입 치료 중.",
    ),
    unchanged=(
        "회진 시 특별한 호소 없어 기존 치료 유지함.",
        "밤사이 잘 주무셨고 현 치료 지속함.",
        "항생제 유지하며 내일 혈액검사 예정임.",
        "식사는 절반 정도 하며 수분 섭취 격려함.",
    ),
)

LANGUAGES: Mapping[str, Phrases] = {"en": ENGLISH, "ko": KOREAN}
