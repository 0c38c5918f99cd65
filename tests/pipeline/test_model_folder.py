"""A model folder: read back as it was, refused if it was changed, and never able to run code."""

import hashlib
import json
import os
import pickle
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from medfusion.core.errors import ModelFolderError
from medfusion.core.state import load_state, save_state
from medfusion.pipeline import build_modalities, load_model, open_for_use


def load(folder):
    return load_model(folder, lambda settings: build_modalities(settings, None))


def sign(folder):
    """Write the digest that belongs to the files, as somebody who tampers with them would."""
    parts = [hashlib.sha256((folder / name).read_bytes()).digest() for name in ("state.json", "state.safetensors")]
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["model_id"] = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")


@pytest.fixture
def copied(trained, tmp_path):
    """Return a copy of the model folder, to be changed."""
    return shutil.copytree(trained.folder, tmp_path / "model")


@pytest.fixture
def changed(copied):
    """Change the state of the copy, and sign it."""

    def change(how):
        state = load_state(copied, "state")
        how(state)
        save_state(copied, "state", state)
        sign(copied)
        return copied

    return change


def test_a_model_folder_holds_json_safetensors_and_two_papers_and_nothing_else(trained):
    papers = [f"{paper}.{kind}" for paper in ("model_card", "tripod") for kind in ("html", "md")]
    states = [f"{state}.{kind}" for state in ("check", "fingerprint", "state") for kind in ("json", "safetensors")]
    assert sorted(path.name for path in trained.folder.iterdir()) == sorted(["card.json", *states, *papers])
    for name in ("card.json", "fingerprint.json", "state.json"):
        json.loads((trained.folder / name).read_text(encoding="utf-8"))


def test_a_model_that_is_read_back_predicts_the_same(trained, opened):
    samples = opened.cohort.samples[:12]
    predictions, payloads = opened.predict(samples, lambda stage, total: lambda done: None)
    before = trained.training.model.predict([sample.subject_id for sample in samples], payloads)
    np.testing.assert_array_equal(predictions.logit, before.logit)
    np.testing.assert_array_equal(predictions.interval, before.interval)
    assert opened.model.model_id == json.loads((trained.folder / "card.json").read_text())["model_id"]


def test_the_files_name_no_patient(trained, synthetic):
    text = "".join(
        path.read_text(encoding="utf-8") for path in trained.folder.iterdir() if path.suffix != ".safetensors"
    )
    assert not [who for who in synthetic.truth.table["subject_id"] if who in text]


