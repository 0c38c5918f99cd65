"""What becomes of damaged files? Mutates DICOM files, reads each as the imaging modality does, counts the outcomes."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, machine_line, markdown_table, write_results

from medfusion.modalities.imaging.pool import MEMORY_LIMIT_BYTES, TIME_LIMIT_S, Decoders

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "modalities" / "imaging"))
from mutations import Outcome, generated_seeds, mutate, outcome_of

_CHUNK = 500


def main() -> int:
    arguments = _arguments()
    described = machine()
    seeds = _seeds(arguments.corpus, arguments.largest)
    start = time.perf_counter()
    # What pydicom remarks on damaged files is the point here.
    warnings.simplefilter("ignore")
    outcomes = _outcomes(list(seeds.values()), arguments.files, arguments.seed)
    measured = {
        "machine": described,
        "files": arguments.files,
        "seed": arguments.seed,
        "seeds": len(seeds),
        "seconds": round(time.perf_counter() - start, 1),
        **_figures(outcomes),
    }
    write_results(arguments.out, "fuzz", measured, _text(measured))
    return 0 if measured["passed"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?", help="a folder of DICOM files to mutate beside generated ones")
    parser.add_argument("--files", type=int, default=10_000, help="how many (default: 10,000)")
    parser.add_argument("--largest", type=int, default=100_000, help="bytes of the largest file of the corpus used")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def _seeds(corpus: Path | None, largest: int) -> dict[str, bytes]:
    seeds = generated_seeds()
    if corpus is not None:
        files = sorted(file for file in corpus.rglob("*") if file.is_file() and file.suffix != ".csv")
        seeds |= {file.name: file.read_bytes() for file in files if 0 < file.stat().st_size <= largest}
    return seeds


def _outcomes(seeds: list[bytes], files: int, seed: int) -> list[tuple[int, str, Outcome]]:
    """Return for each file its number, the last mutation, and what became of it."""
    with tempfile.TemporaryDirectory() as folder, Decoders(workers=2) as decoders, ThreadPoolExecutor(2) as pool:

        def trial(number: int) -> tuple[int, str, Outcome]:
            rng = np.random.default_rng([seed, number])
            mutation, data = mutate(seeds[int(rng.integers(len(seeds)))], rng)
            path = Path(folder, f"{number}.dcm")
            path.write_bytes(data)
            outcome = outcome_of(path, decoders)
            path.unlink()
            return number, mutation, outcome

        results: list[tuple[int, str, Outcome]] = []
        for first in range(0, files, _CHUNK):
            results += pool.map(trial, range(first, min(first + _CHUNK, files)))
            print(f"{len(results)} files", file=sys.stderr)
        return results


def _figures(outcomes: list[tuple[int, str, Outcome]]) -> dict[str, Any]:
    header_s, pixels_s = (max(getattr(outcome, name) for *_, outcome in outcomes) for name in ("header_s", "pixels_s"))
    caller_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    worker_bytes = max(outcome.workers_peak_bytes for *_, outcome in outcomes)
    crashed = [
        {"number": number, "mutation": mutation, "header": outcome.header, "pixels": outcome.pixels}
        for number, mutation, outcome in outcomes
        if outcome.crashed
    ]
    # A worker that is ended at its limit and started anew needs a moment more.
    in_time = header_s <= TIME_LIMIT_S and pixels_s <= TIME_LIMIT_S + 5
    slow = [number for number, _, outcome in outcomes if max(outcome.header_s, outcome.pixels_s) > 1]
    return {
        "passed": not crashed and in_time and max(caller_bytes, worker_bytes) <= MEMORY_LIMIT_BYTES,
        "crashed": crashed,
        "slowest_header_s": round(header_s, 2),
        "slowest_pixels_s": round(pixels_s, 2),
        "over_1_s": slow,
        "peak_mb": {"caller": round(caller_bytes / 1e6), "worker": round(worker_bytes / 1e6)},
        "header": dict(Counter(outcome.header for *_, outcome in outcomes).most_common()),
        "pixels": dict(Counter(outcome.pixels for *_, outcome in outcomes).most_common()),
        "mutations": dict(Counter(mutation for _, mutation, _ in outcomes).most_common()),
        "worker_ended": [
            {"number": number, "mutation": mutation, "pixels": outcome.pixels, "detail": outcome.detail}
            for number, mutation, outcome in outcomes
            if outcome.pixels in {"decode-timeout", "decoder-crashed"}
        ],
    }


def _text(measured: dict[str, Any]) -> str:
    codes = sorted({*measured["header"], *measured["pixels"]}, key=lambda code: -measured["header"].get(code, 0))
    rows = [(code, str(measured["header"].get(code, 0)), str(measured["pixels"].get(code, 0))) for code in codes]
    peak, verdict = measured["peak_mb"], "Passed" if measured["passed"] else "FAILED"
    return f"""# {measured["files"]} damaged files

`benchmarks/fuzz.py`, seed {measured["seed"]}, from {measured["seeds"]} files. {machine_line(measured["machine"])}

{verdict}: {len(measured["crashed"])} exceptions; slowest header {measured["slowest_header_s"]} s, slowest pixels
{measured["slowest_pixels_s"]} s; most memory of the caller {peak["caller"]} MB, of a worker {peak["worker"]} MB;
{measured["seconds"]} s in all, {len(measured["worker_ended"])} workers ended by a file.

{markdown_table(("outcome", "header", "pixels"), rows)}"""


if __name__ == "__main__":
    sys.exit(main())
