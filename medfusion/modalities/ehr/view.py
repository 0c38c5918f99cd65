"""What a screen shows of a payload."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from medfusion.core.types import FeatureShare
from medfusion.core.views import Series, SeriesView
from medfusion.modalities.ehr.encoder import AVERAGE
from medfusion.modalities.ehr.facts import level_of
from medfusion.modalities.ehr.payload import EhrPayload
from medfusion.modalities.ehr.summary import STATISTICS


def view_of(payload: EhrPayload, shares: Sequence[FeatureShare]) -> SeriesView:
    """Show values over time, with the sum of the shares of each code's features.

    Parameters
    ----------
    payload : EhrPayload
    shares : sequence of FeatureShare
        As from `encoder.EhrEncoder.explain`; may be empty.

    Returns
    -------
    SeriesView
        Series and facts are sorted by the size of their share. What has no curve stands among the facts: facts about
        the subject, codes without values, and codes that were not recorded but have a share.
    """
    by_code, of_facts = _shares(shares)
    series, facts = [], []
    for place in payload.codes.tolist():
        code, unit = payload.vocabulary.codes[place], payload.vocabulary.units[place]
        mine = payload.event_codes == place
        valued = mine & ~np.isnan(payload.values)
        share = by_code.pop(code, 0.0)
        if valued.any():
            times = [payload.as_of - timedelta(hours=hours) for hours in payload.hours_before[valued].tolist()]
            values = payload.values[valued].tolist()
            reference = payload.vocabulary.ranges.get(code)
            low, high = (None, None) if reference is None else reference.ends(unit)
            series.append(Series(code, unit, times, values, share, low, high))
        else:
            facts.append((code, _occurrences(payload.hours_before[mine].tolist()), share))
    facts += [(name, level_of(fact) or "", of_facts.pop(name, 0.0)) for name, fact in payload.facts.items()]
    missing = {**by_code, **of_facts}
    facts += [(name, "not recorded", share) for name, share in missing.items() if share]
    series.sort(key=lambda one: -abs(one.share))
    facts.sort(key=lambda fact: -abs(fact[2]))
    return SeriesView("Health record", series, facts, payload.as_of)


def _shares(lines: Sequence[FeatureShare]) -> tuple[dict[str, float], dict[str, float]]:
    """Sum shares by code, and by fact."""
    by_code: dict[str, float] = {}
    of_facts: dict[str, float] = {}
    for line in lines:
        name, _, statistic = line.feature.rpartition(" ")
        if statistic in STATISTICS and name:
            by_code[name] = by_code.get(name, 0.0) + line.share
        elif line.feature != AVERAGE:
            of_facts[line.feature] = of_facts.get(line.feature, 0.0) + line.share
    return by_code, of_facts


def _occurrences(hours_before: Sequence[float]) -> str:
    """Say how often and when.

    Examples
    --------
    >>> _occurrences([30.0, 1.5])
    '2 times, last 1.5 h before'
    """
    times = "once" if len(hours_before) == 1 else f"{len(hours_before)} times, last"
    return f"{times} {min(hours_before):.3g} h before"
