"""Checking trees before XGBoost gets them: it follows whatever index stands in a file, out of its memory, too.

Our own tables, see `treetables`, follow them as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from medfusion.core.errors import ModelFolderError
from medfusion.core.lines import Places

MAX_DEPTH = 6
"""Of trees; ours are no deeper, and tables of deeper ones would be large."""
_MAX_NODES = 2 ** (MAX_DEPTH + 1) - 1
_ROOT = 2**31 - 1
"""What XGBoost writes for the parent of the root."""
_NONE = -1
"""What it writes for the children of a leaf."""
_COVER = "sum_hessian"
_INDICES = ("left_children", "right_children", "parents", "split_indices", "split_type", "default_left")
_NUMBERS = ("split_conditions", _COVER, "base_weights", "loss_changes")
_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


def checked(text: bytes) -> bytes:
    """Return XGBoost's JSON, written anew, if it holds sound trees of the kind that `TreeHead` fits.

    Sound means that every index leads to a node or a feature that is there, no path is a circle or longer than
    `MAX_DEPTH`, and every node was reached by training rows.

    Parameters
    ----------
    text : bytes
        From a model folder, so from anybody.

    Raises
    ------
    ModelFolderError
        If it does not.
    """
    try:
        model = json.loads(text)
        if _sound(model["learner"]):
            # What was checked is what is read: no second key of one name, no other encoding.
            return json.dumps(model, allow_nan=False).encode()
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        pass
    raise ModelFolderError("the trees of a head are damaged, or not from here")


def _sound(learner: Mapping[str, Any]) -> bool:
    """Say whether it is one sum of plain trees, of numbers alone."""
    booster, size = learner["gradient_booster"], learner["learner_model_param"]
    model, features = booster["model"], int(size["num_feature"])
    trees = model["trees"]
    kind = (booster["name"], learner["objective"]["name"], size["num_class"], size["num_target"])
    return (
        kind == ("gbtree", "binary:logistic", "0", "1")
        and len(trees) > 0
        and not learner["feature_types"]
        and not any(model.get("cats", {}).values())
        and model["tree_info"] == [0] * len(trees)
        and model["iteration_indptr"] == list(range(len(trees) + 1))
        and all(_sound_tree(tree, features) for tree in trees)
    )


def _sound_tree(tree: Mapping[str, Any], features: int) -> bool:
    """Say whether all arrays are of one length, and every node but the root comes after the parent that it knows."""
    if any(tree[name] for name in _CATEGORIES) or int(tree["tree_param"]["num_feature"]) != features:
        return False
    indices, numbers = (np.array([tree[name] for name in names]) for names in (_INDICES, _NUMBERS))
    n = int(tree["tree_param"]["num_nodes"])
    if indices.dtype != np.int64 or indices.shape[1:] != (n,) or numbers.shape[1:] != (n,) or not 0 < n <= _MAX_NODES:
        return False
    left, right, parents, split, kind, default = indices
    inner = np.flatnonzero((left != _NONE) | (right != _NONE))
    children = np.concatenate([left[inner], right[inner]])
    above = np.concatenate([inner, inner])
    return bool(
        (children > above).all()
        and np.array_equal(np.sort(children), np.arange(1, n))
        and (parents[children] == above).all()
        and parents[0] == _ROOT
        and ((split >= 0) & (split < features)).all()
        and not kind.any()
        and np.isin(default, (0, 1)).all()
        and (numbers[_NUMBERS.index(_COVER)] > 0).all()
        and not _is_deeper(left, right)
    )


def _is_deeper(left: Places, right: Places) -> bool:
    """Say whether there are inner nodes so far from the root that a path would be longer than allowed."""
    level = np.zeros(1, dtype=np.int64)
    for _ in range(MAX_DEPTH):
        level = level[left[level] != _NONE]
        level = np.concatenate([left[level], right[level]])
    return bool((left[level] != _NONE).any())
