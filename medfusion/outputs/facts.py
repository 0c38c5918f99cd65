"""What a run record says, in sentences and rows. A fact that is not there raises `Absent`; nothing is made up."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from medfusion.core.errors import MedfusionError
from medfusion.outputs.page import number_text

KINDS: Mapping[str, str] = {
    "late": "Late fusion. Each kind of data is turned into a log-odds by itself; the risk is a base rate plus the "
    "weighted sum of these, so that a kind of data which is not there adds nothing.",
    "gated": "Gated late fusion. Each kind of data is turned into a log-odds by itself; how much each counts in their "
    "sum depends on which others are there and on how sure each is.",
    "early": "Early fusion. The features of all kinds of data, with marks for what is not there, enter one model "
    "together.",
    "joint": "Joint fusion. A small network with attention between the kinds of data looks at all of them together; in "
    "training, whole kinds were hidden at random so that it answers from any subset.",
}
"""The kinds of fusion, for somebody who does not build models."""
FIGURES: Mapping[str, tuple[str, str]] = {
    "auroc": ("AUROC", "how often somebody with the event has the higher risk; 0.5 is chance, 1 perfect"),
    "auprc": ("AUPRC", "precision, averaged over sensitivities; chance is the prevalence"),
    "brier": ("Brier score", "mean squared error of the risks; 0 is perfect"),
    "brier_skill": ("Brier skill", "Brier score against telling everybody the prevalence; 0 is no better"),
    "ece": ("ECE", "mean gap between predicted and observed, in groups of equal size; 0 is perfect"),
    "ece_debiased": ("ECE, debiased", "ECE less what the noise within groups explains"),
    "ece_chance": ("ECE by chance", "the ECE of a perfectly calibrated model with these risks"),
    "calibration_slope": ("Calibration slope", "1 is perfect; below 1, risks are too extreme"),
    "calibration_intercept": ("Calibration intercept", "0 is perfect; below 0, risks are too high on the whole"),
}
"""Figures by their name in a record: what they are called, and how to read them."""
_DIGITS = 12
_FIELD = re.compile(r"\{([\w.]+)\}")
_EMPTY: tuple[Any, ...] = ("", {}, [], ())


class Absent(MedfusionError):
    """The run record does not hold a fact."""


class Facts:
    """A run record that keeps note of what was taken from it.

    Parameters
    ----------
    record : mapping
        JSON values.

    Attributes
    ----------
    used : list of tuple of str
        Where the facts stood that were found, as paths of keys.

    Examples
    --------
    >>> facts = Facts({"parameters": {"seed": 0}})
    >>> facts["parameters", "seed"], facts.used
    (0, [('parameters', 'seed')])
    >>> facts["parameters", "task"]
    Traceback (most recent call last):
    medfusion.outputs.facts.Absent: parameters.task
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record
        self.used: list[tuple[str, ...]] = []

    def __getitem__(self, path: str | tuple[str, ...]) -> Any:
        path = (path,) if isinstance(path, str) else path
        if not self.has(*path):
            raise Absent(".".join(path))
        return self.maybe_empty(*path)

    def maybe_empty(self, *path: str) -> Any:
        """Return a fact that may be an empty list, mapping or text, such as the settings of a user who set none."""
        value = self._find(path)
        if value is None:
            raise Absent(".".join(path))
        self.used.append(path)
        return value

    def has(self, *path: str) -> bool:
        """Say whether there is a fact, without taking it."""
        return self._find(path) not in (None, *_EMPTY)

    def fill(self, template: str) -> str:
        """Fill a sentence: ``{name}`` is one of the `PHRASES`, or a fact, with dots between the keys of its path.

        Examples
        --------
        >>> Facts({"samples": 1200, "parameters": {"seed": 0}}).fill("{samples} samples, seed {parameters.seed}")
        '1,200 samples, seed 0'
        """

        def filled(field: re.Match[str]) -> str:
            name = field[1]
            return PHRASES[name](self) if name in PHRASES else number_text(self[tuple(name.split("."))])

        return _FIELD.sub(filled, template)

    def _find(self, path: tuple[str, ...]) -> Any:
        value: Any = self._record
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def counts(facts: Facts) -> str:
    """Say how many samples, patients and events there are."""
    samples, events = facts["samples"], facts["events"]
    of_patients = f"{facts['patients']:,} patients, {facts['patients_with_event']:,} of them with the event"
    return f"{samples:,} samples of {of_patients}; {events:,} samples ({100 * events / samples:.1f} %) have the event"


