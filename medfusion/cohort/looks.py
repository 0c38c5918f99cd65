"""The six ways to look for a leak, each on one modality."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medfusion.cohort.association import count_association, rank_association
from medfusion.cohort.leaks import EXAMPLES, Leak, Patients, PatientTable
from medfusion.core.types import BoolArray, FloatArray, Sample

SINGLE_FEATURE_AUROC = 0.95
MISSINGNESS_AUROC = 0.7
TOP_WORDS_AUROC = 0.8
ALPHA = 0.01
PURE_WORD_RATE, PURE_WORD_PATIENTS = 0.95, 5
DOMINANT_SHARE, DOMINANT_TIMES_EVEN = 0.15, 3.0
TOP_WORDS = 5
_STEM_LETTERS = 4


def _beyond_chance(p: FloatArray, tests: int) -> BoolArray:
    return p * tests < ALPHA


def _strength(auroc: FloatArray) -> FloatArray:
    """Return the AUROC in whichever direction it is at least 0.5."""
    return np.maximum(auroc, 1 - auroc)


def _strongest_first(places: NDArray[np.int64], auroc: FloatArray) -> list[int]:
    order = np.argsort(-_strength(auroc[places]), kind="stable")
    return [int(place) for place in places[order]]


def single_features(table: PatientTable) -> list[Leak]:
    """Find columns that alone almost determine the outcome."""
    looked = np.arange(len(table.names))
    if table.words:
        looked = np.flatnonzero(table.counts()[0] >= PURE_WORD_PATIENTS)
    auroc, p = rank_association(table.values[:, looked], table.patients.events)
    hits = np.flatnonzero((_strength(auroc) >= SINGLE_FEATURE_AUROC) & _beyond_chance(p, len(looked)))
    return [
        table.leak("single-feature", int(looked[hit]), auroc[hit], f"{_direction(auroc[hit])} with the event")
        for hit in _strongest_first(hits, auroc)
    ]


def _direction(auroc: float) -> str:
    return "higher" if auroc >= 0.5 else "lower"


def pure_words(table: PatientTable) -> list[Leak]:
    """Find words of many patients who nearly all have the same outcome."""
    if not table.words:
        return []
    marked, with_event = table.counts()
    looked = marked >= PURE_WORD_PATIENTS
    n, n_with = len(table.patients.events), int(table.patients.events.sum())
    auroc, p = count_association(with_event, marked, n_with, n)
    purest = np.maximum(with_event, marked - with_event)
    hits = looked & (purest >= PURE_WORD_RATE * marked) & _beyond_chance(p, int(looked.sum()))
    return [
        table.leak("pure-word", hit, auroc[hit], f"{with_event[hit]} of {marked[hit]} with the event")
        for hit in _strongest_first(np.flatnonzero(hits), auroc)
    ]


def label_words(table: PatientTable, label_words: Sequence[str]) -> list[Leak]:
    """Find features named after the outcome: by whole words, or by their beginning where that is long enough."""
    wanted = [" " + _spaced(word) for word in label_words if _spaced(word)]
    wanted = [word if len(word) > _STEM_LETTERS else word + " " for word in wanted]
    named = [" " + _spaced(name) + " " for name in table.names]
    hits = [place for place, name in enumerate(named) if any(word in name for word in wanted)]
    places = np.array(hits, dtype=np.int64)
    auroc = rank_association(table.values[:, places], table.patients.events).auroc
    return [
        table.leak("label-word", hits[hit], auroc[hit], "its name says the outcome")
        for hit in _strongest_first(np.arange(len(hits)), auroc)
    ]


def _spaced(name: str) -> str:
    """Return the words of a name, in small letters, with single spaces between."""
    return " ".join(re.findall(r"[^\W_]+", name.casefold()))


def identical(
    modality: str, samples: Sequence[Sample], labelled: Sequence[int], hashes: Sequence[Sequence[str]]
) -> list[Leak]:
    """Find content that different patients share: it ties folds together, and tells or contradicts outcomes."""
    events: dict[str, bool] = {}
    owners: dict[str, dict[str, None]] = {}
    for place in labelled:
        subject = samples[place].subject_id
        events[subject] = events.get(subject, False) or bool(samples[place].event)
        for item in hashes[place]:
            owners.setdefault(item, {})[subject] = None
    shared = sorted(((item, list(who)) for item, who in owners.items() if len(who) > 1), key=lambda pair: -len(pair[1]))
    marked = np.array([len(who) for _, who in shared])
    with_event = np.array([sum(events[subject] for subject in who) for _, who in shared])
    auroc, p = count_association(with_event, marked, sum(events.values()), len(events))
    telling = _beyond_chance(p, len(shared))
    leaks = []
    for place, (item, who) in enumerate(shared):
        alike = with_event[place] in {0, marked[place]}
        detail = f"the same content, {'equal' if alike else 'different'} outcomes ({with_event[place]} with the event)"
        known = float(_strength(auroc[place])) if telling[place] else None
        leaks.append(Leak("identical-content", modality, item[:12], known, len(who), tuple(who[:EXAMPLES]), detail))
    return leaks


def missingness(table: PatientTable, present: BoolArray, patients: Patients) -> list[Leak]:
    """Compare patients who have the modality, or a value of it, with those who have not."""
    patterns, places = np.ones((len(table.patients.names), 0), dtype=bool), np.empty(0, dtype=np.int64)
    alike = places
    if not table.words:
        # Values of one lab (first, last, mean) are missing together: one test, one line.
        patterns, places, alike = np.unique(~np.isnan(table.values), axis=1, return_index=True, return_counts=True)
    varied = ~patterns.all(axis=0) & patterns.any(axis=0)
    patterns, places, alike = patterns[:, varied], places[varied], alike[varied]
    tests = len(places) + 1
    leaks = []
    if (score := _missing_score(present[:, None], patients, tests)[0]) is not None:
        who = tuple(patients.names[present][:EXAMPLES].tolist())
        detail = f"present more often {_side(score)} the event"
        leaks.append(Leak("missingness", table.modality, "", max(score, 1 - score), int(present.sum()), who, detail))
    scores = _missing_score(patterns, table.patients, tests)
    hits = [
        (place, score, count) for place, score, count in zip(places, scores, alike, strict=True) if score is not None
    ]
    for place, score, count in sorted(hits, key=lambda hit: -abs(hit[1] - 0.5)):
        others = f", as {count - 1} more features" if count > 1 else ""
        detail = f"measured more often {_side(score)} the event{others}"
        leaks.append(table.leak("missingness", int(place), score, detail))
    return leaks


def _side(auroc: float) -> str:
    return "with" if auroc >= 0.5 else "without"


def _missing_score(there: BoolArray, patients: Patients, tests: int) -> list[float | None]:
    """Return the AUROC of being there, or None where it is weak or may be chance."""
    marked, with_event = there.sum(axis=0), there[patients.events].sum(axis=0)
    auroc, p = count_association(with_event, marked, int(patients.events.sum()), len(patients.events))
    telling = (_strength(auroc) >= MISSINGNESS_AUROC) & _beyond_chance(p, tests)
    return [float(score) if tells else None for score, tells in zip(auroc, telling, strict=True)]


def dominant(table: PatientTable, slopes: FloatArray) -> list[Leak]:
    """Look at what a linear head leans on, instead of at a list of words that should not be there."""
    slopes = np.asarray(slopes, dtype=np.float64)[table.columns]
    weight = np.abs(slopes) * _deviation(table.values)
    if not len(weight) or not weight.sum() > 0:
        return []
    share = weight / weight.sum()
    heaviest = np.argsort(-share, kind="stable")
    floor = max(DOMINANT_SHARE, DOMINANT_TIMES_EVEN / len(share))
    hits = [int(place) for place in heaviest if share[place] >= floor]
    auroc = rank_association(table.values[:, hits], table.patients.events).auroc
    leaks = [
        table.leak("dominant-coefficient", place, auroc[hit], f"{share[place]:.0%} of what the head does")
        for hit, place in enumerate(hits)
    ]
    return leaks + (_top_words(table, slopes, heaviest, set(hits)) if table.words else [])


def _deviation(values: Any) -> FloatArray:
    """Return the standard deviation of every column; 0 where it has no values."""
    if sparse.issparse(values):
        n = max(values.shape[0], 1)
        mean = values.sum(axis=0, dtype=np.float64) / n
        variance = np.maximum(values.multiply(values).sum(axis=0, dtype=np.float64) / n - mean**2, 0.0)
    else:
        there = ~np.isnan(values)
        counts = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, values, 0.0).sum(axis=0, dtype=np.float64) / counts
        variance = (np.where(there, values - mean, 0.0) ** 2).sum(axis=0) / counts
    deviation: FloatArray = np.sqrt(variance)
    return deviation


def _top_words(table: PatientTable, slopes: FloatArray, heaviest: NDArray[np.int64], known: set[int]) -> list[Leak]:
    """Report the heaviest words, if these few alone tell the outcome well."""
    top = [int(place) for place in heaviest[:TOP_WORDS] if slopes[place] != 0]
    score = np.sum([slopes[place] * table.column(place) for place in top], axis=0)
    joint, p = rank_association(score[:, None], table.patients.events)
    if joint[0] < TOP_WORDS_AUROC or not _beyond_chance(p, 1)[0]:
        return []
    auroc = rank_association(table.values[:, top], table.patients.events).auroc
    detail = f"among the {len(top)} heaviest words, which together have AUROC {joint[0]:.2f}"
    return [
        table.leak("dominant-coefficient", place, auroc[hit], detail)
        for hit, place in enumerate(top)
        if place not in known
    ]
