"""How close is `medfusion score` to what the machine can do, and how far ahead of a straightforward script?

Films of 1,500 to 3,000 pixels are drawn: a third uncompressed, a third JPEG, a third JPEG 2000. In turns:

limit    the same files decoded on all cores by the same code, and then the same network on the same backend over
         pictures that lie ready; nothing else: no hashes, no heads, no ledger, no tables; the fixed filters, which are
         part of the model's backbone, are timed apart, and a second share counts them in
score    `medfusion score` without a cache; its own seconds, without imports and loading the model, and the command's
script   MONAI's Dataset and DataLoader with a worker per core, LoadImage, Resize, the same network in torch fp32, and
         scikit-learn heads; over some of the films, because it is slow

The backend is the one that `--backend auto` chooses on this machine, once, unless one is named. Risks are compared with
those of torch in fp32. What else the machine does moves every time by the clock; so processor time is compared, too,
where that of scoring a few films is taken off: starting the command, loading the model and preparing the network.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from common import RESULTS, machine, machine_line, markdown_table, medfusion, write_results
from decoding import SYNTAXES, Syntax, draw, encoded, write
from monai.data import DataLoader, Dataset, PydicomReader
from monai.transforms import Compose, LoadImage, Resize, ScaleIntensity
from scoring_memory import trained
from sklearn.linear_model import LogisticRegression

from medfusion.modalities.imaging.backbone import Backbone
from medfusion.modalities.imaging.backends import is_exact
from medfusion.modalities.imaging.checking import as_grey
from medfusion.modalities.imaging.filters import filter_mean
from medfusion.modalities.imaging.geometry import letterbox
from medfusion.modalities.imaging.pixels import decode, load
from medfusion.pipeline.model_folder import load_for

SIZE = 320
"""Side of the square that the default network sees."""
KINDS: tuple[Syntax, ...] = tuple(
    each for each in SYNTAXES if each.name in {"uncompressed", "JPEG baseline", "JPEG 2000"}
)
SIDES = (1500, 3000)
CORES = len(os.sched_getaffinity(0))
PARTS = 4
"""Into how many parts the cohort is divided: as many as 2,000 films are."""
FEW = 6
"""Films of a cohort that takes next to nothing but the start."""
LIMIT_AIM, SCRIPT_AIM, RISK_AIM = 0.85, 6.0, 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="with the default network; trained on 80 synthetic patients if not")
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--script-films", type=int, default=200, help="how many of them the script is given")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median counts")
    parser.add_argument("--backend", default="auto", help="what `score` is given as --backend the first time")
    parser.add_argument("--work", type=Path, help="where films are kept between runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    measured: dict[str, Any] = {"films": args.films, "script_films": args.script_films, "machine": machine()}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        model, cohort = args.model or trained(place), (args.work or place) / f"films-{args.films}"
        if not (cohort / "cohort.toml").is_file():
            write_cohort(cohort, args.films)
        backend = score(model, cohort, place / "fast", args.backend)["backend"]["chosen"]
        score(model, cohort, place / "torch", "torch-fp32")
        measured |= {"backend": backend, "risk_change": risk_change(place / "fast", place / "torch"), "turns": []}
        films, few = sorted((cohort / "imaging").iterdir()), place / "few"
        part_of(cohort, few, FEW)
        for number in range(args.repeats):
            measured["turns"].append(turn(model, cohort, few, films, args.script_films, backend, place / str(number)))
            print(measured["turns"][-1], flush=True)
    for name in (
        "share_of_limit",
        "cpu_share_of_limit",
        "share_with_filters",
        "cpu_share_with_filters",
        "times_the_script",
    ):
        measured[name] = median(each[name] for each in measured["turns"])
    write_results(args.out, "scoring", measured, page(measured))


def turn(
    model: Path, cohort: Path, few: Path, films: Sequence[Path], script_films: int, backend: str, out: Path
) -> dict[str, float]:
    """Measure everything once."""
    load_before = os.getloadavg()[0]
    said, _, all_cpu_s = timed(lambda: score(model, cohort, out / "all", backend))
    start_cpu_s = timed(lambda: score(model, few, out / "few", backend))[2]
    score_cpu_s = (all_cpu_s - start_cpu_s) * len(films) / (len(films) - FEW)
    network = opened(model, backend)
    pictures, decode_s, decode_cpu_s = timed(lambda: bare_decode(films))
    _, forward_s, forward_cpu_s = timed(lambda: bare_forward(network, pictures))
    _, filters_s, filters_cpu_s = timed(lambda: bare_filters(pictures))
    script_s = timed(lambda: straightforward(films[:script_films]))[1] / script_films
    limit_s, limit_cpu_s = decode_s + forward_s, decode_cpu_s + forward_cpu_s
    return {
        "load_before": load_before,
        "score_s": said["seconds"],
        "command_s": said["command_s"],
        "decode_s": decode_s,
        "forward_s": forward_s,
        "filters_s": filters_s,
        "script_s_per_film": script_s,
        "start_cpu_s": start_cpu_s,
        "score_cpu_s": score_cpu_s,
        "decode_cpu_s": decode_cpu_s,
        "forward_cpu_s": forward_cpu_s,
        "filters_cpu_s": filters_cpu_s,
        "share_of_limit": limit_s / said["seconds"],
        "cpu_share_of_limit": limit_cpu_s / score_cpu_s,
        "share_with_filters": (limit_s + filters_s) / said["seconds"],
        "cpu_share_with_filters": (limit_cpu_s + filters_cpu_s) / score_cpu_s,
        "times_the_script": script_s * len(films) / said["seconds"],
    }


def score(model: Path, cohort: Path, out: Path, backend: str) -> dict[str, Any]:
    """Score by the command line; return run.json, and what the command took as a whole."""
    size = -(-len(list((cohort / "imaging").iterdir())) // PARTS)
    options = ("--out", out, "--backend", backend, "--part-size", size, "--no-cache")
    whole = medfusion("score", model, cohort, *options, allowed=(0, 1))
    return {**json.loads((out / "run.json").read_text(encoding="utf-8")), "command_s": whole}


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what came out, seconds by the clock, and seconds of processors."""
    start, before = time.perf_counter(), cpu_s()
    done = work()
    return done, time.perf_counter() - start, cpu_s() - before


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def decoded(path: Path) -> np.ndarray:
    return letterbox(decode(load(path), longest=SIZE), SIZE)


