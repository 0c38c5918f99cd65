"""The model card: what a model is for, what it was made of, how good it is, and what nobody knows of it yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from medfusion.core.errors import UsageError
from medfusion.outputs.document import Author, Code, Document, Part, Reliability, Section, Table, Text, known
from medfusion.outputs.facts import FIGURES, Facts, estimate, figure_names, headline, table_rows, training_command

GAPS: Mapping[str, str] = {
    "owner": "who made the model, whom to ask, under which licence it may be used, and how to cite it.",
    "intended use": "which decision the risk is to inform, at which point of the care pathway, and what happens then.",
    "intended users": "who reads the risk, and what they have to know to do so.",
    "out of scope": "for whom and for what the model must not be used, beyond what is said above.",
    "groups": "which groups (age, sex, ethnicity, site, equipment) may fare differently, and what is known of that.",
    "thresholds": "at which risk somebody acts, and what a missed event and a false alarm cost.",
    "other data": "figures on patients of another time or place (medfusion evaluate MODEL COHORT); until then nobody "
    "knows how the model does elsewhere.",
    "source": "where the data come from, how patients came to be in them, who is not, and under which agreement.",
    "outcome": "how and when the outcome was determined, by whom, and up to which time after the prediction.",
    "ethics": "ethical approval and consent, and who was asked about the use of the data.",
    "harms": "what a wrong risk can do to a patient, which groups it would hit, and what is done against it.",
    "advice": "what has to be watched in use, and when the model has to be looked at again.",
}
"""What only an author can write, by the key that ``extras`` may fill, and what is wanted there."""
_Entry: TypeAlias = "str | Part | tuple[str | Callable[[Facts], Part], str]"
"""A key of `GAPS`; a part; or what is taken from the record, with what is asked of the author where it is not there."""


def model_card(record: Mapping[str, Any], extras: Mapping[str, str] | None = None) -> Document:
    """Write the card of a model from its run record.

    Sections follow Mitchell et al. [1]_; what the record does not hold is marked for the author.

    Parameters
    ----------
    record : mapping
        As card.json of a model folder holds it. ``subgroups``, a list of rows (mappings with equal keys), is shown
        where it is there.
    extras : mapping from key of `GAPS` to str, optional
        What the author says.

    Returns
    -------
    Document

    Raises
    ------
    UsageError
        If a key of ``extras`` is unknown.

    References
    ----------
    .. [1] Mitchell M et al. (2019). Model Cards for Model Reporting. Proceedings of FAT* '19.

    Examples
    --------
    >>> card = model_card({"task": "icu", "positive": "admitted to intensive care"}, {"intended users": "Nurses."})
    >>> [section.title for section in card.sections][:2]
    ['Model details', 'Intended use']
    >>> "Nurses." in card.markdown()
    True
    """
    extras, facts = extras or {}, Facts(record)
    if unknown := sorted(set(extras) - set(GAPS)):
        raise UsageError(f"a model card has no gap {', '.join(unknown)}; it has: {', '.join(GAPS)}")

    def part(entry: _Entry) -> Part:
        if isinstance(entry, str):
            return Text(extras[entry]) if entry in extras else Author(GAPS[entry])
        return known(facts, *entry) if isinstance(entry, tuple) else entry

    sections = [Section(title, [part(entry) for entry in entries]) for title, entries in _SECTIONS.items()]
    title = facts.fill("Model card: {task}") if facts.has("task") else "Model card"
    return Document(title, "What is known of this model from the run that trained it.", sections)


def _overall(facts: Facts) -> Table:
    main, results = headline(facts), facts["cross_validated"]
    contenders = [main, *(name for name in results if name != main)]
    heads = ["This model" if name == main else f"{name} alone" for name in contenders]
    rows = [
        [FIGURES[name][0], *(estimate(results[contender].get(name) or {}) for contender in contenders)]
        for name in figure_names(facts)
    ]
    return Table(["Figure (95 % interval)", *heads], rows)


def _meanings(facts: Facts) -> Table:
    return Table(["Figure", "How to read it"], [list(FIGURES[name]) for name in figure_names(facts)])


def _calibration(facts: Facts) -> Reliability:
    return Reliability(facts["cross_validated", headline(facts), "reliability"])


def _patterns(facts: Facts) -> Table:
    return Table(*table_rows(facts["cross_validated", headline(facts), "patterns"]))


def _subgroups(facts: Facts) -> Table:
    return Table(*table_rows(facts["subgroups"]))


def _hashes(facts: Facts) -> Table:
    rows = [[name, digest] for name, digest in facts["data", "tables"].items()]
    for name, each in facts.maybe_empty("data", "files").items():
        rows.append([f"{name}: {each['count']:,} files, {each['bytes']:,} bytes", each["sha256"]])
    return Table(["File", "SHA-256"], rows)


def _pictures(facts: Facts) -> Text:
    if not facts.has("check_batch"):
        return Text("The folder holds no pictures of patients.")
    counted = ", ".join(f"{count} of {name}" for name, count in facts["check_batch"].items())
    return Text(
        f"The folder holds pictures of training patients ({counted}, small), to check whether faster ways to run the "
        "network give the same risks. Delete check.json and check.safetensors before it goes where they may not."
    )


_SECTIONS: Mapping[str, Sequence[_Entry]] = {
    "Model details": [
        ("Trained {made} by medfusion {medfusion}, seed {parameters.seed}.", "when and by what the model was made"),
        ("Model id: {model_id}.", "which model this is"),
        ("{kind_of_model}", "what kind of model it is, in plain words"),
        ("It looks at: {preparation}.", "what the model looks at, and how it is prepared"),
        ("Calibration: {methods.calibration}.", "how the risks were calibrated"),
        ("Chosen by the data: {chosen}.", "which weights and hyper-parameters the data decided"),
        "owner",
    ],
    "Intended use": [
        ("It estimates the risk that this holds of a patient: {positive}.", "what the risk is a risk of"),
        ("Its output is {methods.output}.", "what the output of the model is"),
        "intended use",
        "intended users",
        Text(
            "Out of scope: diagnosis and treatment; patients unlike those of the training data; another outcome, or "
            "another moment of prediction; decisions that nobody checks; a reading of the shares of a risk as causes."
        ),
        "out of scope",
    ],
    "Factors": [
        ("Kinds of data: {presence}.", "how many samples have which kind of data"),
        ("Patients: {patients_described}.", "age and sex of the patients"),
        ("Sites: {subjects.sites}.", "how many sites the patients come from"),
        "groups",
    ],
    "Metrics": [
        (_meanings, "which figures tell how good the model is"),
        ("Intervals of figures: {intervals}.", "how the intervals of figures were made"),
        ("The interval of a single risk comes {methods.interval}.", "how the interval of a risk is made"),
        "thresholds",
    ],
    "Evaluation data": [
        (
            "Internal validation only: {folds}-fold cross-validation on the training cohort, divided by patient. Each "
            "patient is judged by a model that has not seen any of their data.",
            "on which data the model was evaluated",
        ),
        "other data",
    ],
    "Training data": [
        ("Cohort {cohort}: {counts}.", "what the model was trained on, with counts"),
        ("What the cohort says of itself: {description}", "a description of the cohort"),
        ("Predictions are made from {prediction_times.first} to {prediction_times.last}.", "from when the data are"),
        ("Of the cohort folder, {left_out}.", "what was left out, and why"),
        "source",
        "outcome",
    ],
    "Quantitative analyses": [
        (_overall, "how good the model is, with intervals"),
        Text("Calibration: what happened, against what was predicted, in groups of equal size."),
        (_calibration, "whether risks are as high as what happens"),
        Text("By which kinds of data were there; a row of too few samples has no figures."),
        (_patterns, "how good the model is where some kind of data is missing"),
        Text("By group of patients."),
        (_subgroups, "how good the model is in groups of patients (sex, age, site), with counts and intervals"),
    ],
    "Ethical considerations": [
        Text(
            "The data are of patients. The model folder holds no identifiers, but salted hashes of them, and its "
            "vocabulary holds words from notes where there were any: treat it as the notes are treated."
        ),
        (_pictures, "whether pictures of patients are in the folder"),
        "ethics",
        "harms",
    ],
    "Caveats and recommendations": [
        (
            "The figures rest on {patients_with_event} patients with the event, in one cohort; nothing is known yet of "
            "other places and times, nor of whether the use of the model helps anybody.",
            "what the figures rest on",
        ),
        ("Missing: {methods.missing_modalities}; {methods.missing_values}.", "what happens where data are missing"),
        ("Data that cannot be used: {methods.unusable_input}.", "what happens to data that cannot be used"),
        Text(
            "Uncertainty: every risk has an interval; it tells how far the model is settled, not what the data never "
            "showed. Data unlike the training are flagged out-of-domain where that can be measured. Shares of a risk "
            "say what the model made of the data, not what causes the outcome."
        ),
        "advice",
    ],
    "How to reproduce": [
        Text("This trains the model again from its record, and compares the risks of the two:"),
        Code("medfusion reproduce MODEL COHORT"),
        Text("It was trained by:"),
        (lambda facts: Code(training_command(facts)), "how the model was trained"),
        ("With {versions}.", "which versions of which software"),
        (_hashes, "which files exactly"),
    ],
}
