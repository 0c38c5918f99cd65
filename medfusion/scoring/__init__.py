"""Scoring a whole cohort: divided by patient, streamed through stages, journalled, on one machine or many."""

from medfusion.scoring.contents import FileContents, input_hashes
from medfusion.scoring.divide import Division, divide
from medfusion.scoring.engines import Engine, LocalEngine, RayEngine, Scorer
from medfusion.scoring.journal import TABLES, Counts, Journal, Kept
from medfusion.scoring.monitor import JsonLog, Monitor, Monitors, PartResult, Textfile, Tracked
from medfusion.scoring.stages import Stage, Stages

__all__ = [
    "TABLES",
    "Counts",
    "Division",
    "Engine",
    "FileContents",
    "Journal",
    "JsonLog",
    "Kept",
    "LocalEngine",
    "Monitor",
    "Monitors",
    "PartResult",
    "RayEngine",
    "Scorer",
    "Stage",
    "Stages",
    "Textfile",
    "Tracked",
    "divide",
    "input_hashes",
]
