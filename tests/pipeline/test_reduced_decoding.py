"""Films decoded no further than needed give the risk of films decoded in full."""

from dataclasses import replace

import numpy as np
import pytest

from medfusion.modalities.imaging.geometry import letterbox
from medfusion.modalities.imaging.payload import Films
from medfusion.modalities.imaging.pixels import decode, load
from medfusion.pipeline import open_for_use, train


@pytest.mark.shared
@pytest.mark.parametrize(("size", "most"), [(160, 0.06), (224, 0.01), (320, 0.01)])
def test_the_risk_of_real_films_is_near_that_of_films_decoded_in_full(shared, tmp_path, cache, size, most):
    # Of the films, which have up to 768 pixels, those for a network of 160 are reduced while they are decoded.
    cohort = shared / "cohorts" / "covid-cxr"
    train(cohort, tmp_path, "icu", settings={"imaging": {"size": str(size)}}, only=["imaging"], cache=cache)
    opened = open_for_use(tmp_path, cohort, cache)
    subjects = [sample.subject_id for sample in opened.cohort.samples]
    reduced, payloads = opened.predict(opened.cohort.samples, lambda _stage, _total: lambda _done: None)
    backbone = opened.model.modalities["imaging"]._reader.backbone

    def in_full(film):
        maps = backbone.maps(letterbox(decode(load(film.source)), size))
        return replace(film, embedding=maps.mean(axis=(1, 2)))

    films = [None if each is None else Films(tuple(map(in_full, each.films))) for each in payloads["imaging"]]
    full = opened.model.predict(subjects, {"imaging": films})
    change = np.abs(full.risk - reduced.risk).max()
    assert change < most
    assert (change > 1e-4) == (size == 160)
