"""Which volume of a study is chosen, and the reason that is given."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset
from slice_files import CT, MR, make_slice, plan, write

from medfusion.modalities.imaging.volumes import Stack, select


def series(name: str, slices: int = 6, step: float = 3, sop: str = CT, **header: Any) -> list[FileDataset]:
    uid = f"1.2.3.7.{name}"
    return [
        make_slice((0, 0, step * n), f"{name}.{n}", sop=sop, SeriesInstanceUID=uid, **header) for n in range(slices)
    ]


def stacks_of(folder: Path, *many: list[FileDataset]) -> list[Stack]:
    return list(plan(write(folder, [each for one in many for each in one])).stacks)


SCOUT = series("0", 2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
WANTED = series("5")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (SCOUT, "the only volume"),
        (series("1", sop=MR), "CT"),
        (series("1", ImageType=["DERIVED", "SECONDARY", "MPR"]), "original and primary"),
        (series("1", RescaleType="US"), "values with a unit"),
        (series("1", ImageOrientationPatient=[0, 1, 0, 0.1, 0, 0.995]), "axial"),
        (series("1", 4), "covers most"),
        (series("1", 4, 5), "thinnest slices"),
        (series("1", PixelSpacing=[4, 4]), "finest pixels"),
        (series("9"), "lowest SeriesInstanceUID"),
    ],
)
def test_the_rule_that_decides_is_recorded(tmp_path: Path, other: list[FileDataset], reason: str) -> None:
    # Slices of another orientation lie one above the other along its own normal.
    if reason == "axial":
        for n, each in enumerate(other):
            each.ImagePositionPatient = [0.995 * 3 * n, 0, -0.1 * 3 * n]
    stacks = stacks_of(tmp_path, other, WANTED)
    chosen = select(stacks)
    assert chosen is not None
    assert chosen.stack.slices[0].series_uid == "1.2.3.7.5"
    assert chosen.reason == reason
    assert len(chosen.others) == len(stacks) - 1


def test_holes_count_against_a_volume(tmp_path: Path) -> None:
    holed = [each for each in series("1", 6, 3) if each.ImagePositionPatient[2] != 6]
    chosen = select(stacks_of(tmp_path, holed, WANTED))
    assert chosen is not None
    assert (chosen.stack.key[0], chosen.reason) == ("1.2.3.7.5", "evenly spaced without holes")


def test_a_thin_stack_of_little_extent_does_not_win(tmp_path: Path) -> None:
    chosen = select(stacks_of(tmp_path, series("1", 3, 1), WANTED))
    assert chosen is not None
    assert [why for _, why in chosen.others] == ["not: covers most"]


def test_the_modality_that_is_wanted_comes_first(tmp_path: Path) -> None:
    stacks = stacks_of(tmp_path, series("1"), series("2", sop=MR))
    assert [select(stacks, [each]).stack.slices[0].modality for each in ("MR", "CT")] == ["MR", "CT"]  # type: ignore[list-item, union-attr]
    assert select(stacks, ["PT"]) is None
    assert select([]) is None


def test_the_order_of_the_stacks_does_not_matter(tmp_path: Path) -> None:
    many = (series("1", 4, 5), series("2", 5), series("3"), series("4", RescaleType="US"), series("5"))
    stacks = stacks_of(tmp_path, *many)
    chosen = {select(order).stack.key for order in itertools.permutations(stacks)}  # type: ignore[union-attr]
    assert len(chosen) == 1
    reasons = {select(order).reason for order in itertools.permutations(stacks)}  # type: ignore[union-attr]
    assert reasons == {"values with a unit, then covers most, then thinnest slices, then lowest SeriesInstanceUID"}