def test_the_card_tells_data_versions_and_cross_validated_figures(trained):
    card = json.loads((trained.folder / "card.json").read_text(encoding="utf-8"))
    assert (card["task"], card["patients"], card["folds"]) == ("deterioration", 80, 5)
    assert set(card["cross_validated"]) == {"ehr", "imaging", "notes", "fused"}
    assert (
        card["cross_validated"]["fused"]["auroc"]["value"] == trained.training.results["fused"].estimates["auroc"].value
    )
    assert all(card["versions"].values())


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_changed_byte_is_refused(copied, name):
    path = copied / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFolderError, match="its files were changed after training; get the folder again"):
        load(copied)


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "card.json"])
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(ModelFolderError, match=f"{name} is missing"):
        load(copied)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelFolderError, match=r"no model folder \(card\.json is missing\)"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFolderError, match="cannot be read"):
        load(tmp_path / "file")


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"format": 1}', '{"format": "2"}', "not json", "\udcff", "[" * 100_000],
    ids=lambda text: text[:9],
)
def test_a_card_of_another_format_is_refused(copied, content):
    (copied / "card.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelFolderError, match=r"cannot be read|another version of medfusion; train it again"):
        load(copied)


class Exploit:
    """What a pickle may do when it is loaded: here, leave a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_the_exploit_works_where_a_pickle_is_loaded(tmp_path):
    pickle.loads(pickle.dumps(Exploit(tmp_path / "mark")))  # noqa: S301
    assert (tmp_path / "mark").is_dir()


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "card.json"])
def test_a_pickle_in_place_of_a_file_is_refused_and_not_run(copied, tmp_path, name):
    (copied / name).write_bytes(pickle.dumps(Exploit(tmp_path / "mark")))
    if name != "card.json":
        sign(copied)
    with pytest.raises(ModelFolderError, match="cannot be read"):
        load(copied)
    assert not (tmp_path / "mark").exists()


def first_member(state, modality):
    return state["modalities"][modality]["evidence"]["members"][0]


def head_of(member):
    return next(part["head"] for part in member["head"])


def test_a_pickle_in_place_of_trees_is_refused_and_not_run(changed, tmp_path):
    def change(state):
        content = np.frombuffer(pickle.dumps(Exploit(tmp_path / "mark")), dtype=np.uint8)
        part = first_member(state, "ehr")["head"][0]
        part["head"] = {"kind": "trees", "booster": content}

    with pytest.raises(ModelFolderError, match="trees of a head"):
        load(changed(change))
    assert not (tmp_path / "mark").exists()


def test_a_pickle_that_the_settings_point_to_is_refused_and_not_run(changed, copied, tmp_path, synthetic):
    evil = tmp_path / "weights.pt"
    evil.write_bytes(pickle.dumps(Exploit(tmp_path / "mark")))

    def change(state):
        imaging = state["modalities"]["imaging"]
        imaging["settings"] = {"backbone": "densenet121", "weights": str(evil)}
        known = build_modalities({"imaging": imaging["settings"]}, None)["imaging"]
        imaging["identity"] = dict(known.identity())
        for member in imaging["evidence"]["members"]:
            member["encoder"] = known.encoder().state()
            head = head_of(member)
            for name in ("slope", "reference", "flag_slope", "missing_rate"):
                head[name] = np.zeros(known.encoder().dimensions)

    folder = changed(change)
    with pytest.raises(ModelFolderError, match="cannot be read as plain tensors"):
        open_for_use(folder, synthetic.folder)
    assert not (tmp_path / "mark").exists()


def shorter(state):
    head = head_of(first_member(state, "notes"))
    head["slope"] = head["slope"][:-1]


def as_text(state):
    head_of(first_member(state, "notes"))["slope"] = "steep"


def not_a_number(state):
    head = head_of(first_member(state, "imaging"))
    head["slope"] = np.full_like(head["slope"], np.nan)


def other_dimensions(state):
    first_member(state, "imaging")["encoder"]["dimensions"] = 7


def unknown_head(state):
    head_of(first_member(state, "notes"))["kind"] = "pickle"


def no_members(state):
    state["modalities"]["notes"]["evidence"]["members"] = []


def fewer_members(state):
    state["modalities"]["notes"]["evidence"]["members"].pop()


def no_modalities(state):
    state["modalities"] = {}


def no_fusion(state):
    del state["fusion"]


def weights_of_another_length(state):
    state["fusion"]["weights"] = np.ones(1)


def negative_weight(state):
    state["fusion"]["weights"] = -np.ones(3)


def flat_covariance(state):
    state["fusion"]["covariance"] = np.zeros(3)


def base_in_words(state):
    state["fusion"]["base"] = "low"


def negative_slope(state):
    state["modalities"]["notes"]["evidence"]["platt"]["slope"] = -1.0


def slope_as_list(state):
    state["modalities"]["notes"]["evidence"]["platt"]["slope"] = [1.0]


def fold_that_is_not_there(state):
    state["roster"]["folds"]["0" * 24] = 5


def fold_as_list(state):
    state["roster"]["folds"]["0" * 24] = [1]


def roster_as_list(state):
    state["roster"] = []


def task_as_number(state):
    state["task"] = 1


def ranges_of_another_length(state):
    first_member(state, "ehr")["encoder"]["range"] = np.zeros((2, 3))


def vocabulary_of_another_length(state):
    first_member(state, "notes")["encoder"]["words"]["names"].append("new")


def array_that_is_not_there(state):
    state["fusion"]["weights"] = {"$array": "elsewhere"}


def array_without_a_name(state):
    state["fusion"]["weights"] = {"$array": []}


@pytest.mark.parametrize(
    "how",
    [
        shorter,
        as_text,
        not_a_number,
        other_dimensions,
        unknown_head,
        no_members,
        fewer_members,
        no_modalities,
        no_fusion,
        weights_of_another_length,
        negative_weight,
        flat_covariance,
        base_in_words,
        negative_slope,
        slope_as_list,
        fold_that_is_not_there,
        fold_as_list,
        roster_as_list,
        task_as_number,
        ranges_of_another_length,
        vocabulary_of_another_length,
        array_that_is_not_there,
        array_without_a_name,
    ],
    ids=lambda how: how.__name__.replace("_", " "),
)
def test_parts_that_do_not_fit_are_refused_though_the_digest_fits(changed, how):
    with pytest.raises(ModelFolderError):
        load(changed(how))


def test_arrays_in_place_of_other_arrays_are_refused(copied):
    save_file({"state": np.zeros(3)}, copied / "state.safetensors")
    sign(copied)
    with pytest.raises(ModelFolderError, match=r"the array .* is missing"):
        load(copied)


def test_another_backbone_than_in_training_is_refused(changed):
    def change(state):
        state["modalities"]["imaging"]["settings"] = {"backbone": "filters"}

    with pytest.raises(ModelFolderError, match="imaging: backbone is filters here, the model was made with"):
        load(changed(change))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [("waveform", {}, "no modality 'waveform'"), ("imaging", {"size": "1000000"}, "imaging.size is '1000000'")],
)
def test_what_is_not_here_is_named(changed, name, settings, message):
    def change(state):
        part = state["modalities"].pop("imaging")
        state["modalities"][name] = {**part, "settings": settings}

    with pytest.raises(ModelFolderError, match=message):
        load(changed(change))
