"""Checking trees before XGBoost gets them: it follows whatever index stands in a file, out of its memory, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from medfusion.core.errors import ModelFolderError

_MAX_NODES = 1023
"""More than any tree of ours has; it bounds the depth."""
_ROOT = 2**31 - 1
"""What XGBoost writes for the parent of the root."""
_NONE = -1
"""What it writes for the children of a leaf."""
_INDICES = ("left_children", "right_children", "parents", "split_indices", "split_type", "default_left")
_NUMBERS = ("split_conditions", "sum_hessian", "base_weights", "loss_changes")
_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


def checked(text: bytes) -> bytes:
    """Return XGBoost's JSON, written anew, if it holds sound trees of the kind that `TreeHead` fits.

    Sound means that every index leads to a node or a feature that is there, and no path is a circle.

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
        and not learner["feature_types"]
        and not any(model.get("cats", {}).values())
        and model["tree_info"] == [0] * len(trees)
        and model["iteration_indptr"] == list(range(len(trees) + 1))
        and all(_sound_tree(tree, features) for tree in trees)
    )


def _sound_tree(tree: Mapping[str, Any], features: int) -> bool:
    """Say whether all arrays are of one length, and a child comes after its parent and knows it."""
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
        ((children > above) & (children < n)).all()
        and (parents[children] == above).all()
        and parents[0] == _ROOT
        and ((split >= 0) & (split < features)).all()
        and not kind.any()
        and np.isin(default, (0, 1)).all()
    )
