"""Made-up notes, for tests and demonstrations."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from medfusion.modalities.notes.payload import Note, NotesPayload, new_sentences
from medfusion.modalities.notes.sentences import sentences

_FIRST = datetime(2024, 3, 1, 9, 30)
_ENGLISH = (
    "CHIEF COMPLAINT: {complaint} for {days} days.\n"
    "PAST MEDICAL HISTORY: {past}.\nFAMILY HISTORY: father had diabetes.\n"
    "EXAM: {finding}. No {absent} or leg edema.\nIMPRESSION: {conclusion}."
)
_KOREAN = (
    "주호소: {days}일 전부터 {complaint}.\n과거력: {past}.\n가족력: 부친 당뇨.\n"
    "검사소견: {finding}. {absent} 및 하지 부종은 없음.\n결론: {conclusion}."
)
_WORDS = {
    "en": {
        "complaint": ("cough and fever", "shortness of breath", "chest pain"),
        "past": ("hypertension", "type 2 diabetes", "chronic kidney disease"),
        "finding": ("Crackles over the right lower lobe", "SpO2 91% on room air", "Bilateral patchy opacities"),
        "absent": ("wheezing", "pleural effusion", "pneumothorax"),
        "conclusion": ("Pneumonia, improving", "Heart failure cannot be excluded", "Pneumonia is likely"),
    },
    "ko": {
        "complaint": ("기침과 발열 호소", "호흡곤란 악화", "흉통 있음"),
        "past": ("고혈압", "제2형 당뇨", "만성 신장병"),
        "finding": ("우측 폐하엽에 침윤 관찰됨", "산소포화도 91%로 낮음", "양측 폐야에 경화 음영이 보임"),
        "absent": ("흉수", "기흉", "천명음"),
        "conclusion": ("폐렴 의심", "심부전을 배제할 수 없음", "폐렴 호전 중"),
    },
}
_NEWS = {
    "en": ("Oxygen requirement increased overnight.", "Afebrile since yesterday, denies chest pain."),
    "ko": ("밤사이 산소 요구량 증가함.", "어제부터 발열 없음, 식사 가능."),
}


def example_payload(seed: int) -> NotesPayload:
    """Return an admission note and a progress note that carries it forward.

    Parameters
    ----------
    seed : int
        Even seeds begin in English, odd ones in Korean; what is new may be in either language.

    Returns
    -------
    NotesPayload

    Examples
    --------
    >>> [note.kind for note in example_payload(0).notes]
    ['admission', 'progress']
    """
    rng = np.random.default_rng(seed)
    language, form = (("en", _ENGLISH), ("ko", _KOREAN))[seed % 2]
    chosen = {slot: str(rng.choice(options)) for slot, options in _WORDS[language].items()}
    admission = form.format(days=int(rng.integers(2, 9)), **chosen)
    news = str(rng.choice(_NEWS[str(rng.choice(["en", "ko"]))]))
    texts = (admission, f"{admission}\n\n{news}")
    times = (_FIRST, _FIRST + timedelta(hours=int(rng.integers(12, 36))))
    kept = new_sentences([sentences(text) for text in texts])
    notes = zip(("admission", "progress"), times, texts, kept, strict=True)
    return NotesPayload(tuple(Note(*each) for each in notes))
