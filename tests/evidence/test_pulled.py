"""What a fusion makes of an embedding itself is added to a head's shares, column by column, and nothing is lost."""

import numpy as np
import pytest
from scipy import sparse

from medfusion.core.lines import Attributions
from medfusion.core.types import Embedding
from medfusion.evidence.opening import Shares

PULL, REFERENCE = np.array([2.0, -1.0, 0.5]), np.array([1.0, 4.0, 10.0])


def row(*values):
    return Embedding(np.array([values]), np.ones(1, dtype=bool), ["a", "b", "c"])


def own(shares, constant, slope=None, reference=None):
    """Return a head's shares of one row."""
    about = Attributions(np.array([shares]), np.array([constant]), np.zeros(3), np.ones(1))
    return Shares(about, slope, None, reference)


def pulled(shares, embedding):
    (added,) = shares.pulled(embedding, PULL[None], REFERENCE).rows()
    return added


def test_shares_of_trees_get_what_the_fusion_pulls_and_what_is_missing_pulls_nothing():
    added = pulled(own([0.1, 0.2, 0.3], -0.5), row(3.0, np.nan, 8.0))
    np.testing.assert_allclose(added.shares, [0.1 + 2 * (3 - 1), 0.2, 0.3 + 0.5 * (8 - 10)])
    assert (added.constant, added.slope) == (-0.5, None)


@pytest.mark.parametrize("stored", [False, True])
def test_a_linear_head_keeps_its_reference_so_that_one_slope_gives_all_shares(stored):
    slope, reference, values = np.array([1.0, 0.5, -2.0]), np.array([2.0, 3.0, 9.0]), np.array([3.0, 5.0, 8.0])
    embedding = row(*values)
    if stored:
        embedding = Embedding(sparse.csr_array(values[None]), embedding.present, embedding.feature_names)
    added = pulled(own(slope * (values - reference), 0.7, slope, reference), embedding)
    np.testing.assert_allclose(added.shares, (slope + PULL) * (values - reference))
    np.testing.assert_allclose(added.slope, slope + PULL)
    assert added.total == pytest.approx(slope @ (values - reference) + 0.7 + PULL @ (values - REFERENCE))


def test_columns_that_trees_read_beside_words_keep_the_reference_of_the_fusion():
    slope, reference, values = np.array([1.0, np.nan, np.nan]), np.array([2.0, 0.0, 0.0]), np.array([3.0, 5.0, 8.0])
    added = pulled(own([1.0, 0.2, 0.3], 0.7, slope, reference), row(*values))
    np.testing.assert_allclose(added.shares, [(1 + 2) * (3 - 2), 0.2 - 1 * (5 - 4), 0.3 + 0.5 * (8 - 10)])
    assert added.constant == pytest.approx(0.7 + 2 * (2 - 1))
    assert added.total == pytest.approx(1.0 + 0.2 + 0.3 + 0.7 + PULL @ (values - REFERENCE))


def test_what_is_not_stored_has_the_share_of_a_zero():
    values = sparse.csr_array(np.array([[3.0, 0.0, 8.0], [0.0, 5.0, 0.0]]))
    slope, reference, scale = np.array([1.0, 0.5, -2.0]), np.array([2.0, 3.0, 9.0]), np.array([1.0, 3.0])
    stored = values.copy()
    stored.data = np.repeat(scale, [2, 1]) * slope[values.indices] * (values.data - reference[values.indices])
    about = Attributions(stored, np.array([0.7, 0.0]), -slope * reference, scale)
    every = scale[:, None] * slope * (values.toarray() - reference)
    np.testing.assert_allclose(Shares(about, slope, None, reference).dense(), every)
    np.testing.assert_allclose(about.unstored(), [every[0, 1], every[1, 0] + every[1, 2]])
    np.testing.assert_allclose(about.total(), every.sum(axis=1) + np.array([0.7, 0.0]))
