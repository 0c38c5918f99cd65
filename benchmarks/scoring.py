"""How close is `medfusion score` to what the machine can do, and how far ahead of a straightforward script?

Films of 1,500 to 3,000 pixels are drawn: a third uncompressed, a third JPEG, a third JPEG 2000. In turns:

limit    the same files decoded on all cores by the same code, and then the same network on the fastest backend over
         pictures that lie ready; nothing else, no files opened twice, no heads, no ledger, no tables
score    `medfusion score --backend auto`, from process start to end; what starting takes is told apart
script   MONAI's Dataset and DataLoader with a worker per core, LoadImage, Resize, the same network in torch fp32, and
         scikit-learn heads; over some of the films, because it is slow

Risks are compared with those of `medfusion score --backend torch`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import decoding
import numpy as np
import pandas as pd
import torch
from common import RESULTS, Failed, machine, machine_line, markdown_table, medfusion, write_results
from decoding import SYNTAXES, Syntax, draw, encoded, write
from monai.data import DataLoader, Dataset, PydicomReader
from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Resize, ScaleIntensity
from sklearn.linear_model import LogisticRegression

from medfusion.modalities.imaging.backbone import Backbone
from medfusion.modalities.imaging.geometry import letterbox
from medfusion.modalities.imaging.pixels import decode, load
from medfusion.pipeline.backend import use_backend
from medfusion.pipeline.parts import loaded

SIZE = 320
KINDS: tuple[Syntax, ...] = tuple(
    each for each in SYNTAXES if each.name in {"uncompressed", "JPEG baseline", "JPEG 2000"}
)
SIDES = (1500, 3000)
LIMIT_AIM, SCRIPT_AIM, RISK_AIM = 0.85, 6.0, 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model folder with imaging in it")
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--script-films", type=int, default=200, help="how many of them the script is given")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median counts")
    parser.add_argument("--work", type=Path, help="where films are kept between runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    described, place = machine(), Path(tempfile.mkdtemp(prefix="scoring-"))
    cohort = (args.work or place) / f"films-{args.films}"
    if not (cohort / "cohort.toml").is_file():
        write_cohort(cohort, args.films)
    some = part_of(cohort, args.script_films, place)
    films = sorted((cohort / "imaging").iterdir())
    turns = [turn(args.model, cohort, films, some, place / str(number)) for number in range(args.repeats)]
    measured = summary(turns, args, described)
    measured["risk_change"] = risk_change(args.model, cohort, place)
    write_results(args.out, "scoring", measured, page(measured))
    shutil.rmtree(place)


def turn(model: Path, cohort: Path, films: Sequence[Path], some: Path, place: Path) -> dict[str, Any]:
    """Measure everything once."""
    said = score(model, cohort, place / "auto", "auto")
    backend = said["backend"]["chosen"]
    decoded, pictures = timed(lambda: bare_decode(films))
    return {
        "score_s": said["seconds"],
        "whole_s": said["whole_s"],
        "backend": backend,
        "decode_s": decoded,
        "forward_s": timed(lambda: bare_forward(model, backend, pictures))[0],
        "script_s_per_film": timed(lambda: straightforward(some))[0] / len(list((some / "imaging").iterdir())),
    }


def score(model: Path, cohort: Path, out: Path, backend: str) -> dict[str, Any]:
    """Score by the command line; return run.json, and what the command took as a whole."""
    arguments = ("score", model, cohort, "--out", out, "--backend", backend, "--no-cache")
    try:
        whole = medfusion(*arguments, allowed=(0, 1))
    except Failed as error:
        raise SystemExit(str(error)) from None
    return {**json.loads((out / "run.json").read_text(encoding="utf-8")), "whole_s": whole}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    done = work()
    return time.perf_counter() - start, done


def decoded(path: Path) -> np.ndarray:
    return letterbox(decode(load(path), longest=SIZE), SIZE)


def bare_decode(films: Sequence[Path]) -> list[np.ndarray]:
    """Decode on all cores; the processes are there before the clock runs only in so far as they fork."""
    cv2.setNumThreads(1)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(decoded, films, chunksize=8))


def bare_forward(model: Path, backend: str, pictures: Sequence[np.ndarray]) -> None:
    """Run the network over pictures that are there; it is opened and warmed up by the first."""
    network = opened(model, backend)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(network, pictures))


def opened(model: Path, backend: str) -> Callable[[np.ndarray], Any]:
    """Return the network as a scoring run has it."""

    risk_model = loaded(model, None)
    use_backend(risk_model, backend)
    network: Backbone = risk_model.modalities["imaging"].backbone
    return lambda picture: network.network_maps(picture[None])


def straightforward(cohort: Path) -> None:
    """Do what a script does that was written in an afternoon."""
    steps = [
        LoadImage(reader=PydicomReader(), image_only=True),
        EnsureChannelFirst(),
        Resize((SIZE, SIZE)),
        ScaleIntensity(),
    ]
    films = sorted(map(str, (cohort / "imaging").iterdir()))
    network = torch_network()
    found = []
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        for batch in DataLoader(Dataset(films, Compose(steps)), batch_size=8, num_workers=os.cpu_count() or 1):
            found.append(network(batch.as_tensor()).mean(dim=(2, 3)).numpy())
    values = np.concatenate(found)
    head = LogisticRegression(max_iter=200).fit(values, np.arange(len(values)) % 2)
    head.predict_proba(values)


def torch_network() -> torch.nn.Module:
    backbone = Backbone()
    backbone.load()
    return backbone.features()


def write_cohort(folder: Path, films: int) -> None:
    """Draw films, each another; two to a patient."""
    (folder / "imaging").mkdir(parents=True)
    (folder / "cohort.toml").write_text('name = "films"\n[tasks.icu]\nlabels = "labels.csv"\n', encoding="utf-8")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write_film, [folder] * films, range(films), chunksize=8))
    write_tables(folder, films)


def write_film(folder: Path, number: int) -> None:
    random = np.random.default_rng(number)
    decoding.ROWS, decoding.COLUMNS = (int(side) for side in random.integers(*SIDES, endpoint=True, size=2))
    syntax = KINDS[number % len(KINDS)]
    write(folder / "imaging" / f"{number:05}.dcm", syntax, encoded(syntax, draw(number, syntax.bits)))


def write_tables(folder: Path, films: int) -> None:
    patients = [f"P{number:05}" for number in range(films)]
    paths = [f"imaging/{number:05}.dcm" for number in range(films)]
    pd.DataFrame({"subject_id": patients, "path": paths, "time": "2024-01-01T09:00:00"}).to_csv(
        folder / "imaging.csv", index=False
    )
    labels = {"subject_id": patients, "prediction_time": "2024-01-02T09:00:00", "boolean_value": ""}
    pd.DataFrame(labels).to_csv(folder / "labels.csv", index=False)


def part_of(cohort: Path, films: int, place: Path) -> Path:
    """Return a cohort of the first films, by link."""
    some = place / "some"
    (some / "imaging").mkdir(parents=True)
    for film in sorted((cohort / "imaging").iterdir())[:films]:
        (some / "imaging" / film.name).symlink_to(film)
    return some


def risk_change(model: Path, cohort: Path, place: Path) -> float:
    """Return the largest difference between the risks of the fastest backend and of torch in fp32."""
    score(model, cohort, place / "torch", "torch-fp32")
    risks = [
        pd.read_parquet(place / each / "predictions.parquet").set_index("subject_id")["risk"]
        for each in ("0/auto", "torch")
    ]
    return float((risks[0] - risks[1]).abs().max())


def summary(turns: Sequence[dict[str, Any]], args: argparse.Namespace, described: dict[str, Any]) -> dict[str, Any]:
    limits = [each["decode_s"] + each["forward_s"] for each in turns]
    shares = [limit / each["score_s"] for limit, each in zip(limits, turns, strict=True)]
    ahead = [each["script_s_per_film"] * args.films / each["score_s"] for each in turns]
    return {
        "films": args.films,
        "script_films": args.script_films,
        "turns": list(turns),
        "share_of_limit": median(shares),
        "times_the_script": median(ahead),
        "films_per_second": args.films / median(each["score_s"] for each in turns),
        "machine": described,
    }


def page(measured: dict[str, Any]) -> str:
    rows = [
        [
            str(number),
            each["backend"],
            *(f"{each[name]:.1f}" for name in ("score_s", "whole_s", "decode_s", "forward_s")),
        ]
        for number, each in enumerate(measured["turns"], 1)
    ]
    header = ["turn", "backend", "score, s", "command, s", "bare decode, s", "bare forward, s"]
    aims = [
        ("share of the limit", measured["share_of_limit"], f">= {LIMIT_AIM}", measured["share_of_limit"] >= LIMIT_AIM),
        (
            "times faster than the script",
            measured["times_the_script"],
            f">= {SCRIPT_AIM:g}",
            measured["times_the_script"] >= SCRIPT_AIM,
        ),
        ("largest change of a risk", measured["risk_change"], f"< {RISK_AIM}", measured["risk_change"] < RISK_AIM),
    ]
    told = [[name, f"{value:.4g}", aim, "met" if met else "**missed**"] for name, value, aim, met in aims]
    return (
        f"# Scoring films\n\n{measured['films']} films of {SIDES[0]} to {SIDES[1]} pixels, "
        f"{measured['films_per_second']:.1f} films/s; the script was given {measured['script_films']}.\n\n"
        f"{markdown_table(header, rows)}\n{markdown_table(['', 'median', 'aim', ''], told)}\n"
        f"{machine_line(measured['machine'])}\n"
    )


if __name__ == "__main__":
    main()
