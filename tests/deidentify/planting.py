"""Plants identifiers in a synthetic cohort."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from PIL import Image
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

KEY = bytes(range(32))
OLD_ID, NEW_ID = "P000001", "KR-4711-88"
PLANTED = (
    *("KR-4711-88", "Gildong", "길동", "吉洞", "OLD-55512", "Ildong", "19530412", "12 Jongno Lane", "010-2345-6789"),
    *("ACC7788991", "Winterbottom", "Featherstone", "Quillfeather", "Saint Elsewhere Clinic", "99 Harbour Parade"),
    *("STATIONXQ7", "SN-8837421", "VIP chest", "portable in ward 7", "aunt Oktavia", "ST-99817", "RP-44123"),
    *("Nightingale", "Deepwater", "PRIVNESTED", "PRIVSECRET", "Shadowbrook", "AETSECRET", "METAPRIV", "PREAMBLENAME"),
    *("1.2.826.0.1.3680043.8.498.4711", "1.2.826.0.1.3680043.8.498.4712", "1.2.826.0.1.3680043.8.498.4713"),
    *("OVERLAYNOTE", "TRAILINGNAME", "COMMENTNAME", "gildong.hong@example.org", "MRN0099887", "530412-1234567"),
    *("Pemberton", "https://portal.example", "536-22-8741", "+82 2 555 1234", "김철수", "박영희", "테헤란로"),
    *("010-9999-8888", "Harbourside"),
)
ENGLISH = (
    "Seen by Dr. Pemberton with Featherstone. Gildong Hong (MRN0099887, acc ACC7788991), SSN 536-22-8741, BP 120/80, "
    "pain 3/10. Call +82 2 555 1234 or 010-2345-6789, see https://portal.example/p/1. Admitted {day:%Y-%m-%d}, "
    "last seen {day:%d %B %Y}, born 1953-04-12. Lives at 12 Jongno Lane. Transfer from Saint Elsewhere Clinic."
)
KOREAN = (
    "홍길동님 (주민번호 530412-1234567), 보호자: 박영희, 010-9999-8888. 김철수 교수 회진. "
    "서울특별시 강남구 테헤란로 152 거주. {day:%Y년 %m월 %d일} 입원. 혈압 120/80, 체온 38.5도."
)


def plant_in_tables(cohort: Path) -> None:
    for file in cohort.rglob("*.csv"):
        table = pd.read_csv(file, dtype=str, keep_default_na=False).replace({"subject_id": {OLD_ID: NEW_ID}})
        table.to_csv(file, index=False)
    subjects = pd.read_csv(cohort / "subjects.csv", dtype=str)
    mine = subjects["subject_id"] == NEW_ID
    values = {
        "patient_name": "Hong Gildong",
        "homePhone": "010-2345-6789",
        "email": "gildong.hong@example.org",
        "mrn": "MRN0099887",
        "주민등록번호": "530412-1234567",
        "address": "12 Jongno Lane",
        "town": "Harbourside",
    }
    for column, value in values.items():
        subjects[column] = np.where(mine, value, "")
    subjects["birth_date"] = np.where(mine, "1953-04-12", "1990-01-01")
    subjects.drop(columns="age_years").to_csv(cohort / "subjects.csv", index=False)
    notes = pd.read_csv(cohort / "notes.csv", dtype=str)
    day = pd.Timestamp("2023-02-03")
    new = [
        (NEW_ID, "2023-02-03T08:00:00", kind, text.format(day=day)) for kind, text in (("a", ENGLISH), ("b", KOREAN))
    ]
    pd.concat([notes, pd.DataFrame(new, columns=notes.columns)]).to_csv(cohort / "notes.csv", index=False)
    events = pd.read_csv(cohort / "ehr.csv", dtype=str)
    events["text_value"] = ""
    told = {"time": "2023-02-03T08:00:00", "code": "triage", "text_value": "told Featherstone, 010-9999-8888"}
    pd.concat([events, pd.DataFrame([{"subject_id": NEW_ID, **told}])]).to_csv(cohort / "ehr.csv", index=False)
    config = cohort / "cohort.toml"
    config.write_text(config.read_text().replace("Nobody's data.", "Asked for by Dr. Pemberton, 02-555-1234."))


def plant_in_header(path: Path) -> None:
    film = pydicom.dcmread(path)
    film.SpecificCharacterSet = ["", "ISO 2022 IR 149"]
    film.PatientID, film.PatientName = NEW_ID, "Hong^Gildong=洪^吉洞=홍^길동"
    film.OtherPatientIDs, film.OtherPatientNames, film.PatientBirthDate = "OLD-55512", "Hong^Ildong", "19530412"
    film.PatientAddress, film.PatientTelephoneNumbers = "12 Jongno Lane", "010-2345-6789"
    film.PatientAge, film.AccessionNumber, film.StudyID = "093Y", "ACC7788991", "ST-99817"
    film.ReferringPhysicianName, film.PerformingPhysicianName = "Winterbottom^Max", ["Featherstone^Ann", "김^철수"]
    film.OperatorsName, film.InstitutionName = "Quillfeather^Q", "Saint Elsewhere Clinic"
    film.InstitutionAddress, film.StationName = "99 Harbour Parade", "STATIONXQ7"
    film.DeviceSerialNumber, film.StudyDescription = "SN-8837421", "VIP chest"
    film.SeriesDescription, film.PatientComments = "portable in ward 7", "lives with aunt Oktavia"
    film.DetectorDescription = "Set up by Gildong"
    film.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.4711"
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.4712"
    plant_in_sequences(film)
    film.private_block(0x0009, "ACME PRIVSECRET", create=True).add_new(1, "LO", "PRIVSECRET-1")
    hidden = Dataset()
    hidden.PatientName = "Shadowbrook^S"
    film.private_block(0x0011, "ACME", create=True).add_new(2, "SQ", Sequence([hidden]))
    film.add_new(0x60004000, "LT", "OVERLAYNOTE")
    film.add_new(0xFFFCFFFC, "OB", b"TRAILINGNAME")
    film.file_meta.SourceApplicationEntityTitle = "AETSECRET"
    film.file_meta.PrivateInformationCreatorUID, film.file_meta.PrivateInformation = "1.2.3", b"METAPRIV"
    film.preamble = b"PREAMBLENAME".ljust(128, b"\0")
    film.save_as(path, enforce_file_format=True)


def plant_in_sequences(film: Dataset) -> None:
    request, source = Dataset(), Dataset()
    request.RequestedProcedureID = "RP-44123"
    film.RequestAttributesSequence = Sequence([request])
    source.ReferencedSOPClassUID = film.SOPClassUID
    source.ReferencedSOPInstanceUID = "1.2.826.0.1.3680043.8.498.4713"
    film.SourceImageSequence = Sequence([source])
    view = film.ViewCodeSequence[0]
    view.TextValue = "asked for by Nightingale"
    deep = Dataset()
    deep.CodeValue, deep.CodingSchemeDesignator, deep.CodeMeaning = "1", "99X", "as Gildong stood"
    deep.PatientName = "Deepwater^Zelda"
    deep.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "PRIVNESTED")
    view.ViewModifierCodeSequence = Sequence([deep])


def plant_in_jpeg(source: Path, path: Path) -> None:
    """Write a second film whose compressed picture carries a comment."""
    film, stream = pydicom.dcmread(source), BytesIO()
    grey = np.random.default_rng(0).integers(0, 255, (64, 48), dtype=np.uint8)
    Image.fromarray(grey).save(stream, "JPEG", comment=b"COMMENTNAME", quality=90)
    film.Rows, film.Columns, film.BitsAllocated, film.BitsStored, film.HighBit = 64, 48, 8, 8, 7
    film.PhotometricInterpretation, film.PixelRepresentation, film.SamplesPerPixel = "MONOCHROME2", 0, 1
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.4713"
    film.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    with disable_value_validation():
        film.PixelData = encapsulate([stream.getvalue()])
        film["PixelData"].VR, film["PixelData"].is_undefined_length = "OB", True
        film.save_as(path, enforce_file_format=True)