def bare_decode(films: Sequence[Path]) -> list[np.ndarray]:
    with ProcessPoolExecutor(CORES) as pool:
        return list(pool.map(decoded, films, chunksize=8))


def bare_forward(network: Callable[[np.ndarray], Any], pictures: Sequence[np.ndarray]) -> None:
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(network, pictures))


def bare_filters(pictures: Sequence[np.ndarray]) -> None:
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda picture: filter_mean(picture[None], 1.0), pictures))


def opened(model: Path, backend: str) -> Callable[[np.ndarray], Any]:
    """Return the network as a scoring run has it, warmed up."""
    backbone = Backbone()
    backbone.use(backend, None if is_exact(backend) else as_grey(load_for(model, None).check["imaging"]))
    backbone.means(np.zeros((1, SIZE, SIZE), np.float32))
    return lambda picture: backbone.means(picture[None])


def straightforward(films: Sequence[Path]) -> None:
    """Do what a script does that was written in an afternoon."""
    steps = [
        LoadImage(reader=PydicomReader(), image_only=True, ensure_channel_first=True),
        Resize((SIZE, SIZE)),
        ScaleIntensity(),
    ]
    network, found = Backbone().features(), []
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        for batch in DataLoader(Dataset(list(map(str, films)), Compose(steps)), batch_size=8, num_workers=CORES):
            found.append(network(batch.as_tensor()).mean(dim=(2, 3)).numpy())
    values = np.concatenate(found)
    head = LogisticRegression(max_iter=200).fit(values, np.arange(len(values)) % 2)
    head.predict_proba(values)