def left_out(facts: Facts) -> str:
    """Say what of the cohort folder could not be used, by code."""
    if facts["left_out"] == 0:
        return "nothing was left out"
    return f"{facts['left_out']:,} records or files were left out ({listed(facts['left_out_by_code'])})"


def listed(counted: Mapping[str, int]) -> str:
    """Write counts by name.

    Examples
    --------
    >>> listed({"bad-time": 3, "not-dicom": 1})
    'bad-time 3, not-dicom 1'
    """
    return ", ".join(f"{name} {n:,}" for name, n in counted.items())


def presence(facts: Facts) -> str:
    """Say how many samples have each modality."""
    samples = facts["samples"]
    with_it = {name: facts["modalities", name, "samples"] for name in facts["modalities"]}
    said = [f"{name} for {n:,} of {samples:,} samples ({100 * n / samples:.1f} %)" for name, n in with_it.items()]
    return ", ".join(said)


def preparation(facts: Facts) -> str:
    """Say how the data of each modality were prepared, in the terms of the software."""
    known = {name: facts["modalities", name, "identity"] for name in facts["modalities"]}
    said = [f"{name} ({'; '.join(f'{key}: {value}' for key, value in each.items())})" for name, each in known.items()]
    return ", ".join(said)


def patients_described(facts: Facts) -> str:
    """Describe age and sex, where known."""
    said = []
    if facts.has("subjects", "age_years"):
        median, low, high, unknown = (facts["subjects", "age_years", key] for key in ("median", "q1", "q3", "unknown"))
        said.append(
            f"age in years: median {median:g}, quartiles {low:g} and {high:g}, unknown for {unknown:,} patients"
        )
    if facts.has("subjects", "sex"):
        said.append(f"sex: {listed(facts['subjects', 'sex'])} patients")
    if not said:
        raise Absent("subjects")
    return "; ".join(said)


def kind_of_model(facts: Facts) -> str:
    """Say in plain words what kind of model it is."""
    if facts["parameters", "fusion"] not in KINDS:
        raise Absent("parameters.fusion")
    return KINDS[facts["parameters", "fusion"]]


def by_fold(facts: Facts) -> str:
    """Say who is in which fold."""
    each = facts["by_fold"]
    said = [
        f"{fold['samples']:,} samples of {fold['patients']:,} patients with {fold['events']:,} events" for fold in each
    ]
    return "; ".join(said)


def headline(facts: Facts) -> str:
    """Return the contender whose figures are those of the model: all modalities together, or the only one."""
    results = facts["cross_validated"]
    names = ["fused"] if "fused" in results else list(results)
    if len(names) != 1:
        raise Absent("cross_validated.fused")
    return names[0]


def estimate(figure: Mapping[str, Any], digits: int = 3) -> str:
    """Write a figure with its interval, or why there is none.

    Examples
    --------
    >>> estimate({"value": 0.8661, "low": 0.8312, "high": 0.9021, "note": ""})
    '0.866 (0.831 to 0.902)'
    >>> estimate({"value": None, "low": None, "high": None, "note": "too few"})
    'too few'
    """
    if figure.get("value") is None:
        return str(figure.get("note") or "cannot be told")
    value = f"{figure['value']:.{digits}f}"
    if figure.get("low") is None or figure.get("high") is None:
        return f"{value} ({figure['note']})" if figure.get("note") else value
    return f"{value} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"


def figure_names(facts: Facts) -> list[str]:
    """Return the figures that a record has of the model, in the order in which they are told."""
    main = headline(facts)
    names = [name for name in FIGURES if facts.has("cross_validated", main, name)]
    if not names:
        raise Absent(f"cross_validated.{main}")
    return names


