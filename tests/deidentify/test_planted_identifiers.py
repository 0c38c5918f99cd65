"""Nothing that identifies a patient is left anywhere in the output, whatever its encoding."""

import json

import numpy as np
import pydicom
import pytest
from planting import KEY, NEW_ID, PLANTED

from medfusion.deidentify.pseudonyms import Pseudonyms

ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "euc_kr", "iso2022_kr")


def encodings_of(text):
    for encoding in ENCODINGS:
        try:
            yield text.lower().encode(encoding).lower()
        except UnicodeEncodeError:
            continue


def places_of(folder, text):
    """Return the files that hold a text in their bytes or their names."""
    patterns = set(encodings_of(text))
    for file in (path for path in folder.rglob("*") if path.is_file()):
        content = file.relative_to(folder).as_posix().encode() + b"\n" + without_grey_values(file)
        if any(pattern in content.lower() for pattern in patterns):
            yield file.name


def without_grey_values(file):
    """Return a file's bytes; grey values are left out, where two Korean letters turn up by chance."""
    content = file.read_bytes()
    if file.suffix == ".dcm":
        film = pydicom.dcmread(file)
        if not film.file_meta.TransferSyntaxUID.is_compressed:
            content = content.replace(film.PixelData, b"")
    return content


def test_there_are_forty_and_more():
    assert len(set(PLANTED)) >= 40


@pytest.mark.parametrize("text", PLANTED)
def test_a_planted_identifier_is_there_before(planted, text):
    assert list(places_of(planted.before, text)) != []


@pytest.mark.parametrize("text", PLANTED)
def test_a_planted_identifier_is_nowhere_after(planted, text):
    assert list(places_of(planted.after, text)) == []


def test_no_subject_and_no_uid_is_left(planted):
    before = {pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in planted.before.rglob("*.dcm")}
    subjects = [f"P{number:06d}" for number in range(2, 13)]
    assert [text for text in (*before, *subjects) if list(places_of(planted.after, text))] == []


def films_of(folder):
    return [pydicom.dcmread(file) for file in sorted(folder.rglob("*.dcm"))]


def test_pixels_are_the_same_bit_for_bit(planted):
    def pictures(folder):
        return sorted(film.pixel_array.tobytes() for film in films_of(folder))

    assert pictures(planted.after) == pictures(planted.before)


def test_what_models_and_volumes_need_stays(planted):
    film = next(film for film in films_of(planted.after) if film.get("PatientAge"))
    assert (film.Modality, film.ViewPosition, film.PatientAge) == ("DX", film.ViewPosition, "090Y")
    assert film.ViewPosition in {"PA", "AP"}
    assert film.PatientSex in {"F", "M"}
    assert np.all(np.asarray(film.PixelSpacing) > 0)


def test_a_header_says_what_was_done(planted):
    film = films_of(planted.after)[0]
    assert (film.PatientIdentityRemoved, film.LongitudinalTemporalInformationModified) == ("YES", "MODIFIED")
    codes = [item.CodeValue for item in film.DeidentificationMethodCodeSequence]
    # PS3.16 CID 7050: Basic Profile, Retain Modified Dates, Retain Patient Characteristics.
    assert codes == ["113100", "113107", "113108"]


def test_a_subject_has_one_pseudonym_everywhere(planted):
    pseudonym = Pseudonyms(KEY).subject(NEW_ID)
    folders = {file.parent.name for file in planted.after.rglob("*.dcm") if pydicom.dcmread(file).get("PatientAge")}
    assert folders == {pseudonym}
    for table in ("subjects.csv", "notes.csv", "ehr.csv", "labels/deterioration.csv"):
        assert pseudonym in (planted.after / table).read_text(encoding="utf-8")


def test_references_between_files_still_lead_somewhere(planted):
    films = [film for film in films_of(planted.after) if "SourceImageSequence" in film]
    referred = {film.SourceImageSequence[0].ReferencedSOPInstanceUID for film in films}
    assert referred <= {film.SOPInstanceUID for film in films}
    assert len({film.StudyInstanceUID for film in films}) == 1
    assert all(film.file_meta.MediaStorageSOPInstanceUID == film.SOPInstanceUID for film in films)


def test_clinical_numbers_in_notes_survive(planted):
    text = (planted.after / "notes.csv").read_text(encoding="utf-8")
    assert "BP 120/80, pain 3/10" in text
    assert "혈압 120/80, 체온 38.5도" in text


def test_the_report_holds_counts_and_nothing_else(planted):
    written = json.loads((planted.after / "deidentification.json").read_text(encoding="utf-8"))
    assert written == planted.report.counts()

    def leaves(value):
        return [leaf for part in value.values() for leaf in leaves(part)] if isinstance(value, dict) else [value]

    assert all(type(leaf) is int for leaf in leaves(written))
    assert written["other_files_not_copied"] == 1
    assert written["tables"]["subjects"]["columns_left_out"] == 7
    assert written["tables"]["notes"]["spans"]["RRN"] == 1