def write_cohort(folder: Path, films: int) -> None:
    """Draw films, each another and of a patient of its own."""
    (folder / "imaging").mkdir(parents=True)
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(write_film, [folder] * films, range(films), chunksize=8))
    write_tables(folder, films)


def part_of(cohort: Path, folder: Path, films: int) -> None:
    """Make a cohort of the first films, by link."""
    (folder / "imaging").mkdir(parents=True)
    for film in sorted((cohort / "imaging").iterdir())[:films]:
        (folder / "imaging" / film.name).symlink_to(film.absolute())
    write_tables(folder, films)


def write_tables(folder: Path, films: int) -> None:
    patients = [f"P{number:05}" for number in range(films)]
    paths = [f"imaging/{number:05}.dcm" for number in range(films)]
    listed = pd.DataFrame({"subject_id": patients, "path": paths, "time": "2024-01-01T09:00:00"})
    listed.to_csv(folder / "imaging.csv", index=False)
    labels = pd.DataFrame({"subject_id": patients, "prediction_time": "2024-01-02T09:00:00", "boolean_value": ""})
    labels.to_csv(folder / "labels.csv", index=False)
    # Last: what has it is whole.
    (folder / "cohort.toml").write_text('name = "films"\n[tasks.films]\nlabels = "labels.csv"\n', encoding="utf-8")


def write_film(folder: Path, number: int) -> None:
    rows, columns = np.random.default_rng(number).integers(*SIDES, endpoint=True, size=2).tolist()
    syntax, path = KINDS[number % len(KINDS)], folder / "imaging" / f"{number:05}.dcm"
    write(path, syntax, encoded(syntax, draw(number, syntax.bits, (rows, columns))), (rows, columns))


def risk_change(one: Path, other: Path) -> float:
    """Return the largest difference between the risks of two runs."""
    risks = [pd.read_parquet(each / "predictions.parquet").set_index("subject_id")["risk"] for each in (one, other)]
    return float((risks[0] - risks[1]).abs().max())


def page(measured: dict[str, Any]) -> str:
    columns = {
        "load before": ("load_before", 1),
        "score, s": ("score_s", 1),
        "command, s": ("command_s", 1),
        "bare decode, s": ("decode_s", 1),
        "bare forward, s": ("forward_s", 1),
        "script, s a film": ("script_s_per_film", 3),
        "filters, s": ("filters_s", 1),
        "share of limit": ("share_of_limit", 2),
        "with filters": ("share_with_filters", 2),
        "share by processor time": ("cpu_share_of_limit", 2),
        "with filters ": ("cpu_share_with_filters", 2),
        "times the script": ("times_the_script", 1),
    }
    rows = [
        [str(number), *(f"{each[name]:.{digits}f}" for name, digits in columns.values())]
        for number, each in enumerate(measured["turns"], 1)
    ]
    found = [
        ("share of the limit", measured["share_of_limit"], f">= {LIMIT_AIM}", measured["share_of_limit"] >= LIMIT_AIM),
        (
            "times the script",
            measured["times_the_script"],
            f">= {SCRIPT_AIM:g}",
            measured["times_the_script"] >= SCRIPT_AIM,
        ),
        ("largest change of a risk", measured["risk_change"], f"< {RISK_AIM}", measured["risk_change"] < RISK_AIM),
    ]
    aims = [[name, f"{value:.3g}", aim, "met" if met else "**missed**"] for name, value, aim, met in found]
    return f"""# Scoring films

{measured["films"]} films of {SIDES[0]} to {SIDES[1]} pixels, a third each uncompressed, JPEG and JPEG 2000, on
{measured["backend"]}; the script was given {measured["script_films"]} of them. {machine_line(measured["machine"])}

{markdown_table(["turn", *columns], rows)}
{markdown_table(["", "median", "aim", ""], aims)}
By processor time, which other programs move less, the limit is {measured["cpu_share_of_limit"]:.2f} of what scoring
takes (median), and {measured["cpu_share_with_filters"]:.2f} where the filters, which are part of the model's backbone,
are counted in.
"""


if __name__ == "__main__":
    main()