def figures(facts: Facts) -> str:
    """Say how good the model is, with intervals."""
    main = headline(facts)
    said = [f"{FIGURES[name][0]} {estimate(facts['cross_validated', main, name])}" for name in figure_names(facts)]
    return "; ".join(said)


def measures(facts: Facts) -> str:
    """Name the figures."""
    main = headline(facts)
    return "; ".join(FIGURES[name][0] for name in figure_names(facts) if facts["cross_validated", main, name])


def alone(facts: Facts) -> str:
    """Say how good each modality is by itself; nothing where there is only one."""
    main = headline(facts)
    others = [name for name in facts["cross_validated"] if name != main]
    said = [f"{name} alone: AUROC {estimate(facts['cross_validated', name, 'auroc'])}" for name in others]
    return f"; {'; '.join(said)}" if said else ""


def by_pattern(facts: Facts) -> str:
    """Say how good the model is by which modalities were there, where there are enough samples."""
    rows = facts["cross_validated", headline(facts), "patterns"]
    said = [
        f"{row['pattern']} (n = {row['n']:,}): AUROC "
        + estimate({"value": row["auroc"], "low": row["auroc_low"], "high": row["auroc_high"]})
        for row in rows
        if row["auroc"] is not None
    ]
    return "; ".join(said) if said else "no pattern has enough samples of both classes"


def intervals(facts: Facts) -> str:
    """Say how the intervals of the figures were made."""
    return str(facts["cross_validated", headline(facts), "intervals"])


def chosen(facts: Facts) -> str:
    """Say what the data decided: weights, hyper-parameters."""
    return "; ".join(f"{name}: {_plain(value)}" for name, value in facts["chosen"].items())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def by_subgroup(facts: Facts) -> str:
    """Say how good the model is in groups of patients, group after group."""
    said = [
        ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in row.items())
        for row in facts["subgroups"]
    ]
    return "; ".join(said)


def offered(facts: Facts) -> str:
    """Say which kinds of data the model could use, and who chose them."""
    names, only = ", ".join(facts["modalities"]), facts.maybe_empty("parameters", "only")
    if only:
        return f"Of all kinds of data, these were chosen by hand: {', '.join(only)}; within them no predictor was."
    return f"All that is recorded of {names} was offered; no predictor was chosen by hand."


def file_digests(facts: Facts) -> str:
    """Name the files with the first digits of their SHA-256; the model card has all digits."""
    said = [f"{name} {digest[:_DIGITS]}…" for name, digest in facts["data", "tables"].items()]
    for name, each in facts.maybe_empty("data", "files").items():
        said.append(f"{name} ({each['count']:,} files) {each['sha256'][:_DIGITS]}…")
    return ", ".join(said)


def versions(facts: Facts) -> str:
    """Name the software."""
    libraries = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"medfusion {facts['medfusion']}, Python {facts['python']}, {libraries}"


def training_command(facts: Facts) -> str:
    """Return the command that trains the model."""
    words = ["medfusion", "train", "COHORT", "--task", facts["parameters", "task"]]
    words += ["--fusion", facts["parameters", "fusion"], "--seed", str(facts["parameters", "seed"])]
    for name in facts.maybe_empty("parameters", "only"):
        words += ["--only", name]
    for modality, each in facts.maybe_empty("parameters", "settings").items():
        for key, value in each.items():
            words += ["--set", f"{modality}.{key}={value}"]
    return shlex.join([*words, "--out", "MODEL"])


def table_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[Sequence[str], list[list[Any]]]:
    """Return columns and rows of a table that stands in a record as a list of rows."""
    rows = list(rows)
    columns = list(rows[0])
    return [column.replace("_", " ") for column in columns], [[row.get(column) for column in columns] for row in rows]


PHRASES: Mapping[str, Callable[[Facts], str]] = {
    each.__name__: each
    for each in (
        counts,
        left_out,
        presence,
        preparation,
        patients_described,
        kind_of_model,
        by_fold,
        headline,
        figures,
        measures,
        alone,
        by_pattern,
        intervals,
        by_subgroup,
        offered,
        file_digests,
        chosen,
        versions,
        training_command,
    )
}
"""What a template may ask for by name, besides single facts."""
