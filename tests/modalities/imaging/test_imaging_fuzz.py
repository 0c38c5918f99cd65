"""Damaged files end in a verdict: no exception, no hang, no memory beyond the limit."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from mutations import MUTATIONS, Outcome, generated_seeds, mutate, outcome_of

from medfusion.modalities.imaging.pool import MEMORY_LIMIT_BYTES, TIME_LIMIT_S, Decoders

FILES = 500


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Outcome]:
    """Return what became of each damaged file, by number."""
    folder = tmp_path_factory.mktemp("damaged")
    seeds = list(generated_seeds().values())

    def trial(number: int) -> Outcome:
        rng = np.random.default_rng([1, number])
        path = Path(folder, f"{number}.dcm")
        path.write_bytes(mutate(seeds[int(rng.integers(len(seeds)))], rng)[1])
        return outcome_of(path, decoders)

    with pytest.MonkeyPatch.context() as patch, Decoders(workers=2) as decoders, ThreadPoolExecutor(2) as pool:
        # What pydicom remarks on damaged files is not the question here.
        patch.setattr("warnings.showwarning", lambda *_: None)
        patch.setattr("warnings.filters", [("ignore", None, Warning, None, 0)])
        return dict(enumerate(pool.map(trial, range(FILES))))


def test_every_damaged_file_ends_in_a_verdict(outcomes: dict[int, Outcome]) -> None:
    assert {number: outcome for number, outcome in outcomes.items() if outcome.crashed} == {}
    assert len(outcomes) == FILES


def test_no_damaged_file_takes_longer_than_its_limit(outcomes: dict[int, Outcome]) -> None:
    slowest = max(outcomes.values(), key=lambda outcome: outcome.header_s)
    assert slowest.header_s < TIME_LIMIT_S
    # A worker that was ended, and a new one, take a moment more.
    slowest = max(outcomes.values(), key=lambda outcome: outcome.pixels_s)
    assert slowest.pixels_s < TIME_LIMIT_S + 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_no_worker_takes_more_memory_than_it_may(outcomes: dict[int, Outcome]) -> None:
    assert 2**26 < max(outcome.workers_peak_bytes for outcome in outcomes.values()) <= MEMORY_LIMIT_BYTES


def test_the_damage_is_neither_too_slight_nor_too_coarse(outcomes: dict[int, Outcome]) -> None:
    headers, pixels = ({getattr(outcome, name) for outcome in outcomes.values()} for name in ("header", "pixels"))
    assert {"image", "slice", "not-an-image", "unreadable-dicom", "too-complex", "too-large"} <= headers
    assert {"decoded", "undecodable-pixels", "not-an-image"} <= pixels
    assert sum(outcome.pixels == "decoded" for outcome in outcomes.values()) < FILES / 2


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_damage_can_be_repeated(name: str) -> None:
    seed = generated_seeds()["Explicit VR Little Endian"]
    damaged = [MUTATIONS[name](seed, np.random.default_rng(3)) for _ in range(2)]
    assert damaged[0] == damaged[1]
