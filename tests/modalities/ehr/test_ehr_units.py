"""Units: what converts, and what is refused."""

import pytest

from medfusion.modalities.ehr.units import conversion

# Factors from the definitions of the units: 1 kPa = 7.50062 mm[Hg], 1 [lb_av] = 0.45359237 kg, 1 [in_i] = 2.54 cm.
EXACT = [
    ("[degF]", "Cel", 98.6, 37.0),
    ("K", "Cel", 310.15, 37.0),
    ("kPa", "mm[Hg]", 10.0, 75.0062),
    ("g/L", "g/dL", 120.0, 12.0),
    ("mg/L", "mg/dL", 50.0, 5.0),
    ("10*9/L", "10*3/uL", 7.2, 7.2),
    ("umol/L", "mmol/L", 900.0, 0.9),
    ("%", "1", 40.0, 0.4),
    ("[lb_av]", "kg", 150.0, 68.0388555),
    ("[in_i]", "cm", 70.0, 177.8),
    ("L", "mL", 1.5, 1500.0),
    ("{beats}/min", "/min", 80.0, 80.0),
    ("h", "d", 36.0, 1.5),
]
REFUSED = [
    ("mg/dL", "mmol/L"),  # needs a molar mass
    ("meq/L", "mmol/L"),  # needs a valence
    ("mosm/L", "mmol/L"),
    ("[IU]/L", "U/L"),  # needs an assay
    ("[IU]/L", "/L"),
    ("[CFU]/mL", "/mL"),
    ("[drp]", "mL"),
    ("Mg/dL", "mg/dL"),  # a megagram, but hardly meant
    ("pg/mL", "Pg/mL"),
    ("ML", "L"),
    ("dB", "1"),  # logarithmic
    ("mmHg", "mm[Hg]"),  # no UCUM
    ("C", "Cel"),  # coulomb
    ("K/uL", "10*3/uL"),  # kelvin
    ("{score}", "1"),
    ("[pH]", "1"),
    ("", "1"),
    ("nonsense", "mg/dL"),
]


@pytest.mark.parametrize(("unit", "target", "value", "expected"), EXACT)
def test_units_that_convert_exactly_are_converted(unit, target, value, expected):
    factor, offset = conversion(unit, target)
    assert factor * value + offset == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("unit", "target"), REFUSED)
def test_units_that_need_more_than_themselves_are_refused(unit, target):
    assert conversion(unit, target) is None


@pytest.mark.parametrize("unit", ["", "{score}", "no unit at all", "meq/L"])
def test_a_unit_converts_to_itself_whatever_it_is(unit):
    assert conversion(unit, unit) == (1.0, 0.0)
