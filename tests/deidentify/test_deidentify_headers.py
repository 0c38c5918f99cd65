"""The Basic Profile, element by element and at every depth."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medfusion.deidentify.compressed import without_comments
from medfusion.deidentify.headers import HeaderCleaner, Person
from medfusion.deidentify.pseudonyms import Pseudonyms

PERSON = Person("pseudonym", 10)


def cleaned(scrub=lambda text: text, **header):
    dataset = Dataset()
    with disable_value_validation():
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        counts = HeaderCleaner(Pseudonyms(bytes(32))).clean(dataset, PERSON, scrub)
    return dataset, counts


@pytest.mark.parametrize(
    ("keyword", "old", "new"),
    [
        ("StudyDate", "20200301", "20200220"),
        ("StudyDate", "2020.03.01", "20200220"),
        ("StudyDate", "soon", ""),
        ("StudyDate", "00010101", ""),
        ("AcquisitionDateTime", "20200301101500.5+0900", "20200220101500.5+0900"),
        ("AcquisitionDateTime", "202003", "20200220"),
        ("RadiopharmaceuticalStartDateTime", "20200301101500", "20200220101500"),
        ("StudyTime", "101500.25", "101500.25"),
        ("StudyTime", "Kim", ""),
        ("PatientBirthDate", "19530412", ""),
        ("PatientAge", "093Y", "090Y"),
        ("PatientAge", "089Y", "089Y"),
        ("PatientAge", "011M", "011M"),
        ("PatientAge", "Kim", ""),
        ("PatientSex", "F", "F"),
        ("PatientWeight", "71.5", "71.5"),
        ("PixelSpacing", [0.5, 0.5], [0.5, 0.5]),
        ("ImagePositionPatient", [-1.5, 2, 3], [-1.5, 2, 3]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]),
        ("RescaleIntercept", -1024, -1024),
        ("WindowCenter", [40, 400], [40, 400]),
        ("Modality", "CT", "CT"),
        ("ViewPosition", "PA", "PA"),
        ("BodyPartExamined", "CHEST", "CHEST"),
        ("ManufacturerModelName", "D12", "D12"),
        ("SOPClassUID", CTImageStorage, CTImageStorage),
        ("TimezoneOffsetFromUTC", "+0900", "+0900"),
    ],
)
def test_a_value_becomes(keyword, old, new):
    assert cleaned(**{keyword: old})[0][keyword].value == new


@pytest.mark.parametrize(
    "keyword",
    [
        *("SeriesDescription", "StudyDescription", "PatientComments", "OtherPatientIDs", "PatientAddress"),
        *("InstitutionAddress", "PerformingPhysicianName", "PatientBirthTime", "RequestingService"),
        *("AdditionalPatientHistory", "ImageComments", "DerivationDescription", "Occupation", "PatientMotherBirthName"),
    ],
)
def test_an_identifying_element_is_removed(keyword):
    value = "101500" if keyword == "PatientBirthTime" else "Gildong"
    assert keyword not in cleaned(**{keyword: value})[0]


@pytest.mark.parametrize(
    "keyword", ["AccessionNumber", "StudyID", "ReferringPhysicianName", "OperatorsName", "StationName"]
)
def test_an_element_that_has_to_be_there_loses_its_value(keyword):
    assert str(cleaned(**{keyword: "Gildong"})[0].get(keyword, "")) in {"", "ANONYMIZED"}


def test_a_text_where_a_number_belongs_is_removed():
    stream = BytesIO()
    dataset = Dataset()
    dataset.PixelSpacing, dataset.PatientWeight, dataset.KVP = [0.5, 0.5], 70, 120
    dcmwrite(stream, dataset, implicit_vr=True, little_endian=True)
    content = stream.getvalue().replace(b"0.5\\0.5", b"Gildong").replace(b"70", b"Do")
    with disable_value_validation():
        read = dcmread(BytesIO(content), force=True)
        HeaderCleaner(Pseudonyms(bytes(32))).clean(read, PERSON, lambda text: text)
    assert "PixelSpacing" not in read
    assert "PatientWeight" not in read
    assert read.KVP == 120


def test_uids_agree_across_files_and_depths():
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.ReferencedSOPClassUID = "1.2.3", CTImageStorage
    first = cleaned(SOPInstanceUID="1.2.3")[0]
    second = cleaned(ReferencedImageSequence=Sequence([item]), FailedSOPInstanceUIDList=["1.2.3", "1.2.4"])[0]
    assert first.SOPInstanceUID.startswith("2.25.")
    assert first.SOPInstanceUID.is_valid
    assert second.ReferencedImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.ReferencedImageSequence[0].ReferencedSOPClassUID == CTImageStorage
    assert second.FailedSOPInstanceUIDList[0] == first.SOPInstanceUID
    assert second.FailedSOPInstanceUIDList[1] not in {"1.2.4", first.SOPInstanceUID}


def test_nothing_hides_in_a_sequence_that_stays():
    deep, frame = Dataset(), Dataset()
    deep.PatientName, deep.StudyDate, deep.TextValue = "Gildong", "20200301", "Gildong"
    deep.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "Gildong")
    frame.PlanePositionSequence = Sequence([deep])
    dataset, counts = cleaned(PerFrameFunctionalGroupsSequence=Sequence([frame]))
    found = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    assert (found.get("PatientName", ""), found.StudyDate) == ("", "20200220")
    assert "TextValue" not in found
    assert [element for element in found if element.tag.is_private] == []
    assert counts["private"] == 2


def test_curves_overlays_unknown_and_binary_elements_go():
    dataset = Dataset()
    dataset.add_new(0x50000022, "LO", "Gildong")
    dataset.add_new(0x60000022, "LO", "Gildong")
    dataset.add_new(0x00181FFF, "LO", "Gildong")
    dataset.add_new(0x00189004, "CS", "RESEARCH")
    dataset.add_new(0x00420012, "LO", "application/pdf")
    dataset.add_new(0x00420011, "OB", b"Gildong!")
    HeaderCleaner(Pseudonyms(bytes(32))).clean(dataset, PERSON, lambda text: text)
    assert b"Gildong" not in repr(dataset.to_json()).encode()
    assert dataset.ContentQualification == "RESEARCH"


def test_known_names_are_cleaned_out_of_short_texts_that_stay():
    dataset, counts = cleaned(
        scrub=lambda text: text.replace("Gildong", "[NAME]"),
        DetectorConfiguration="GILDONG",
        ProtocolName="Gildong",
        ManufacturerModelName="for Gildong",
        BodyPartExamined="Gildong",
    )
    assert dataset.ManufacturerModelName == "for [NAME]"
    # A code string cannot hold a placeholder.
    assert dataset.BodyPartExamined == ""
    assert counts["replaced"] >= 3


def jpeg(**options):
    stream = BytesIO()
    grey = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    Image.fromarray(grey).save(stream, "JPEG", **options)
    return stream.getvalue()


def test_a_jpeg_loses_its_comments_and_keeps_its_pixels():
    exif = Image.Exif()
    exif[0x010E] = "Gildong"
    with_comments, plain = jpeg(comment=b"Gildong", exif=exif), jpeg()
    assert b"Gildong" in with_comments
    assert without_comments(with_comments) == plain == without_comments(plain)


def test_a_jpeg_2000_codestream_loses_its_comments():
    stream = BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(stream, "JPEG2000", no_jp2=True, comment="Gildong")
    stripped = without_comments(stream.getvalue())
    assert b"Gildong" in stream.getvalue()
    assert b"Gildong" not in stripped
    assert np.asarray(Image.open(BytesIO(stripped))).shape == (32, 32)


@pytest.mark.parametrize(
    "frame", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xfe\xff", b"\xff\xd8\xff\xfe\x00\x00" * 9, b"RLE"]
)
def test_a_damaged_frame_is_no_trap(frame):
    assert len(without_comments(frame)) <= len(frame)


def test_the_transfer_syntax_is_a_standard_uid():
    assert Pseudonyms(bytes(32)).uid(ExplicitVRLittleEndian) == ExplicitVRLittleEndian


def test_the_pseudonym_of_a_uid_is_the_keyed_hash_that_is_documented():
    import hashlib
    import hmac

    key = bytes(range(32))
    digest = hmac.new(key, b"uid\x001.2.3", hashlib.sha256).digest()
    assert Pseudonyms(key).uid("1.2.3") == f"2.25.{int.from_bytes(digest[:16], 'big')}"
