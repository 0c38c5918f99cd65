"""Does the check for wrong images find them, and does it leave right ones alone?

A domain is fitted on the films of four fifths of the patients and judges the films of the others, who must not be
flagged, and wrong images, which must: the same films altered (turned, inverted, cropped, ...), screenshots, images of
other kinds from a folder, and films of other parts or from the side, projected from CT. Five folds by patient. An image
that belongs to no patient is judged by all five domains and counts as flagged where most flag it.

Other distances are measured on the same folds with the same limit, as far as they can be compared.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 - as its documentation has it
from common import RESULTS, cohort_config, machine, machine_line, markdown_table, write_results
from scipy import ndimage, stats
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Records
from medfusion.evidence.domain import Domain, Subspace
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging.pixels import decode, load

FOLDS = 5
Image = np.ndarray
Distance = Callable[[np.ndarray], np.ndarray]
NOBODY = ""
RIGHT = ("film", "film, mirrored", "projected chest, frontal")
"""Kinds that are not to be flagged. A film may be mirrored: the check is not meant to tell left from right."""


@dataclass(frozen=True)
class Images:
    """Embedded images: what they are, whose, and their embeddings (n, d)."""

    kinds: np.ndarray
    subjects: np.ndarray
    values: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--others", type=Path, help="folder of DICOM files that are no such films")
    parser.add_argument("--chest", nargs="*", default=[], help="names of those among them that are")
    parser.add_argument("--ct", type=Path, nargs="*", default=[], help="CTs to project: series folders or NIfTI files")
    parser.add_argument("--chest-ct", type=Path, nargs="*", default=[], help="the same, of chests")
    parser.add_argument("--altered", type=int, default=100, help="films to alter")
    parser.add_argument("--cache", type=Path, help="where embeddings are kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    described = machine()
    modality = ImagingModality(ModalityOptions({}, args.cache))
    images = collect(modality, args)
    measured = {
        "cohort": cohort_config(args.cohort)["name"],
        "films": int((images.kinds == "film").sum()),
        "patients": len(np.unique(images.subjects[images.kinds == "film"])),
        "kinds": flagged_by_kind(images, judge(images, Subspace.fit)),
        "distances": {name: overview(images, judge(images, fit)) for name, fit in DISTANCES.items()},
        "fewer": {str(n): overview(images, judge(images, Subspace.fit, patients=n)) for n in (30, 60, 120)},
        "machine": described,
    }
    write_results(args.out, "domain", measured, page(measured))


def collect(modality: ImagingModality, args: argparse.Namespace) -> Images:
    """Embed the cohort's films and everything that is none of them."""
    films = modality.index(CohortFolder.open(args.cohort))
    assert films is not None
    places = list(zip(films["subject_id"].to_pylist(), films["location"].to_pylist(), strict=True))
    chosen = np.random.default_rng(0).permutation(len(places))[: args.altered]
    files: list[tuple[str, str, Path]] = [("film", subject, Path(location)) for subject, location in places]
    if args.others:
        found = sorted(path for path in args.others.iterdir() if path.suffix != ".csv" and path.name not in args.chest)
        files += [(f"other: {kind}", NOBODY, path) for path in found if (kind := kind_of(path))]
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary)
        for number, (kind, subject, picture) in enumerate(drawings([places[i] for i in chosen], args)):
            path = drawn / f"{number}.png"
            cv2.imwrite(str(path), np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8))
            files.append((kind, subject, path))
        return embed(modality, files, drawn)


def embed(modality: ImagingModality, files: list[tuple[str, str, Path]], folder: Path) -> Images:
    """Read files as films of a cohort; what cannot be read is left out."""
    (folder / "cohort.toml").touch()
    (folder / "imaging").mkdir()
    with (folder / "imaging.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject_id", "path", "time"])
        for number, (_, _, path) in enumerate(files):
            name = f"imaging/{number}{path.suffix if path.suffix == '.png' else '.dcm'}"
            (folder / name).symlink_to(path.resolve())
            writer.writerow([f"{number}", name, "2020-01-01T09:00:00"])
    table = modality.index(CohortFolder.open(folder))
    assert table is not None
    records = [
        Records(table["subject_id"][row].as_py(), datetime(2030, 1, 1), table.slice(row, 1))
        for row in range(len(table))
    ]
    embedding = modality.encoder().encode(modality.read(records, [], lambda done: None))
    here = [files[int(record.subject_id)] for record in records]
    kinds, subjects = np.array([kind for kind, _, _ in here]), np.array([subject for _, subject, _ in here])
    return Images(kinds[embedding.present], subjects[embedding.present], embedding.values[embedding.present])


