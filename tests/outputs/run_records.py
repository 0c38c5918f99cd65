"""A run record with values that no two facts share, so that a test knows where a number came from."""

from copy import deepcopy

EVIL = '<script>alert("x")</script> | *bold* [link](x) `code`'


def estimate(value, low=None, high=None, note=""):
    return {"value": value, "low": low, "high": high, "note": note}


def result(auroc):
    return {
        "n": 207,
        "n_events": 61,
        "n_subjects": 103,
        "intervals": "95 %, by 200 resamples of the patients (seed 7)",
        "auroc": estimate(auroc, auroc - 0.04, auroc + 0.04),
        "auprc": estimate(0.612, 0.5, 0.7),
        "brier": estimate(0.151),
        "ece": estimate(0.033, 0.011, 0.066),
        "calibration_slope": estimate(None, note="cannot be told"),
        "reliability": [
            {"mean_risk": 0.125, "observed": 0.1, "low": 0.05, "high": 0.25, "n": 104, "n_events": 10},
            {"mean_risk": 0.5, "observed": 0.495, "low": 0.375, "high": 0.6, "n": 103, "n_events": 51},
        ],
        "patterns": [
            {"pattern": "ehr + notes", "n": 190, "n_events": 58, "n_subjects": 99, "auroc": 0.871, "auroc_low": 0.83,
             "auroc_high": 0.91, "brier": 0.14, "ece": 0.03, "note": ""},
            {"pattern": "ehr", "n": 17, "n_events": 3, "n_subjects": 9, "auroc": None, "auroc_low": None,
             "auroc_high": None, "brier": None, "ece": None, "note": "too few: 17 of 20 samples"},
        ],
    }  # fmt: skip


RECORD = {
    "made": "2025-03-04T05:06:07+00:00",
    "model_id": "0123456789abcdef",
    "medfusion": "9.8.7",
    "python": "3.11.99",
    "versions": {"numpy": "2.99.1", "torch": "2.98.2"},
    "system": {"os": "Linux", "machine": "x86_64", "processors": 2},
    "parameters": {
        "task": "icu",
        "settings": {"ehr": {"way": "a b"}},
        "only": ["ehr", "notes"],
        "fusion": "late",
        "folds": 4,
        "seed": 7,
    },
    "settings": {"ehr": {"way": "a b"}},
    "cohort": "ward-nine",
    "description": "Patients of an invented ward.",
    "task": "icu",
    "positive": "admitted to intensive care",
    "samples": 207,
    "patients": 103,
    "events": 61,
    "patients_with_event": 31,
    "prediction_times": {"first": "2019-02-03", "last": "2021-04-05"},
    "subjects": {
        "age_years": {"median": 66.5, "q1": 51.0, "q3": 77.5, "unknown": 6},
        "sex": {"F": 48, "M": 55},
        "sites": 3,
    },
    "modalities": {
        "ehr": {"samples": 207, "patients": 103, "identity": {"summary": "v1"}},
        "notes": {"samples": 190, "patients": 99, "identity": {"encoder": "tfidf"}},
    },
    "data": {
        "tables": {"cohort.toml": "c0" * 32, "ehr.csv": "e1" * 32},
        "files": {"imaging": {"count": 12, "bytes": 3456, "sha256": "f2" * 32}},
    },
    "left_out": 5,
    "left_out_by_code": {"bad-time": 3, "bad-unit": 2},
    "noticed_by_code": {},
    "folds": 4,
    "by_fold": [{"samples": 51, "patients": 25, "events": 15}, {"samples": 52, "patients": 26, "events": 16}],
    "fold_digest": "d3" * 32,
    "methods": {
        "output": "a probability",
        "missing_modalities": "absent ones are absent",
        "missing_values": "missing ones are missing",
        "row_weights": "rows count alike",
        "class_imbalance": "nothing was done about it",
        "calibration": "by Platt scaling",
        "interval": "from the members",
        "unusable_input": "it is left out",
    },
    "chosen": {"weights": {"ehr": 0.75, "notes": 0.125}},
    "cross_validated": {"ehr": result(0.801), "notes": result(0.702), "fused": result(0.866)},
}
SUBGROUPS = [{"group": "sex=F", "n": 96, "auroc": 0.888}, {"group": "sex=M", "n": 111, "auroc": 0.844}]


def without(record, path):
    """Return a copy of a record that lacks one fact."""
    copy = deepcopy(record)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return copy


def paths(record, depth=3):
    """Return the paths of all facts, down to a depth."""
    found = []
    for key, value in record.items():
        found.append((key,))
        if isinstance(value, dict) and depth > 1:
            found += [(key, *path) for path in paths(value, depth - 1)]
    return found


def evil(value):
    """Return a record in which every text is one that HTML and Markdown would act on."""
    if isinstance(value, dict):
        return {key: evil(each) for key, each in value.items()}
    if isinstance(value, list):
        return [evil(each) for each in value]
    return EVIL if isinstance(value, str) and value != "late" else value
