from io import BytesIO

import pytest
from imaging_files import as_bytes, make_film, read_all, speckles
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import JPEG2000Lossless, RLELossless
from slice_files import make_slice

from medfusion.modalities.imaging.pixels import load

MAKE = {"Modality": "CR", "Manufacturer": "Acme", "ManufacturerModelName": "X 1", "ViewPosition": "AP"}


def told(modality, cohort):
    (payload,), problems = read_all(modality, cohort)
    assert [problem for problem in problems if problem.severity == "error"] == []
    return dict(modality.acquisition(payload))


def png(shape, mode):
    stream = BytesIO()
    Image.fromarray(speckles(0, shape, 256)).convert(mode).save(stream, "png")
    return stream.getvalue()


def test_a_film_tells_how_it_was_taken_and_stored(folder, filters):
    film = make_film(speckles(shape=(40, 50)), BitsStored=12, **MAKE)
    film.compress(RLELossless)
    assert told(filters, folder({"a.dcm": film})) == {
        "images": 1,
        "rows": 40,
        "columns": 50,
        "aspect": 1.25,
        "view": "AP",
        "modality": "CR",
        "manufacturer": "Acme",
        "model": "X 1",
        "photometric": "MONOCHROME2",
        "bits": 12,
        "format": "RLE Lossless",
    }


def test_what_a_header_does_not_say_is_left_out(folder, filters):
    here = told(filters, folder({"a.dcm": make_film(speckles())}))
    assert here.keys().isdisjoint({"view", "modality", "manufacturer", "model", "slices"})


def test_a_view_may_be_given_as_a_code_alone(folder, filters):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "272479007", "SCT", "postero-anterior"
    film = make_film(speckles(), ViewCodeSequence=Items([code]))
    assert told(filters, folder({"a.dcm": film}))["view"] == "postero-anterior"


def test_several_films_tell_every_word_and_the_mean_of_numbers(folder, filters):
    first = make_film(speckles(1, (40, 50)), **MAKE)
    second = make_film(speckles(2, (60, 50)), ViewPosition="LL")
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    here = told(filters, folder({"a.dcm": first, "b.dcm": second}))
    assert (here["images"], here["rows"], here["view"], here["manufacturer"]) == (2, 50, "AP, LL", "Acme")
    assert here["aspect"] == pytest.approx((50 / 40 + 50 / 60) / 2, abs=0.01)


def test_a_volume_tells_what_its_slices_do_and_how_many_there_are(folder, filters):
    slices = {
        f"{place}.dcm": make_slice((0, 0, 3 * place), place, speckles(place, (16, 20)), Manufacturer="Acme")
        for place in range(5)
    }
    here = told(filters, folder(slices))
    assert (here["slices"], here["modality"], here["manufacturer"], here["rows"]) == (5, "CT", "Acme", 16)


@pytest.mark.parametrize(("mode", "photometric", "bits"), [("L", "L", 8), ("RGB", "RGB", 8), ("I;16", "I;16", 16)])
def test_a_picture_tells_its_format(folder, filters, mode, photometric, bits):
    table = "subject_id,path,time\nP1,imaging/a.png,2020-01-31T09:00:00\n"
    cohort = folder({"a.png": png((40, 50), "I;16" if bits == 16 else mode)}, table)
    here = told(filters, cohort)
    assert (here["format"], here["photometric"], here["bits"], here["rows"]) == ("PNG", photometric, bits, 40)


def test_how_it_was_made_is_no_part_of_what_it_looks_like():
    plain, named = (load(as_bytes(make_film(speckles(), **header))) for header in ({}, MAKE))
    assert plain.facts != named.facts
    assert (plain.digest, plain.content) == (named.digest, named.content)


def test_a_damaged_maker_costs_no_film():
    film = make_film(speckles(), **MAKE)
    data = as_bytes(film)
    # The maker as binary doubles, in a length that is none of theirs.
    damaged = data.replace(b"\x08\x00\x70\x00LO", b"\x08\x00\x70\x00FD")
    damaged = damaged.replace(b"Acme", b"Acm\0")
    assert damaged != data
    facts = load(damaged).facts
    assert facts["view"] == "AP"
    assert "manufacturer" not in facts


def test_the_syntax_has_its_name():
    film = make_film(speckles(top=256), BitsStored=8)
    film.compress(JPEG2000Lossless)
    facts = load(as_bytes(film)).facts
    assert (facts["format"], facts["bits"]) == ("JPEG 2000 Image Compression (Lossless Only)", 8)
