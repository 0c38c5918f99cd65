"""The tables that the cohort stage itself reads: labels and subjects."""

from __future__ import annotations

from medfusion.core.schema import Column, TableSchema

LABELS = TableSchema(
    "labels",
    "One row per prediction: who, seen from when, with what outcome (labels/<task>.csv, as in MEDS labels).",
    (
        Column("subject_id", "string", "The patient."),
        Column("prediction_time", "time", "The moment of the prediction; nothing recorded later is used."),
        Column("boolean_value", "boolean", "The outcome; empty where it is to be predicted.", nullable=True),
    ),
    other_columns="any",
)
SUBJECTS = TableSchema(
    "subjects",
    "One row per patient: facts without a time. Further columns may be numbers or text.",
    (
        Column("subject_id", "string", "The patient."),
        Column("sex", "string", "Sex, such as M or F.", required=False, nullable=True),
        Column("age_years", "number", "Age in years, where there is no birth_date.", required=False, nullable=True),
        Column(
            "birth_date",
            "date",
            "Day of birth; becomes age_years at the prediction time.",
            required=False,
            nullable=True,
        ),
    ),
    other_columns="any",
)
TABLES = (LABELS, SUBJECTS)
