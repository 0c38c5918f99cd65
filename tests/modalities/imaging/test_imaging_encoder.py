import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imaging_files import make_film, read_all, speckles

from medfusion.core.errors import MissingExtra, ModelFolderError, PayloadRejected, UsageError
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Attribution
from medfusion.core.views import ImageView
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging.encoder import ImagingEncoder
from medfusion.modalities.imaging.geometry import border, inner_box, letterbox
from medfusion.modalities.imaging.payload import Films


def head_of(embedding: np.ndarray, seed: int, scale: float = 0.1) -> Attribution:
    """Return what a linear head with random slopes says of an embedding."""
    rng = np.random.default_rng(seed)
    slope, reference = rng.normal(0, scale, embedding.size), rng.normal(0.5, 1, embedding.size)
    return Attribution(slope * (embedding - reference), float(rng.normal()), slope, reference)


def example(modality: ImagingModality, seed: int, films: int = 1) -> Films:
    parts = [modality.example(seed + number).films[0] for number in range(films)]
    return Films(tuple(parts))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 5), st.integers(1, 3), st.floats(1e-4, 30))
def test_the_parts_sum_to_the_share(seed: int, films: int, scale: float) -> None:
    modality = _filters()
    payload = example(modality, seed, films)
    encoder = modality.encoder()
    attribution = head_of(encoder.encode([payload]).values[0], seed, scale)
    lines = encoder.explain(payload, attribution)
    assert sum(line.share for line in lines) == pytest.approx(attribution.total, abs=1e-6)
    assert lines[-1].feature == "(average film)"
    assert lines[-1].share == attribution.constant


_MODALITIES: dict[str, ImagingModality] = {}


def _filters() -> ImagingModality:
    if not _MODALITIES:
        _MODALITIES["filters"] = ImagingModality(ModalityOptions({"backbone": "filters", "size": "128"}))
    return _MODALITIES["filters"]


def test_each_part_is_what_the_head_would_say_of_its_position(filters: ImagingModality) -> None:
    payload = example(filters, 3, films=2)
    encoder = filters.encoder()
    attribution = head_of(encoder.encode([payload]).values[0], 1)
    lines = {line.feature: line.share for line in encoder.explain(payload, attribution)}
    assert attribution.slope is not None
    assert attribution.reference is not None
    maps = encoder.maps(payload.films[1])
    said = attribution.slope @ (maps[:, 2, 1] - attribution.reference) / (2 * 16)
    assert lines["film 2 row 3 column 2"] == pytest.approx(said, abs=1e-5)


def test_the_black_border_is_one_line_of_its_own(filters: ImagingModality, folder: object) -> None:
    (payload,), _ = read_all(filters, folder({"wide.dcm": make_film(speckles(shape=(40, 160)))}))  # type: ignore[operator]
    encoder = filters.encoder()
    attribution = head_of(encoder.encode([payload]).values[0], 2)
    assert payload is not None
    lines = encoder.explain(payload, attribution)
    # 128 pixels wide, 32 high: only the middle of the 4 rows is the film; rows 2 and 3 each show half of it.
    names = [line.feature for line in lines]
    expected = [f"film 1 row {row} column {column}" for row in (2, 3) for column in (1, 2, 3, 4)]
    assert names == [*expected, "film 1 border (padding)", "(average film)"]
    (view,) = filters.view(payload, lines)
    assert isinstance(view, ImageView)
    assert view.pixels.shape == (1, 160, 160)
    assert view.pixels[0, :60].max() == view.pixels.min() == view.pixels[0, -60:].max()
    assert view.heat.shape == (1, 4, 4)
    assert view.heat.sum() + attribution.constant == pytest.approx(attribution.total, abs=1e-6)
    assert len(np.unique(view.heat[0, [0, 3]])) == 1


