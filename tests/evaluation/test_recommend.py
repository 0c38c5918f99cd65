import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfusion.evaluation.paired import AurocDifference, delong
from medfusion.evaluation.recommend import Cost, Expected, recommend

BOTH = ("imaging", "ehr")
MODALITIES = {"imaging": ("imaging",), "ehr": ("ehr",), "late": BOTH, "gated": BOTH, "early": BOTH, "joint": BOTH}
ORDER = [("imaging", "ehr"), "late", "gated", "early", "joint"]


def contest(errors=0.01, expected=None, **areas):
    """A recommendation from AUROCs and the standard error of their differences to each other."""

    def difference(first, second):
        value = areas[first] - areas[second]
        error = errors.get(second, errors.get(first, 0.01)) if isinstance(errors, dict) else errors
        p = math.erfc(abs(value) / error / math.sqrt(2)) if error > 0 else math.nan
        reach = 1.96 * error
        return AurocDifference(value, error, value / error if error else math.nan, p, value - reach, value + reach)

    order = [level if level in areas else tuple(name for name in level if name in areas) for level in ORDER]
    order = [level for level in order if level and (not isinstance(level, str) or level in areas)]
    costs = {"late": Cost(12.4, 0.8, 19), "joint": Cost(340, 12, 40)}
    return recommend(areas, difference, order, MODALITIES, costs, expected)


def test_a_tie_goes_to_the_single_modality_and_the_first_sentence_says_so():
    found = contest(imaging=0.862, ehr=0.73, late=0.861, joint=0.868)
    assert (found.name, found.best) == ("imaging", "joint")
    assert found.verdict == (
        "Fusion does not beat imaging alone here beyond chance: AUROC 0.868 (joint) against 0.862, "
        "a difference of 0.006 (95 % interval -0.014 to 0.026, p = 0.55)."
    )
    assert found.sentences[1] == (
        "Recommended: imaging alone, the simplest contender whose AUROC (0.862) is within one standard error (0.010) "
        "of that of the best, joint (0.868)."
    )


def test_fusion_that_is_worse_is_said_not_to_beat_and_the_best_is_single():
    found = contest(imaging=0.871, ehr=0.734, late=0.866)
    assert (found.name, found.best) == ("imaging", "imaging")
    assert found.verdict.startswith("Fusion does not beat imaging alone here: AUROC 0.866 (late) against 0.871")
    assert found.sentences[1] == "Recommended: imaging alone, which has the highest AUROC (0.871)."


def test_an_interaction_makes_it_joint_and_says_what_late_lacks():
    found = contest(imaging=0.70, ehr=0.72, late=0.78, joint=0.83)
    assert (found.name, found.best) == ("joint", "joint")
    assert found.verdict.startswith("Fusion beats ehr alone here: AUROC 0.830 (joint) against 0.720, a difference of")
    assert found.verdict.endswith("0.110 (95 % interval 0.090 to 0.130, p < 0.001).")
    assert found.sentences[2] == (
        "Simpler contenders fall short of the best by more than one standard error (in brackets): "
        "late by 0.050 (0.010), ehr alone by 0.110 (0.010), imaging alone by 0.130 (0.010)."
    )
    assert found.reason.endswith("It takes 340 s to train, 12 ms to score a patient and 40 MB.")


def test_the_simplest_within_one_standard_error_is_taken_with_what_the_best_would_cost():
    found = contest(imaging=0.80, ehr=0.81, late=0.861, gated=0.865, early=0.86, joint=0.869)
    assert (found.name, found.best) == ("late", "joint")
    assert found.sentences[-1] == (
        "It takes 12 s to train, 0.8 ms to score a patient and 19 MB; "
        "joint would take 340 s to train, 12 ms to score a patient and 40 MB."
    )


def test_equally_simple_contenders_are_told_apart_by_their_auroc():
    assert contest(imaging=0.860, ehr=0.865, late=0.867).name == "ehr"


def test_the_standard_error_is_that_of_the_difference_to_the_best():
    areas = {"imaging": 0.85, "late": 0.86, "joint": 0.87}
    assert contest({"imaging": 0.03, "late": 0.005}, **areas).name == "imaging"
    assert contest({"imaging": 0.015, "late": 0.012}, **areas).name == "late"
    assert contest({"imaging": 0.015, "late": 0.005}, **areas).name == "joint"


