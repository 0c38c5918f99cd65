"""Coordinates of an embedding, against scikit-learn, and against themselves in another form."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from medfusion.core.state import load_state, save_state
from medfusion.core.types import Embedding
from medfusion.fusion import projection as module
from medfusion.fusion.projection import DIMENSIONS, Projection

ROWS = 1_500


def drawn(n=ROWS, columns=12, seed=0):
    """Return rows (n, columns) with a few strong directions, in units of very different size."""
    rng = np.random.default_rng(seed)
    strong = rng.normal(size=(n, 4)) * [4.0, 3.0, 2.0, 1.5]
    values = strong @ rng.normal(size=(4, columns)) + rng.normal(size=(n, columns))
    return values * np.logspace(-2, 2, columns) + 5.0


def embedded(values, present=None, *, same_unit=False):
    here = np.ones(values.shape[0], dtype=bool) if present is None else present
    return Embedding(values, here, [f"x{place}" for place in range(values.shape[1])], same_unit)


def coordinates(values, **options):
    embedding = embedded(values, **options)
    return Projection.fit(embedding).apply(embedding)


def assert_same_up_to_sign(found, expected):
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-8)


@pytest.mark.parametrize("same_unit", [False, True])
def test_coordinates_are_the_principal_components_with_a_first_spread_of_one(same_unit):
    values = drawn()
    given = values if same_unit else StandardScaler().fit_transform(values)
    expected = PCA(DIMENSIONS, svd_solver="full").fit_transform(given)
    assert_same_up_to_sign(coordinates(values, same_unit=same_unit), expected / expected[:, 0].std())


def test_units_do_not_matter_unless_all_features_have_one():
    values = drawn()
    moved = values * np.linspace(0.1, 50, 12) - 7.0
    assert_same_up_to_sign(coordinates(moved), coordinates(values))
    assert np.abs(coordinates(moved, same_unit=True) - coordinates(values, same_unit=True)).max() > 0.1


def test_sparse_rows_have_the_coordinates_of_the_same_dense_rows():
    rng = np.random.default_rng(1)
    values = np.where(rng.random((ROWS, 30)) < 0.15, rng.random((ROWS, 30)), 0.0)
    here = np.arange(ROWS) % 5 > 0
    values[~here] = 0.0
    thin, full = (
        embedded(sparse.csr_array(values), here),
        embedded(np.where(here[:, None], values, np.nan), here, same_unit=True),
    )
    found, expected = Projection.fit(thin), Projection.fit(full)
    np.testing.assert_allclose(found.centre, values[here].mean(axis=0), atol=1e-12)
    assert_same_up_to_sign(found.apply(thin), expected.apply(full))


def test_what_is_missing_counts_as_average_in_dense_and_in_sparse_rows():
    values = drawn()
    fitted = Projection.fit(embedded(values))
    gaps = np.random.default_rng(2).random(values.shape) < 0.2
    expected = fitted.apply(embedded(np.where(gaps, fitted.centre, values)))
    holes = np.where(gaps, np.nan, values)
    np.testing.assert_allclose(fitted.apply(embedded(holes)), expected, atol=1e-9)
    np.testing.assert_allclose(fitted.apply(embedded(sparse.csr_array(holes))), expected, atol=1e-9)


def test_the_average_is_that_of_what_is_known():
    values = drawn()
    values[::3, 4] = np.nan
    assert Projection.fit(embedded(values)).centre[4] == pytest.approx(np.nanmean(values[:, 4]))


def test_absent_rows_have_no_part_in_it_and_coordinates_of_exactly_nothing():
    here = np.arange(ROWS) % 3 > 0
    values = drawn()
    all_of_them = Projection.fit(embedded(np.where(here[:, None], values, np.nan), here))
    np.testing.assert_allclose(all_of_them.directions, Projection.fit(embedded(values[here])).directions, atol=1e-12)
    assert not all_of_them.apply(embedded(np.where(here[:, None], values, np.nan), here))[~here].any()
    thin = sparse.csr_array(np.where(here[:, None], values, 0.0))
    assert not Projection.fit(embedded(thin, here)).apply(embedded(thin, here))[~here].any()


def test_a_feature_that_never_differs_has_no_part_in_any_coordinate():
    values = drawn()
    values[:, 3] = 17.0
    assert not Projection.fit(embedded(values)).directions[3].any()


@pytest.mark.parametrize(("rows", "kept"), [(149, 0), (150, 1), (749, 4), (5_000, DIMENSIONS)])
def test_few_rows_have_few_coordinates(rows, kept):
    assert module._ROWS_PER_DIMENSION == 150
    assert coordinates(drawn(rows)).shape == (rows, kept)


def test_what_has_few_directions_has_no_more_coordinates_than_these():
    line = np.outer(np.random.default_rng(3).normal(size=ROWS), np.arange(1.0, 6.0))
    assert coordinates(line).shape == (ROWS, 1)
    assert coordinates(np.full((ROWS, 5), 2.0)).shape == (ROWS, 0)


@pytest.mark.parametrize("columns", [0, 3])
def test_nobody_who_has_it_is_no_error(columns):
    nobody = np.zeros(ROWS, dtype=bool)
    assert coordinates(np.full((ROWS, columns), np.nan), present=nobody).shape == (ROWS, 0)
    assert coordinates(sparse.csr_array((ROWS, columns)), present=nobody).shape == (ROWS, 0)


def test_a_projection_that_is_read_back_gives_the_same_in_single_precision(tmp_path):
    embedding = embedded(drawn())
    fitted = Projection.fit(embedding)
    save_state(tmp_path, "projection", fitted.state())
    again = Projection.restore(load_state(tmp_path, "projection"))
    np.testing.assert_allclose(again.apply(embedding), fitted.apply(embedding), atol=1e-4)
    np.testing.assert_array_equal(Projection.restore(again.state()).apply(embedding), again.apply(embedding))
