"""Volumes in a cohort: which is taken, what the network sees of it, and how its shares open up."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from imaging_files import make_film, read_all, records_of, speckles
from pydicom.dataset import FileDataset
from slice_files import group, make_enhanced, make_slice

from medfusion.core.errors import PayloadRejected, Problem, UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Attribution
from medfusion.core.views import ImageView
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging.filters import filter_maps
from medfusion.modalities.imaging.geometry import letterbox
from medfusion.modalities.imaging.payload import Films, Scan
from medfusion.modalities.imaging.scans import evenly

Folder = Callable[..., CohortFolder]
SHAPE = (48, 64)


def hounsfield(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def series(count: int, spacing_mm: float = 3.0, series_uid: str = "1.2.3.1", **header: object) -> list[FileDataset]:
    """Make a CT series whose slices are numbers drawn with their place as the seed."""
    return [
        make_slice(
            (0, 0, spacing_mm * place),
            f"{series_uid}.{place}",
            hounsfield(place),
            SeriesInstanceUID=series_uid,
            **{"WindowCenter": 40, "WindowWidth": 400, **header},
        )
        for place in range(count)
    ]


def named(slices: list[FileDataset], prefix: str = "") -> dict[str, FileDataset]:
    """Name files so that their order is not that of the slices."""
    return {f"{prefix}{(7 * number) % 31:02}.dcm": each for number, each in enumerate(slices)}


def modality(**settings: str) -> ImagingModality:
    return ImagingModality(ModalityOptions({"backbone": "filters", "size": "64", "slices": "4", **settings}))


def scan_of(payload: Films | None) -> Scan:
    assert payload is not None
    (film,) = payload.films
    assert isinstance(film.source, Scan)
    return film.source


@pytest.mark.parametrize(("slices", "numbers"), [("4", (3, 8, 13, 18)), ("24", tuple(range(1, 21)))])
def test_a_network_for_pictures_sees_slices_evenly_through_the_window_of_the_file(
    folder: Folder, slices: str, numbers: tuple[int, ...]
) -> None:
    (payload,), problems = read_all(modality(slices=slices), folder(named(series(20))))
    assert problems == []
    assert (scan_of(payload).numbers, scan_of(payload).total) == (numbers, 20)
    # PS3.3 C.11.2.1.2.1 for a window of 400 around 40, by hand.
    maps = []
    for number in numbers:
        values = hounsfield(number - 1).astype(float)
        grey = np.clip(((values - 39.5) / 399 + 0.5), 0, 1).astype(np.float32)
        maps.append(filter_maps(letterbox(grey, 64)))
    expected = np.mean(maps, axis=(0, 2, 3), dtype=np.float64)
    assert payload is not None
    np.testing.assert_allclose(payload.embedding(), expected, rtol=1e-4, atol=1e-6)


def test_what_is_odd_about_a_volume_is_told_once_however_many_samples_ask(folder: Folder) -> None:
    slices = series(9)
    imaging, opened = modality(), folder(named(slices[:4] + slices[5:]))
    (record,) = records_of(imaging.index(opened))
    problems: list[Problem] = []
    first, second = imaging.read([record, record], problems, lambda done: None)
    assert [problem.code for problem in problems] == ["missing-slices"]
    assert first == second


@pytest.mark.parametrize(("total", "wanted", "expected"), [(9, 3, [1, 4, 7]), (2, 3, [0, 1]), (5, 5, [0, 1, 2, 3, 4])])
def test_slices_are_taken_from_the_middles_of_equal_parts(total: int, wanted: int, expected: list[int]) -> None:
    assert evenly(total, wanted) == expected


def test_shares_of_slices_and_regions_sum_to_the_share(folder: Folder) -> None:
    imaging = modality()
    (payload,), _ = read_all(imaging, folder(named(series(8))))
    assert payload is not None
    encoder = imaging.encoder()
    values = encoder.encode([payload]).values[0]
    rng = np.random.default_rng(0)
    slope, reference = rng.normal(0, 0.1, values.size), rng.normal(0.5, 1, values.size)
    attribution = Attribution(slope * (values - reference), 0.7, slope, reference)
    lines = {line.feature: line.share for line in encoder.explain(payload, attribution)}
    assert sum(lines.values()) == pytest.approx(attribution.total, abs=1e-6)
    scan = scan_of(payload)
    maps = encoder.maps(payload.films[0])
    assert maps.shape == (850, 4, 2, 2)
    said = slope @ (maps[:, 2, 1, 0] - reference) / (4 * 2 * 2)
    assert lines[f"slice {scan.numbers[2]} row 2 column 1"] == pytest.approx(said, abs=1e-5)
    (view,) = imaging.view(payload, encoder.explain(payload, attribution))
    assert isinstance(view, ImageView)
    assert view.title == "volume, 2020-01-31 09:00 (the only volume)"
    assert view.names == [f"slice {number} of 8" for number in range(1, 9)]
    seen = [number - 1 for number in scan.numbers]
    assert view.heat[seen].sum() + 0.7 == pytest.approx(attribution.total, abs=1e-6)
    assert np.isnan(np.delete(view.heat, seen, axis=0)).all()
    assert set(view.strongest(4)) == set(seen)


def test_the_order_of_files_changes_nothing(folder: Folder, tmp_path: Path) -> None:
    slices = series(6)
    (one,), _ = read_all(modality(), folder(named(slices, "a/")))
    for path in (tmp_path / "imaging").rglob("*.dcm"):
        path.unlink()
    (other,), _ = read_all(modality(), folder(named(slices[::-1], "b/")))
    assert one is not None
    assert other is not None
    assert one.films[0].digest == other.films[0].digest
    np.testing.assert_array_equal(one.embedding(), other.embedding())


def test_of_a_study_the_best_series_is_taken_and_the_reason_is_kept(folder: Folder) -> None:
    thick = series(4, spacing_mm=6.0, series_uid="1.2.3.5")
    thin = series(8, spacing_mm=3.0, series_uid="1.2.3.6")
    scout = make_slice(
        (0, 0, 0), "9", hounsfield(50), SeriesInstanceUID="1.2.3.4", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    imaging = modality()
    (payload,), _ = read_all(imaging, folder({"scout.dcm": scout, **named(thick, "k/"), **named(thin, "n/")}))
    assert scan_of(payload).total == 8
    assert scan_of(payload).reason == "thinnest slices"
    assert payload is not None
    (view,) = imaging.view(payload, [])
    assert "thinnest slices" in view.title


def test_nothing_of_a_series_is_seen_before_its_last_slice(folder: Folder) -> None:
    slices = series(4)
    for place, each in enumerate(slices):
        each.AcquisitionDateTime = f"2020010109{10 * place:02}00"
    table = modality().index(folder(named(slices)))
    assert records_of(table, datetime(2020, 1, 1, 9, 29)) == []
    (record,) = records_of(table, datetime(2020, 1, 1, 9, 30))
    assert record.table.num_rows == 4


def test_a_missing_slice_is_told_and_the_volume_is_read(folder: Folder) -> None:
    slices = series(9)
    (payload,), problems = read_all(modality(), folder(named(slices[:4] + slices[5:])))
    assert scan_of(payload).total == 8
    assert [(problem.code, problem.severity, problem.subject_id) for problem in problems] == [
        ("missing-slices", "warning", "P1")
    ]
    assert problems[0].file.startswith("imaging/")


def test_slices_at_one_place_that_differ_are_refused(folder: Folder) -> None:
    slices = series(5)
    double = make_slice((0, 0, 6.0), "77", hounsfield(99), SeriesInstanceUID="1.2.3.1")
    (payload,), problems = read_all(modality(slices="5"), folder({**named(slices), "double.dcm": double}))
    assert payload is None
    assert [(problem.code, problem.severity) for problem in problems] == [
        ("duplicate-slices", "warning"),
        ("conflicting-slices", "error"),
    ]


def test_a_film_and_a_volume_of_one_study(folder: Folder) -> None:
    files = {"film.dcm": make_film(speckles()), **named(series(4))}
    opened = folder(files)
    for use, volume in (("any", True), ("films", False), ("volumes", True)):
        (payload,), _ = read_all(modality(use=use), opened)
        assert payload is not None
        assert isinstance(payload.films[0].source, Scan) == volume


def test_an_enhanced_file_is_a_volume(folder: Folder) -> None:
    pixels = np.stack([np.random.default_rng(place).integers(0, 900, SHAPE).astype(np.uint16) for place in range(6)])
    frames = [group(PlanePositionSequence={"ImagePositionPatient": [0, 0, 4.0 * place]}) for place in range(6)]
    shared = group(
        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        PixelMeasuresSequence={"PixelSpacing": [1, 1], "SliceThickness": 4},
    )
    (payload,), problems = read_all(modality(slices="3"), folder({"mr.dcm": make_enhanced(frames, shared, pixels)}))
    assert problems == []
    scan = scan_of(payload)
    assert scan.total == 6
    assert [number - 1 for number in scan.numbers] == [frame for _, frame in scan.planes] == [1, 3, 5]


def test_slices_that_changed_since_are_refused(folder: Folder, tmp_path: Path) -> None:
    imaging = ImagingModality(ModalityOptions({"backbone": "filters", "size": "64", "slices": "4"}))
    (payload,), _ = read_all(imaging, folder(named(series(4))))
    assert payload is not None
    folder(named(series(4, WindowCenter=80)))
    with pytest.raises(PayloadRejected, match="changed-film"):
        ImagingModality(ModalityOptions({"backbone": "filters", "size": "64", "slices": "4"})).encoder().maps(
            payload.films[0]
        )
    (tmp_path / "imaging" / "00.dcm").unlink()
    with pytest.raises(PayloadRejected, match="unreadable-file"):
        imaging.view(payload, [])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the weights of an untrained network for volumes."""
    import torch
    from monai.networks.nets import resnet10
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = resnet10(spatial_dims=3, n_input_channels=1, num_classes=1, conv1_t_stride=2)
    path = tmp_path_factory.mktemp("weights") / "resnet10.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return path


