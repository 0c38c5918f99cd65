"""Train, compare, evaluate, recalibrate, score, explain, watch: the only package that knows all stages."""

from medfusion.pipeline.assess import Assessment, evaluate_model
from medfusion.pipeline.check import validate
from medfusion.pipeline.compare import compare
from medfusion.pipeline.data import Settings, Track, build_modalities
from medfusion.pipeline.demo import Demo, run_demo
from medfusion.pipeline.drift import drift
from medfusion.pipeline.model import Predictions, RiskModel
from medfusion.pipeline.model_folder import load_for, load_model
from medfusion.pipeline.parts import Options
from medfusion.pipeline.patient import Changes, Desk, Patient, run_fingerprints
from medfusion.pipeline.recalibrate import Recalibrated, recalibrate
from medfusion.pipeline.reproduce import Reproduction, reproduce
from medfusion.pipeline.score import Scoring, plan, score, watch
from medfusion.pipeline.scored import ScoreFiles, open_scores, scored_at, scores_changed
from medfusion.pipeline.similar import Similar, TrainingCohort
from medfusion.pipeline.train import Training, train
from medfusion.pipeline.use import Opened, explain, open_for_use
from medfusion.pipeline.worth import Worth

__all__ = [
    "Assessment",
    "Changes",
    "Demo",
    "Desk",
    "Opened",
    "Options",
    "Patient",
    "Predictions",
    "Recalibrated",
    "Reproduction",
    "RiskModel",
    "ScoreFiles",
    "Scoring",
    "Settings",
    "Similar",
    "Track",
    "Training",
    "TrainingCohort",
    "Worth",
    "build_modalities",
    "compare",
    "drift",
    "evaluate_model",
    "explain",
    "load_for",
    "load_model",
    "open_for_use",
    "open_scores",
    "plan",
    "recalibrate",
    "reproduce",
    "run_demo",
    "run_fingerprints",
    "score",
    "scored_at",
    "scores_changed",
    "train",
    "validate",
    "watch",
]
