"""What a fusion makes of an embedding itself is added to a head's shares, column by column, and nothing is lost."""

import numpy as np
import pytest
from scipy import sparse

from medfusion.core.types import Attribution, Embedding
from medfusion.evidence.crossfit import _pulled

PULL, REFERENCE = np.array([2.0, -1.0, 0.5]), np.array([1.0, 4.0, 10.0])


def row(*values):
    return Embedding(np.array([values]), np.ones(1, dtype=bool), ["a", "b", "c"])


def test_shares_of_trees_get_what_the_fusion_pulls_and_what_is_missing_pulls_nothing():
    added = _pulled(Attribution(np.array([0.1, 0.2, 0.3]), -0.5), row(3.0, np.nan, 8.0), PULL, REFERENCE)
    np.testing.assert_allclose(added.shares, [0.1 + 2 * (3 - 1), 0.2, 0.3 + 0.5 * (8 - 10)])
    assert (added.constant, added.slope) == (-0.5, None)


@pytest.mark.parametrize("stored", [False, True])
def test_a_linear_head_keeps_its_reference_so_that_one_slope_gives_all_shares(stored):
    slope, reference, values = np.array([1.0, 0.5, -2.0]), np.array([2.0, 3.0, 9.0]), np.array([3.0, 5.0, 8.0])
    embedding = row(*values)
    if stored:
        embedding = Embedding(sparse.csr_array(values[None]), embedding.present, embedding.feature_names)
    own = Attribution(slope * (values - reference), 0.7, slope, reference)
    added = _pulled(own, embedding, PULL, REFERENCE)
    np.testing.assert_allclose(added.shares, (slope + PULL) * (values - reference))
    np.testing.assert_allclose(added.slope, slope + PULL)
    assert added.total == pytest.approx(own.total + PULL @ (values - REFERENCE))


def test_columns_that_trees_read_beside_words_keep_the_reference_of_the_fusion():
    slope, reference, values = np.array([1.0, np.nan, np.nan]), np.array([2.0, 0.0, 0.0]), np.array([3.0, 5.0, 8.0])
    own = Attribution(np.array([1.0, 0.2, 0.3]), 0.7, slope, reference)
    added = _pulled(own, row(*values), PULL, REFERENCE)
    np.testing.assert_allclose(added.shares, [(1 + 2) * (3 - 2), 0.2 - 1 * (5 - 4), 0.3 + 0.5 * (8 - 10)])
    assert added.constant == pytest.approx(0.7 + 2 * (2 - 1))
    assert added.total == pytest.approx(own.total + PULL @ (values - REFERENCE))