def test_exactly_one_standard_error_is_within_it():
    assert contest(0.0078125, imaging=0.859375, late=0.8671875).name == "imaging"


def test_near_twins_are_not_told_apart_by_a_tiny_standard_error():
    found = contest({"late": 1e-6, "gated": 1e-6, "imaging": 0.02}, imaging=0.80, late=0.867, gated=0.870)
    assert (found.name, found.best) == ("late", "gated")
    assert "is less than 0.005 below that of the best, gated (0.870)" in found.sentences[1]


def test_a_standard_error_of_zero_does_not_hide_a_real_lead():
    events = np.arange(40) < 20
    scores = {"imaging": np.full(40, 0.5), "late": 1.0 - np.arange(40) / 40}
    ids = [str(number) for number in range(40)]
    found = recommend(
        {"imaging": 0.5, "late": 1.0},
        lambda first, second: delong(events, scores[first], scores[second], ids),
        ["imaging", "late"],
        MODALITIES,
    )
    assert found.name == "late"
    assert found.verdict.startswith(
        "Whether fusion beats imaging alone cannot be told from these patients: AUROC 1.000"
    )


def test_records_that_are_to_be_expected_are_named_and_so_is_what_holds_for_those_of_the_cohort():
    as_they_are = {"imaging": 0.869, "ehr": 0.763, "late": 0.868, "joint": 0.8704}
    found = contest(expected=Expected(0.5, as_they_are), imaging=0.744, ehr=0.64, late=0.783, joint=0.781)
    assert found.name == "late"
    assert found.verdict.startswith("Fusion beats imaging alone where 50 % of each modality is missing: AUROC 0.783")
    assert found.sentences[2] == (
        "This is for records of which 50 % of each modality is missing at random, as is expected where the model is "
        "used. On the records as they are, late has an AUROC of 0.868, and the best, joint, 0.870."
    )


def test_where_the_recommended_is_the_best_on_the_records_as_they_are_too_that_is_said():
    found = contest(expected=Expected(0.05, {"imaging": 0.86, "late": 0.87}), imaging=0.80, late=0.79)
    assert found.verdict.startswith("Fusion does not beat imaging alone where 5 % of each modality is missing: AUROC")
    assert found.sentences[2].endswith("imaging alone has an AUROC of 0.860, and the best, late, 0.870.")
    found = contest(expected=Expected(0.05, {"imaging": 0.88, "late": 0.87}), imaging=0.80, late=0.79)
    assert found.sentences[2].endswith("imaging alone has an AUROC of 0.880, the highest.")


def test_too_few_patients_to_tell_leave_the_simplest():
    found = contest(math.nan, imaging=0.7, late=0.9)
    assert found.name == "imaging"
    assert "not told apart, for want of patients, from that of the best, late (0.900)" in found.sentences[1]


@pytest.mark.parametrize(
    ("areas", "lacking"),
    [({"late": 0.8, "joint": 0.9}, "a single modality"), ({"imaging": 0.8, "ehr": 0.9}, "more than one modality")],
)
def test_without_both_kinds_of_contender_the_first_sentence_says_what_is_lacking(areas, lacking):
    verdict = contest(**areas).verdict
    assert verdict == f"Whether fusion pays cannot be told here: no contender rests on {lacking}."


def test_an_order_that_names_other_contenders_is_refused():
    with pytest.raises(ValueError, match=r"the order names \['late'\], and the contenders are \['early', 'late'\]"):
        recommend({"late": 0.8, "early": 0.8}, lambda *_: None, ["late"], MODALITIES)
    with pytest.raises(ValueError, match=r"which modalities these contenders rest on: \['stack'\]"):
        recommend({"stack": 0.8}, lambda *_: None, ["stack"], MODALITIES)


@given(
    st.lists(st.floats(0.5, 1.0), min_size=6, max_size=6),
    st.floats(0.0001, 0.1),
)
def test_the_recommended_is_never_less_simple_than_the_best_nor_far_below(values, error):
    areas = dict(zip(MODALITIES, values, strict=True))
    found = contest(error, **areas)
    names = list(MODALITIES)
    if found.name != found.best:
        assert areas[found.best] == max(values)
        assert areas[found.best] - areas[found.name] <= max(error, 0.005) + 1e-9
        complexity = [0, 0, 1, 2, 3, 4]
        assert complexity[names.index(found.name)] <= complexity[names.index(found.best)]
    assert found.verdict.startswith("Fusion ")