def test_a_network_for_volumes_sees_all_slices_and_its_shares_sum(folder: Folder, weights: Path) -> None:
    imaging = modality(backbone="resnet10-3d", weights=str(weights))
    (payload,), problems = read_all(imaging, folder(named(series(12))))
    assert problems == []
    assert payload is not None
    assert scan_of(payload).numbers == tuple(range(1, 13))
    encoder = imaging.encoder()
    assert encoder.maps(payload.films[0]).shape == (512, 2, 2, 2)
    values = encoder.encode([payload]).values[0]
    slope = np.random.default_rng(1).normal(0, 0.1, 512)
    attribution = Attribution(slope * (values - 0.2), 0.1, slope, np.full(512, 0.2))
    lines = {line.feature: line.share for line in encoder.explain(payload, attribution)}
    assert sum(lines.values()) == pytest.approx(attribution.total, abs=1e-6)
    assert {name.partition(" row")[0] for name in lines} == {"slices 1 to 6", "slices 7 to 12", "(average film)"}
    (view,) = imaging.view(payload, encoder.explain(payload, attribution))
    assert isinstance(view, ImageView)
    first, last = (
        [share for name, share in lines.items() if name.startswith(part)] for part in ("slices 1", "slices 7")
    )
    for heat in view.heat[:6]:
        np.testing.assert_array_equal(heat.ravel(), first)
    for heat in view.heat[6:]:
        np.testing.assert_array_equal(heat.ravel(), last)


def test_a_network_for_volumes_does_not_see_films(folder: Folder, weights: Path) -> None:
    (payload,), _ = read_all(
        modality(backbone="resnet10-3d", weights=str(weights)), folder({"a.dcm": make_film(speckles())})
    )
    assert payload is None
    with pytest.raises(UsageError, match="sees volumes"):
        modality(backbone="resnet10-3d", weights=str(weights), use="films")


@pytest.mark.parametrize(("key", "value"), [("use", "slices"), ("slices", "0"), ("slices", "many")])
def test_settings_of_volumes_that_do_not_fit_are_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"imaging.{key} is '{value}'"):
        modality(**{key: value})


@pytest.mark.shared
def test_real_heads_become_payloads(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "cohort.toml").write_text("", encoding="utf-8")
    (tmp_path / "imaging").symlink_to(shared / "dicom" / "ct-series")
    (payload,), problems = read_all(modality(), CohortFolder.open(tmp_path))
    assert scan_of(payload).total == 28
    assert [problem.code for problem in problems] == ["not-dicom"]
