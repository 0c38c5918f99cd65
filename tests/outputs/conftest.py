import math
from datetime import datetime

import pytest

from medfusion.core.types import Explanation, FeatureShare
from medfusion.outputs.ledger import RiskReport


@pytest.fixture
def report():
    """Return a report with two modalities that are there and one that is not."""
    by_feature = {
        "imaging": [
            FeatureShare("right lower zone", None, 0.62),
            FeatureShare("left upper zone", None, -0.09),
            FeatureShare("left lower zone", None, 0.12),
            FeatureShare("average film", None, -0.06),
        ],
        "ehr": [
            FeatureShare("lactate, last", 4.7, 0.81),
            FeatureShare("age", 71.0, 0.37),
            FeatureShare("oxygen saturation, minimum", 86.0, 0.28),
            FeatureShare("sodium, last", 139.0, -0.14),
            FeatureShare("platelets, last", None, -0.07),
        ],
    }
    by_modality = {name: math.fsum(line.share for line in lines) for name, lines in by_feature.items()} | {"notes": 0.0}
    base = -1.83
    ledger = Explanation(base, by_modality, by_feature, base + math.fsum(by_modality.values()))
    present = {"imaging": True, "ehr": True, "notes": False}
    when = datetime(2020, 3, 14, 9, 30)
    return RiskReport("C42", when, ledger, 0.29, 0.63, present, {}, ["few-labs"], "m1", seen_in_training=False)