def test_a_view_shows_every_film_with_its_heat(filters: ImagingModality) -> None:
    payload = example(filters, 5, films=2)
    encoder = filters.encoder()
    lines = encoder.explain(payload, head_of(encoder.encode([payload]).values[0], 3))
    first, second = filters.view(payload, lines)
    assert isinstance(first, ImageView)
    assert isinstance(second, ImageView)
    by_name = {line.feature: line.share for line in lines}
    assert second.heat[0, 1, 2] == by_name["film 2 row 2 column 3"]
    assert first.title == "film 1, 2020-01-31 09:00"
    assert (first.names, first.unit) == (["film 1"], "")
    (unexplained, _) = filters.view(payload, [])
    assert isinstance(unexplained, ImageView)
    assert not unexplained.heat.any()


def test_absent_films_are_rows_without_numbers(filters: ImagingModality) -> None:
    payload = example(filters, 1, films=2)
    embedding = filters.encoder().encode([None, payload])
    assert isinstance(embedding.values, np.ndarray)
    assert np.isnan(embedding.values[0]).all()
    expected = np.mean([film.embedding for film in payload.films], axis=0)
    np.testing.assert_allclose(embedding.values[1], expected, rtol=1e-6)
    assert embedding.present.tolist() == [False, True]
    assert (embedding.values.dtype, len(embedding.feature_names)) == (np.float32, 850)
    assert filters.encoder().encode([None]).values.shape == (1, 850)


def test_a_head_without_slopes_cannot_be_explained(filters: ImagingModality) -> None:
    with pytest.raises(UsageError, match="linear head"):
        filters.encoder().explain(filters.example(0), Attribution(np.zeros(850), 0.0))


def test_shares_of_another_film_are_refused(filters: ImagingModality) -> None:
    encoder = filters.encoder()
    attribution = head_of(encoder.encode([filters.example(1)]).values[0], 1)
    with pytest.raises(PayloadRejected, match="changed-film"):
        encoder.explain(filters.example(2), attribution)


def test_a_feature_map_is_computed_once_for_all_who_ask() -> None:
    modality = ImagingModality(ModalityOptions({"backbone": "filters", "size": "128"}))
    payload = modality.example(4)
    first = modality.encoder().maps(payload.films[0])
    assert modality.encoder().maps(payload.films[0]) is first


def test_an_encoder_is_restored_only_for_embeddings_of_its_length(filters: ImagingModality) -> None:
    restored = filters.restore(filters.encoder().state())
    assert isinstance(restored, ImagingEncoder)
    assert restored.heads == ("linear",)
    with pytest.raises(ModelFolderError, match="1280"):
        filters.restore({"dimensions": 1280})


def test_examples_are_repeatable_and_differ_by_seed(filters: ImagingModality) -> None:
    assert filters.example(1) == filters.example(1)
    assert filters.example(1).films[0].digest != filters.example(2).films[0].digest


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"backbon": "x"}, "no setting backbon"),
        ({"backbone": "vgg"}, "imaging.backbone is 'vgg'; it can be efficientnet-lite0"),
        ({"backbone": "densenet121"}, "needs weights"),
        ({"weights": "/nowhere/w.pt"}, "no such file"),
        ({"size": "300"}, "multiple of 32"),
        ({"size": "32"}, "from 64 to 1024"),
        ({"size": "big"}, "multiple of 32"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings_: dict[str, str], said: str) -> None:
    with pytest.raises((UsageError, MissingExtra), match=said):
        ImagingModality(ModalityOptions(settings_))


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([64, 128, 320]))
def test_a_letterbox_keeps_proportions_and_touches_two_sides(rows: int, columns: int, size: int) -> None:
    top, left, height, width = inner_box((rows, columns), size)
    assert max(height, width) == size
    assert min(height, width) == max(1, round(min(rows, columns) * size / max(rows, columns)))
    assert abs(size - height - 2 * top) <= 1
    assert abs(size - width - 2 * left) <= 1
    square = letterbox(np.ones((rows, columns), dtype=np.float32), size)
    assert square.sum() == pytest.approx(height * width)
    # A cell is border where the film covers less than half of it, up to a pixel of rounding.
    cells = square.reshape(size // 32, 32, size // 32, 32).mean(axis=(1, 3))
    outside = border((rows, columns), size // 32)
    assert (cells[outside] <= 0.5 + 1.5 / 32).all()
    assert (cells[~outside] >= 0.5 - 1.5 / 32).all()
