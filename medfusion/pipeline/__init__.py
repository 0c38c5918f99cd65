"""Train, evaluate, score, explain: the only package that knows all stages."""

from medfusion.pipeline.check import validate
from medfusion.pipeline.data import Settings, Track, build_modalities
from medfusion.pipeline.demo import Demo, run_demo
from medfusion.pipeline.model import Predictions, RiskModel, load_model
from medfusion.pipeline.train import Training, train
from medfusion.pipeline.use import Opened, Scoring, evaluate_model, explain, open_for_use, score

__all__ = [
    "Demo",
    "Opened",
    "Predictions",
    "RiskModel",
    "Scoring",
    "Settings",
    "Track",
    "Training",
    "build_modalities",
    "evaluate_model",
    "explain",
    "load_model",
    "open_for_use",
    "run_demo",
    "score",
    "train",
    "validate",
]
