"""Backends: the same maps whatever runs the network, whichever pictures are beside one."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from imaging_files import make_film, read_all, speckles
from safetensors.torch import save_file

from medfusion.core.errors import MissingExtra, UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import Backends, ModalityOptions
from medfusion.core.types import Attribution
from medfusion.modalities.imaging import ImagingModality, backends
from medfusion.modalities.imaging.backbone import Backbone
from medfusion.modalities.imaging.backends import (
    REFERENCE,
    Backend,
    is_exact,
    matching,
    open_backend,
    run_padded,
    unavailable,
)
from medfusion.modalities.imaging.network import Features, load_features

Folder = Callable[..., CohortFolder]
SIZE = 64
HERE = [name for name in backends.NAMES if not unavailable(name)]
EXACT = [name for name in HERE if is_exact(name) and name != REFERENCE]
OTHERS = [name for name in HERE if not is_exact(name)]


def pictures(n: int = 5, *, axes: int = 2, size: int = SIZE) -> np.ndarray:
    """Return smooth pictures, as films are, (n, 1, size, size)."""
    coarse = np.random.default_rng(3).random((n, 1, *[8] * axes), dtype=np.float32)
    for axis in range(2, 2 + axes):
        coarse = coarse.repeat(size // 8, axis=axis)
    return coarse


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Features]:
    """Return networks with weights by chance: shallow, deep with shortcuts, and one for volumes."""
    from monai.networks import nets

    folder, made = tmp_path_factory.mktemp("weights"), {}
    for name, axes, channels in (("resnet18", 2, 3), ("resnet10-3d", 3, 1)):
        torch.manual_seed(1)
        build = getattr(nets, name.removesuffix("-3d"))
        network = build(spatial_dims=axes, n_input_channels=channels, conv1_t_stride=2, bias_downsample=False)
        save_file({key: value.clone() for key, value in network.state_dict().items()}, folder / f"{name}.safetensors")
        made[name] = load_features(name, folder / f"{name}.safetensors")
    return made


@pytest.fixture(scope="module")
def ready(networks: dict[str, Features]) -> Callable[[str], Backend]:
    """Return backends of the shallow network; each is prepared once."""
    return cache(lambda name: open_backend(name, networks["resnet18"], (SIZE, SIZE), pictures(8)))


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(("network", "shape"), [("resnet18", (SIZE, SIZE)), ("resnet10-3d", (32, 32, 32))])
def test_fp32_is_the_same_wherever_it_runs(
    networks: dict[str, Features], name: str, network: str, shape: tuple[int, ...]
) -> None:
    shown = pictures(2, axes=len(shape), size=shape[0])
    with torch.inference_mode():
        expected = networks[network].cpu()(torch.from_numpy(shown)).numpy()
    found = run_padded(open_backend(name, networks[network], shape, None), shown)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite_pytorch") is None, reason="needs the extra pretrained")
@pytest.mark.parametrize("name", EXACT)
def test_the_default_network_is_the_same_wherever_it_runs(name: str) -> None:
    backbone, shown = Backbone(filters=True), pictures(2)[:, 0]
    expected = backbone.means(shown)
    backbone.use(name)
    np.testing.assert_allclose(backbone.means(shown), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_allclose(backbone.maps(shown[0])[:1280].mean(axis=(1, 2)), backbone.means(shown)[0], rtol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_lower_precisions_keep_what_tells_pictures_apart(ready: Callable[[str], Backend], name: str) -> None:
    shown = pictures(8)
    expected, found = (run_padded(ready(each), shown).mean(axis=(2, 3)) for each in (REFERENCE, name))
    # How much may be lost is a matter of risks; that pictures stay where they were among others, of this.
    apart = [np.linalg.norm(each - expected, axis=1).argmin() for each in found]
    assert apart == list(range(8))


@pytest.mark.parametrize("name", HERE)
def test_a_map_does_not_depend_on_the_pictures_beside_it(ready: Callable[[str], Backend], name: str) -> None:
    shown, backend = pictures(6), ready(name)
    together = run_padded(backend, shown)
    for index in range(len(shown)):
        np.testing.assert_array_equal(run_padded(backend, shown[index : index + 1])[0], together[index])
    np.testing.assert_array_equal(run_padded(backend, shown[::-1])[::-1], together)


class Recorder:
    """A backend of batches of four that keeps what it was given."""

    batch = 4

    def __init__(self) -> None:
        self.given: list[np.ndarray] = []

    def run(self, pictures: np.ndarray) -> np.ndarray:
        self.given.append(pictures)
        return pictures.mean(axis=(2, 3), keepdims=True)


def test_every_batch_is_full_and_what_pads_it_is_not_returned() -> None:
    recorder, shown = Recorder(), pictures(6)
    maps = run_padded(recorder, shown)
    assert [each.shape for each in recorder.given] == [(4, 1, SIZE, SIZE)] * 2
    assert not recorder.given[1][2:].any()
    np.testing.assert_array_equal(maps[:, 0, 0, 0], shown.mean(axis=(1, 2, 3)))


def test_a_word_names_a_library_or_one_backend() -> None:
    assert matching("onnxruntime") == ("onnxruntime-fp32", "onnxruntime-int8")
    assert matching("openvino-int8") == ("openvino-int8",)
    assert matching("auto") == backends.NAMES
    with pytest.raises(UsageError, match="no backend 'tensorrt'; there are: auto, torch, openvino, onnxr"):
        matching("tensorrt")


@pytest.mark.parametrize(("name", "package", "extra"), [
    ("openvino-fp32", "openvino", "openvino"),
    ("openvino-int8", "nncf", "openvino"),
    ("onnxruntime-fp32", "onnxruntime", "onnx"),
])  # fmt: skip
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked, *rest: None if asked == package else find(asked))
    said = rf"{package} is not installed; run: pip install 'medfusion\[{extra}\]'"
    with pytest.raises(MissingExtra, match=said):
        Backbone("filters").use(name)
    assert package in unavailable(name)


@pytest.mark.parametrize("name", [name for name in HERE if name.endswith("int8")])
def test_int8_asks_for_pictures(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} needs pictures to calibrate with"):
        Backbone("filters").use(name)


def test_bf16_is_refused_where_the_processor_does_not_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_bf16_in_hardware", lambda: False)
    with pytest.raises(UsageError, match="torch-bf16 cannot be used: this processor does not compute in bf16"):
        Backbone("filters").use("torch-bf16")


@pytest.mark.skipif("openvino-fp32" not in HERE, reason="needs the extra openvino")
def test_openvino_reports_nothing_about_its_use() -> None:
    code = (
        "import sys, torch\n"
        "from medfusion.modalities.imaging.backends import open_backend\n"
        "from medfusion.modalities.imaging.network import Features\n"
        "layer = torch.nn.Conv2d(1, 1, 3)\n"
        "open_backend('openvino-fp32', Features(layer, layer, (1.0,), (0.0,)), (32, 32), None)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry') and sys.modules[name]])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.fixture
def small(tmp_path: Path, networks: dict[str, Features]) -> ImagingModality:
    """Return a modality with a small network and a cache."""
    weights = tmp_path / "resnet18.safetensors"
    state = {key.removeprefix("network."): value for key, value in networks["resnet18"].state_dict().items()}
    save_file({key: value.contiguous() for key, value in state.items()}, weights)
    settings = {"backbone": "resnet18", "weights": str(weights), "size": str(SIZE)}
    return ImagingModality(ModalityOptions(settings, tmp_path / "cache"))


@pytest.mark.skipif("onnxruntime-fp32" not in HERE, reason="needs the extra onnx")
def test_embeddings_of_one_backend_are_not_given_out_as_those_of_another(
    small: ImagingModality, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = folder({f"{n}.dcm": make_film(speckles(n), PatientID=f"P{n}") for n in range(3)})
    shown: list[int] = []
    means = Backbone.means
    monkeypatch.setattr(Backbone, "means", lambda self, planes: shown.append(len(planes)) or means(self, planes))
    identity, first = small.identity(), read_all(small, opened)[0]
    assert sum(shown) == 3
    small.use_backend("onnxruntime-fp32", None)
    assert small.identity() == identity
    second = read_all(small, opened)[0]
    assert sum(shown) == 6
    again = read_all(small, opened)[0]
    assert sum(shown) == 6
    for one, two, three in zip(first, second, again, strict=True):
        assert one is not None
        assert two is not None
        assert three is not None
        np.testing.assert_allclose(two.embedding(), one.embedding(), rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(three.embedding(), two.embedding())


@pytest.mark.parametrize("name", [REFERENCE, *OTHERS[-1:]])
def test_a_film_is_explained_by_the_backend_that_embedded_it(small: ImagingModality, folder: Folder, name: str) -> None:
    assert isinstance(small, Backends)
    check = {"pictures": (pictures(4)[:, 0] * 255).astype(np.uint8)}
    small.use_backend(name, check)
    ((payload,), problems) = read_all(small, folder({"a.dcm": make_film(speckles())}))
    assert payload is not None
    assert problems == []
    encoder = small.encoder()
    embedding = encoder.encode([payload]).values[0]
    slope = np.random.default_rng(0).normal(size=len(embedding)).astype(np.float32)
    lines = encoder.explain(payload, Attribution(slope * embedding, 0.5, slope, np.zeros(len(embedding))))
    expected = float((slope.astype(np.float64) * embedding).sum()) + 0.5
    assert sum(line.share for line in lines) == pytest.approx(expected, abs=1e-5)
