"""Training again from the record gives the same risks, and says why where it does not."""

import json
import shutil

import pytest

from medfusion.core.errors import ModelFolderError
from medfusion.pipeline import train
from medfusion.pipeline.reproduce import Reproduction, reproduce


@pytest.fixture(scope="module")
def cohort(synthetic):
    """Return a cohort of which notes alone are used, so that training takes no time."""
    return synthetic.folder


@pytest.fixture(scope="module")
def model(cohort, tmp_path_factory):
    """Return a model folder; nobody may change it."""
    folder = tmp_path_factory.mktemp("reproduce") / "model"
    train(cohort, folder, only=("notes",), seed=2)
    return folder


@pytest.fixture
def changed(model, tmp_path):
    """Change what stands in the card of a copy of the model."""

    def change(how):
        folder = shutil.copytree(model, tmp_path / "model")
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        how(card)
        (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
        return folder

    return change


def test_the_same_data_give_the_same_risks(model, cohort):
    result = reproduce(model, cohort)
    assert result.reproduced
    assert result.difference <= 1e-6
    assert (result.data, result.versions) == ((), ())
    labels = (cohort / "labels/deterioration.csv").read_text().splitlines()
    assert result.samples == len(labels) - 1
    assert result.text().startswith(f"reproduced: the risks of {result.samples} samples differ by ")


def test_a_model_of_all_modalities_is_reproduced(trained, synthetic, cache):
    result = reproduce(trained.folder, synthetic.folder, cache=cache)
    assert result.reproduced
    assert result.samples > 80


def test_data_that_differ_are_named_file_by_file_and_nothing_is_trained(model, cohort, tmp_path):
    copy = shutil.copytree(cohort, tmp_path / "cohort")
    with (copy / "notes.csv").open("a", encoding="utf-8") as file:
        file.write("\n")
    (copy / "subjects.csv").unlink()
    stages = []
    result = reproduce(model, copy, track=lambda stage, total: stages.append(stage) or (lambda done: None))
    assert (result.reproduced, result.difference, result.samples, stages) == (False, None, 0, [])
    assert [problem.file for problem in result.data] == ["notes.csv", "subjects.csv"]
    assert [problem.got == "no such file" for problem in result.data] == [False, True]
    assert "error notes.csv: content is 'SHA-256 " in result.as_dict()["data"][0]
    assert result.text().startswith("not reproduced: the data are not those of the training run")


def test_a_changed_film_is_told_as_a_change_of_the_films_together(trained, synthetic, cache, tmp_path):
    copy = shutil.copytree(synthetic.folder, tmp_path / "cohort")
    film = next(copy.glob("imaging/*/*/1.dcm"))
    content = bytearray(film.read_bytes())
    content[-1] ^= 1
    film.write_bytes(content)
    (problem,) = reproduce(trained.folder, copy, cache=cache).data
    assert (problem.file, problem.field) == ("imaging", "files")
    assert problem.got.split(", digest")[0] == problem.expected.split(", digest")[0]
    assert problem.got != problem.expected
    assert film.parent.name not in problem.line()


def test_other_versions_are_warnings_and_the_risks_decide(changed, cohort):
    def age(card):
        card["medfusion"], card["versions"]["scipy"], card["versions"]["gone"] = "0.0.1", "0.1", "1.0"
        del card["versions"]["numpy"]
        card["system"]["processors"] = 999
        card["system"]["torch_threads"] = None

    result = reproduce(changed(age), cohort)
    assert result.reproduced
    assert {problem.severity for problem in result.versions} == {"warning"}
    assert [problem.file for problem in result.versions] == ["medfusion", "gone", "numpy", "scipy", ""]
    told = {problem.file or problem.field: (problem.got, problem.expected) for problem in result.versions}
    assert told["gone"] == ("not installed", "1.0")
    assert told["numpy"][1] == "not installed"
    assert told["processors"][1] == "999"


def test_another_seed_is_not_a_reproduction(changed, cohort):
    result = reproduce(changed(lambda card: card["parameters"].update(seed=3)), cohort)
    assert not result.reproduced
    assert result.difference > 1e-6
    assert result.text().startswith("not reproduced: the risks of")
    assert result.as_dict()["reproduced"] is False


@pytest.mark.parametrize(
    "how",
    [
        lambda card: card.pop("parameters"),
        lambda card: card.pop("data"),
        lambda card: card["parameters"].update(seed="2"),
        lambda card: card["data"].pop("files"),
        lambda card: card.update(parameters=["task"]),
    ],
)
def test_a_folder_without_a_record_is_refused(changed, cohort, how):
    with pytest.raises(ModelFolderError, match=r"its card\.json holds no run record to train by; train it again"):
        reproduce(changed(how), cohort)


@pytest.mark.parametrize(
    ("difference", "reproduced"),
    [(0.0, True), (1e-6, True), (1.1e-6, False), (float("inf"), False), (None, False)],
)
def test_up_to_a_millionth_is_the_same(difference, reproduced):
    result = Reproduction(difference, 10, (), ())
    assert result.reproduced is reproduced
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["reproduced"] is reproduced