def kind_of(path: Path) -> str:
    """Return a file's modality as DICOM calls it; empty where it is no DICOM file."""
    try:
        return str(pydicom.dcmread(path, specific_tags=["Modality"]).get("Modality") or "unnamed")
    except Exception:  # problem files are part of such folders
        return ""


def drawings(films: Iterable[tuple[str, str]], args: argparse.Namespace) -> Iterator[tuple[str, str, Image]]:
    """Draw the wrong images: kind, whose film it was made from, and grey in [0, 1]."""
    for seed, (subject, location) in enumerate(films):
        film = decode(load(Path(location)))
        scale = 900 / max(film.shape)
        film = cv2.resize(film, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        rng = np.random.default_rng(seed)
        for name, alter in ALTERATIONS.items():
            yield f"film, {name}", subject, alter(film, rng)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        yield "screenshot of text", NOBODY, screenshot(rng)
        yield "noise", NOBODY, rng.random((400, 400), dtype=np.float32)
        smooth = cv2.GaussianBlur(rng.random((400, 400), dtype=np.float32), (0, 0), 12)
        yield "smooth noise", NOBODY, (smooth - smooth.min()) / np.ptp(smooth)
    for part, paths in {"other part": args.ct, "chest": args.chest_ct}.items():
        for path in paths:
            yield from ((f"projected {part}, {view}", NOBODY, film) for view, film in projections(path))


def screenshot(rng: np.random.Generator, film: Image | None = None) -> Image:
    """Draw a screen with lines of text, and a film in a window of it."""
    screen = np.full((720, 1280), int(rng.choice([0, 40, 230, 255])), dtype=np.uint8)
    ink = 255 - int(screen[0, 0])
    screen[:40] = 128
    for row in range(80, 700, int(rng.integers(24, 48))):
        words = " ".join(f"{word:04x}" for word in rng.integers(0, 65535, int(rng.integers(3, 14))))
        cv2.putText(screen, words, (30, row), cv2.FONT_HERSHEY_SIMPLEX, 0.7, ink, 1, cv2.LINE_AA)
    picture = screen.astype(np.float32) / 255
    if film is not None:
        width = min(900, round(600 * film.shape[1] / film.shape[0]))
        picture[80:680, 60 : 60 + width] = cv2.resize(film, (width, 600), interpolation=cv2.INTER_AREA)
    return picture


def crop(film: Image, part: float, rng: np.random.Generator) -> Image:
    """Cut out a part, as measured along a side."""
    rows, columns = int(film.shape[0] * part), int(film.shape[1] * part)
    top, left = int(rng.integers(film.shape[0] - rows)), int(rng.integers(film.shape[1] - columns))
    return film[top : top + rows, left : left + columns]


ALTERATIONS: Mapping[str, Callable[[Image, np.random.Generator], Image]] = {
    "a quarter turn": lambda film, rng: np.rot90(film),
    "upside down": lambda film, rng: np.rot90(film, 2),
    "inverted": lambda film, rng: 1 - film,
    "cropped to 35 %": lambda film, rng: crop(film, 0.35, rng),
    "cropped to 60 %": lambda film, rng: crop(film, 0.60, rng),
    "in a screenshot": lambda film, rng: screenshot(rng, film),
    "a third as wide": lambda film, rng: cv2.resize(film, (film.shape[1] // 3, film.shape[0])),
    "nearly black": lambda film, rng: 0.1 * film,
    "overexposed": lambda film, rng: np.clip(3 * film, 0, 1),
    "blurred": lambda film, rng: cv2.GaussianBlur(film, (0, 0), max(film.shape) / 100),
    "noise of 0.2 added": lambda film, rng: film + rng.normal(0, 0.2, film.shape),
    "mirrored": lambda film, rng: film[:, ::-1],
}


def projections(path: Path) -> Iterator[tuple[str, Image]]:
    """Project a CT from the front, obliquely and from the side: films of the part that it shows, by view."""
    volume, spacing_mm = read_ct(path)
    attenuation = np.clip((volume[::-1] + 1000.0) / 1000.0, 0, 3).astype(np.float32)
    for view, centre in {"frontal": 0, "oblique": 45, "lateral": 90}.items():
        for angle in range(centre - 8, centre + 9, 4):
            turned = ndimage.rotate(attenuation, angle, axes=(1, 2), reshape=False, order=1)
            path_cm = turned.sum(axis=1) * spacing_mm[1] / 10
            rows = round(path_cm.shape[0] * spacing_mm[0] / spacing_mm[2])
            film = cv2.resize(
                1 - np.exp(-0.2 * 0.15 * path_cm), (path_cm.shape[1], rows), interpolation=cv2.INTER_CUBIC
            )
            body = np.flatnonzero((film > np.percentile(film, 20)).mean(axis=0) > 0.2)
            film = film[:, body[0] : body[-1] + 1]
            low, high = np.percentile(film, [0.5, 99.5])
            yield view, (film - low) / (high - low)


def read_ct(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return Hounsfield units (slices from the feet up, rows, columns) of the body alone, and the spacing in mm."""
    if path.is_dir():
        reader = sitk.ImageSeriesReader
        series = (reader.GetGDCMSeriesFileNames(str(path), uid) for uid in reader.GetGDCMSeriesIDs(str(path)))
        image = sitk.ReadImage(max(series, key=len))
    else:
        image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    inside = ndimage.binary_opening(values > -400, iterations=2)
    labels, _ = ndimage.label(inside)
    body = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    filled = np.stack([ndimage.binary_fill_holes(slice_) for slice_ in body])
    across, down, along = image.GetSpacing()
    return np.where(filled, values, -1000.0), (along, down, across)


def by_mean(values: np.ndarray) -> Distance:
    """Return the Euclidean distance from the mean."""
    mean = values.mean(axis=0)
    return lambda rows: np.linalg.norm(rows - mean, axis=1)


def by_covariance(values: np.ndarray) -> Distance:
    """Return the Mahalanobis distance with all of a shrunk covariance."""
    fitted = LedoitWolf().fit(values)
    return lambda rows: np.sqrt(fitted.mahalanobis(rows))


def by_neighbours(metric: str) -> Callable[[np.ndarray], Distance]:
    """Return the distance to the 5th nearest training image; all of them have to be kept for it."""

    def fit(values: np.ndarray) -> Distance:
        neighbours = NearestNeighbors(n_neighbors=5, metric=metric).fit(values)
        return lambda rows: neighbours.kneighbors(rows)[0][:, -1]

    return fit


DISTANCES: Mapping[str, Callable[[np.ndarray], Any]] = {
    "probabilistic PCA (in use)": Subspace.fit,
    "Mahalanobis, Ledoit-Wolf": by_covariance,
    "5th neighbour, Euclidean": by_neighbours("euclidean"),
    "5th neighbour, cosine": by_neighbours("cosine"),
    "Euclidean from the mean": by_mean,
}


def divide(subjects: np.ndarray, seed: int) -> np.ndarray:
    """Assign every row to a fold, by patient."""
    unique, inverse = np.unique(subjects, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(unique)) % FOLDS)[inverse]


def judge(images: Images, fit: Callable[[np.ndarray], Any], patients: int | None = None) -> np.ndarray:
    """Return how often each image is flagged (n,) by the domains that have not seen its patient; NaN by none."""
    films = images.kinds == "film"
    fold = np.full(len(films), -1)
    fold[films] = divide(images.subjects[films], seed=0)
    fold_of = dict(zip(images.subjects[films], fold[films], strict=True))
    fold = np.array([fold_of.get(subject, -1) for subject in images.subjects])
    flags, times = np.zeros(len(films)), np.zeros(len(films))
    for left_out in range(FOLDS):
        training = films & (fold != left_out)
        if patients is not None:
            unique = np.unique(images.subjects[training])
            training &= np.isin(
                images.subjects, np.random.default_rng(left_out).choice(unique, patients, replace=False)
            )
        judged = (fold == left_out) | (fold == -1)
        domain = fitted(images.values[training], divide(images.subjects[training], seed=1), fit)
        flags[judged] += domain.is_outside(domain.distance(images.values[judged]))
        times += judged
    return np.divide(flags, times, out=np.full(len(films), np.nan), where=times > 0)


def fitted(values: np.ndarray, folds: np.ndarray, fit: Callable[[np.ndarray], Any]) -> Domain:
    """Fit a domain, with another distance where one is asked for."""
    if fit == Subspace.fit:
        domain = Domain.fit(values, folds)
        assert domain is not None
        return domain
    members = [Other(fit(values[folds != fold])) for fold in range(FOLDS)]
    distances = np.empty(len(values))
    for fold, member in enumerate(members):
        distances[folds == fold] = member.distance(values[folds == fold])
    typical = float(np.median(distances))
    return Domain(tuple(members), typical, np.sort(distances / typical))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Other:
    """Another distance, in the place of a subspace."""

    distance: Distance


def flagged_by_kind(images: Images, flags: np.ndarray) -> dict[str, dict[str, Any]]:
    """Count by kind, with a 95 % Wilson interval."""
    found = {}
    for kind in dict.fromkeys(images.kinds.tolist()):
        of_kind = flags[images.kinds == kind] > 0.5
        interval = stats.binomtest(int(of_kind.sum()), len(of_kind)).proportion_ci(method="wilson")
        counts = {"images": len(of_kind), "flagged": int(of_kind.sum()), "rate": float(of_kind.mean())}
        found[kind] = {**counts, "low": float(interval.low), "high": float(interval.high)}
    return found


def overview(images: Images, flags: np.ndarray) -> dict[str, float]:
    """Average the rates over kinds of wrong images, in three groups, beside that of films held out."""
    rates = {kind: each["rate"] for kind, each in flagged_by_kind(images, flags).items()}
    groups = {"film, ": "films altered", "other: ": "other files", "projected": "projected from CT"}
    chosen = {
        group: [rate for kind, rate in rates.items() if kind.startswith(start) and kind not in RIGHT]
        for start, group in groups.items()
    }
    chosen = {"films held out": [rates["film"]], **chosen}
    return {group: float(np.mean(each)) for group, each in chosen.items() if each}


def page(measured: Mapping[str, Any]) -> str:
    """Return the tables, as they are to be read."""
    kinds = [
        [kind, str(one["images"]), f"{100 * one['rate']:.1f} %", f"{100 * one['low']:.1f} to {100 * one['high']:.1f}"]
        for kind, one in measured["kinds"].items()
    ]
    header = ["", "images", "flagged", "95 % interval"]
    right = [row for row in kinds if row[0] in RIGHT]
    wrong = [row for row in kinds if row[0] not in RIGHT]
    return (
        f"# Wrong images: {measured['cohort']}\n\n{machine_line(measured['machine'])}\n\n"
        f"{measured['films']} films of {measured['patients']} patients, {FOLDS} folds by patient. "
        "Intervals are Wilson's, over images.\n\n"
        f"## Right images, flagged by mistake\n\n{markdown_table(header, right)}\n"
        f"## Wrong images, flagged\n\n{markdown_table(header, wrong)}\n"
        f"## Other distances\n\nSame folds, same limit; averages over kinds.\n\n{groups_table(measured['distances'])}\n"
        f"## Fewer patients\n\nDistance in use.\n\n{groups_table(measured['fewer'])}"
    )


def groups_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    header = ["", *next(iter(rows.values()))]
    return markdown_table(
        header, [[name, *(f"{100 * rate:.1f} %" for rate in one.values())] for name, one in rows.items()]
    )


if __name__ == "__main__":
    main()
