"""Which images are too unlike the training: against formulas, on drawn Gaussians, and on drawn chest films."""

import csv
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.stats import norm
from sklearn.decomposition import PCA

from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Records
from medfusion.evidence.domain import Domain, Subspace
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging.pixels import decode, load


def drawn(n, seed=0, d=60):
    """Rows with five wide directions, like the embeddings of a network."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(5, d))
    return (rng.normal(size=(n, 5)) @ mixing * 3 + rng.normal(size=(n, d))).astype(np.float32)


def folds(n, k=5):
    return np.arange(n) % k


@pytest.fixture(scope="module")
def domain():
    return Domain.fit(drawn(1000), folds(1000))


# --- the distance


@pytest.mark.parametrize("n", [90, 2000])
def test_a_distance_is_that_of_scikit_learns_probabilistic_pca(n):
    values, others = drawn(n), drawn(20, seed=1) * 2
    subspace = Subspace.fit(values)
    reference = PCA(len(subspace.variances), svd_solver="full").fit(values)
    # scikit-learn divides by n - 1, maximum likelihood by n.
    precision = reference.get_precision() * n / (n - 1)
    expected = [mahalanobis(row, values.mean(axis=0), precision) for row in others]
    assert subspace.distance(others) == pytest.approx(expected, rel=1e-3)


def test_with_fewer_rows_than_features_the_noise_is_spread_over_all_other_directions():
    values, others = drawn(40), drawn(20, seed=1) * 2
    variances, directions = np.linalg.eigh(np.cov(values.T.astype(float), bias=True))
    kept = len(Subspace.fit(values).variances)
    variances[:-kept] = variances[:-kept].mean()
    precision = (directions / variances) @ directions.T
    expected = [mahalanobis(row, values.mean(axis=0), precision) for row in others]
    assert Subspace.fit(values).distance(others) == pytest.approx(expected, rel=1e-3)


def test_there_are_at_most_128_components_and_one_for_three_rows():
    assert len(Subspace.fit(drawn(30)).variances) == 10
    assert len(Subspace.fit(np.random.default_rng(0).normal(size=(900, 200))).variances) == 128
    assert len(Subspace.fit(drawn(1000, d=3)).variances) == 2


def test_components_are_orthonormal():
    components = Subspace.fit(drawn(90)).components
    np.testing.assert_allclose(components @ components.T, np.eye(len(components)), atol=1e-5)


@pytest.mark.parametrize("d", [1, 2, 400])
def test_features_that_never_vary_do_no_harm(d):
    values = np.hstack([drawn(90), np.full((90, d), 7.0, dtype=np.float32)])
    distances = Subspace.fit(values).distance(values)
    assert np.isfinite(distances).all()
    odd = values[:1] + np.r_[np.zeros(60), np.full(d, 50.0)]
    assert Subspace.fit(values).distance(odd)[0] > distances.max()


# --- what is usual


def test_a_new_row_of_the_same_kind_is_as_far_as_the_rows_left_out(domain):
    new = domain.distance(drawn(5000, seed=1))
    assert np.median(new) == pytest.approx(1.0, abs=0.02)
    assert domain.percentile(new).mean() == pytest.approx(50.0, abs=3.0)


def test_rows_that_were_fitted_on_seem_nearer_than_they_are_unless_the_right_member_is_asked():
    values = drawn(150, d=400)
    domain = Domain.fit(values, folds(150))
    naive = np.median(domain.distance(values))
    honest = domain.distance(values, np.eye(5)[folds(150)])
    assert naive < 0.9
    np.testing.assert_allclose(np.sort(honest), domain.left_out, rtol=1e-5)


@pytest.mark.parametrize("n", [60, 300, 1000])
def test_about_one_in_a_hundred_rows_of_the_same_kind_is_flagged(n):
    rates = []
    for seed in range(8):
        domain = Domain.fit(drawn(n, seed=seed), folds(n))
        rates.append(domain.is_outside(domain.distance(drawn(1000, seed=100 + seed))).mean())
    assert 0.002 < np.mean(rates) < 0.03


def test_the_limit_is_the_99th_percentile_of_a_log_normal():
    spread = 0.2
    left_out = np.exp(norm.ppf((np.arange(2000) + 0.5) / 2000) * spread)
    domain = Domain((), 1.0, left_out)
    assert domain.limit == pytest.approx(np.exp(norm.ppf(0.99) * spread), rel=1e-3)


def test_a_few_odd_rows_in_the_training_hardly_move_the_limit():
    values = drawn(400, seed=4)
    clean = Domain.fit(values, folds(400))
    # Each is odd in a way of its own.
    values[:8] += 8.0 * np.random.default_rng(1).normal(size=(8, 60)).astype(np.float32)
    odd = Domain.fit(values, folds(400))
    assert np.quantile(odd.left_out, 0.99) > 1.5 * np.quantile(clean.left_out, 0.99)
    assert odd.limit < 1.1 * clean.limit


def test_the_percentile_counts_the_training_rows_that_are_nearer():
    domain = Domain((), 1.0, np.array([0.5, 1.0, 1.0, 2.0]))
    np.testing.assert_array_equal(
        domain.percentile(np.array([0.1, 1.0, 1.5, 9.0, np.nan])), [0.0, 25.0, 75.0, 100.0, np.nan]
    )


def test_an_absent_row_has_no_distance_and_is_not_flagged(domain):
    rows = np.vstack([drawn(1, seed=5), np.full((1, 60), np.nan)])
    distances = domain.distance(rows)
    assert np.isnan(distances).tolist() == [False, True]
    assert not domain.is_outside(distances)[1]


# --- what cannot be fitted


@pytest.mark.parametrize(
    ("values", "fold"),
    [
        (drawn(29), folds(29)),
        (drawn(40), np.zeros(40, dtype=int)),
        (np.ones((50, 8), dtype=np.float32), folds(50)),
        (np.empty((0, 8), dtype=np.float32), folds(0)),
    ],
    ids=["few rows", "one fold", "no spread", "nothing"],
)
def test_there_is_no_domain_without_enough_to_fit_it_on(values, fold):
    assert Domain.fit(values, fold) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_values_in_the_training_are_refused(bad):
    values = drawn(50)
    values[3, 4] = bad
    with pytest.raises(ValueError, match="finite"):
        Domain.fit(values, folds(50))


# --- on disk


def test_it_is_written_and_read_back_exactly(domain, tmp_path):
    save_state(tmp_path, "domain", domain.state())
    restored = Domain.restore(load_state(tmp_path, "domain"))
    others = drawn(10, seed=2)
    np.testing.assert_array_equal(restored.distance(others), domain.distance(others))
    np.testing.assert_array_equal(
        restored.percentile(restored.distance(others)), domain.percentile(domain.distance(others))
    )
    assert restored.limit == domain.limit


# --- on films


def embed(modality, folder, images):
    """Write pictures in [0, 1] as PNG into a cohort folder, and return their embeddings."""
    (folder / "imaging").mkdir(parents=True)
    (folder / "cohort.toml").touch()
    with (folder / "imaging.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject_id", "path", "time"])
        for number, image in enumerate(images):
            name = f"imaging/{number:04}.png"
            cv2.imwrite(str(folder / name), np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8))
            writer.writerow([f"{number:04}", name, "2020-01-01T09:00:00"])
    table = modality.index(CohortFolder.open(folder)).sort_by("subject_id")
    records = [Records(f"{row:04}", datetime(2030, 1, 1), table.slice(row, 1)) for row in range(len(table))]
    return modality.encoder().encode(modality.read(records, [], lambda done: None)).values


def first_films(cohort: Path) -> list[np.ndarray]:
    """Return one film of each patient, at most 400 pixels along a side."""
    films = []
    for path in sorted((cohort / "imaging").rglob("1.dcm")):
        film = decode(load(path))
        scale = 400 / max(film.shape)
        films.append(cv2.resize(film, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return films


@pytest.fixture(scope="module")
def modality():
    return ImagingModality(ModalityOptions({"size": "160"}))


@pytest.fixture(scope="module")
def chests(modality, synthetic, tmp_path_factory):
    """A domain of drawn chest films."""
    values = embed(modality, tmp_path_factory.mktemp("training") / "cohort", first_films(synthetic.folder))
    return Domain.fit(values, folds(len(values)))


@pytest.fixture(scope="module")
def strangers(new_patients):
    return first_films(new_patients.folder)


def test_films_of_new_patients_are_not_flagged(chests, modality, strangers, tmp_path):
    distances = chests.distance(embed(modality, tmp_path / "new", strangers))
    assert len(distances) >= 15
    assert chests.is_outside(distances).sum() <= 2


WRONG = {
    "a quarter turn": np.rot90,
    "upside down": lambda film: film[::-1, ::-1],
    "inverted": lambda film: 1 - film,
    "a third of it": lambda film: film[: film.shape[0] // 3, : film.shape[1] // 3],
    "the film in a screenshot": lambda film: np.pad(film, ((40, 120), (40, 300)), constant_values=0.9),
    "noise": lambda film: np.random.default_rng(0).random(film.shape),
    "a page of text": lambda film: (
        cv2.putText(
            np.full(film.shape, 255, dtype=np.uint8), "Report: see below", (5, 200), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 0, 2
        )
        / 255
    ),
    "a gradient": lambda film: np.tile(np.linspace(0, 1, film.shape[1]), (film.shape[0], 1)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_image_is_flagged(kind, chests, modality, strangers, tmp_path):
    distances = chests.distance(embed(modality, tmp_path / "wrong", [WRONG[kind](film) for film in strangers[:6]]))
    assert chests.is_outside(distances).all()
    assert (chests.percentile(distances) > 98).all()
