"""How quick is the worklist over a large archive, and what do many readers at once cost?

A folder of scores is written by the journal of scoring itself (`dashboard_scores.py`), and `medfusion dashboard` is
started on it, as a user does. A browser opens the worklist, filters it and turns its pages; then several browsers'
pages do so at the same time. Times are those at which the new rows are on the screen; told apart are the first page
after the start of the server, which also loads the program, and that of a browser which has not been there before and
has to load the page's scripts. Memory is that of the server (PSS), looked at throughout.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import RESULTS, Failed, machine, machine_line, markdown_table, write_results
from dashboard_scores import repeat_scores
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from scoring_memory import pss_mb

from medfusion.cohort.synthetic import write_synthetic_cohort
from medfusion.pipeline import score, train

LIMITS = {"paint_s": 2.0, "filter_s": 0.5, "memory_mb": 1500.0}
FLAGS = [
    *("--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
]
"""It asks nothing of the network by itself, and draws WebGL without a graphics card."""
_ROW = "tbody tr"
_WAIT_MS = 120_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="of each of the readers at the same time")
    parser.add_argument("--scored", type=Path, help="scores that are repeated; of a synthetic cohort unless given")
    parser.add_argument("--port", type=int, default=8599)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    measured: dict[str, Any] = {"machine": machine(), "samples": args.samples, "readers": args.readers}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        repeat_scores(args.scored or scored(work), work / "scores", args.samples)
        with dashboard(work / "scores", args.port) as server:
            url = f"http://127.0.0.1:{args.port}"
            measured |= asyncio.run(_measured(url, server.pid, args.repeats, args.readers, args.rounds))
    write_results(args.out, "dashboard", measured, _page(measured))
    return 0


def scored(work: Path) -> Path:
    """Train on a synthetic cohort, score new patients, and return the scores, beside ``model`` and ``new``."""
    write_synthetic_cohort(work / "cohort", subjects=80, seed=0)
    write_synthetic_cohort(work / "new", subjects=25, seed=1)
    train(work / "cohort", work / "model", cache=work / "cache")
    score(work / "model", work / "new", work / "small", cache=work / "cache")
    return work / "small"


@contextmanager
def dashboard(scores: Path, port: int, *options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``medfusion dashboard`` until the end of the block."""
    command = [sys.executable, "-m", "medfusion.cli", "dashboard", *map(str, (scores, "--port", port, *options))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _second in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1.0)
        else:
            raise Failed("the dashboard did not start within two minutes")
        yield process
    finally:
        process.terminate()
        process.wait()


async def _measured(url: str, pid: int, repeats: int, readers: int, rounds: int) -> dict[str, Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    memory, done = [0.0], asyncio.Event()
    watching = asyncio.create_task(_watch(pid, memory, done))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        cold, page = await _open(browser, url)
        new, warm = [], []
        for _repeat in range(repeats):
            await page.context.close()
            seconds, page = await _open(browser, url)
            new.append(seconds)
        for _repeat in range(repeats):
            seconds, again = await _open(page.context, url)
            warm.append(seconds)
            await again.close()
        filters = [await _filtered(page, f"-{number:05}") for number in range(repeats)]
        alone = memory[0]
        print(f"one reader: {new} s, again {warm} s, filter {filters} s, {alone:.0f} MB", flush=True)
        pages = [(await _open(browser, url))[1] for _number in range(readers)]
        many = await asyncio.gather(*(_reader(each, number, rounds) for number, each in enumerate(pages)))
        await browser.close()
    done.set()
    await watching
    errors = sum(each["errors"] for each in many)
    together = [seconds for each in many for seconds in each["filters"]]
    return {
        "cold_s": cold,
        "new_browser_s": new,
        "paint_s": warm,
        "filter_s": filters,
        "together_filter_s": together,
        "errors": errors,
        "memory_alone_mb": alone,
        "memory_mb": memory[0],
    }


async def _watch(pid: int, peak: list[float], done: asyncio.Event) -> None:
    while not done.is_set():
        peak[0] = max(peak[0], pss_mb(pid))
        await asyncio.sleep(0.25)


async def _open(browser: Browser | BrowserContext, url: str) -> tuple[float, Page]:
    """Open the worklist, and return how long it took until its rows were there.

    In a browser a session of its own, which has not been there before; or again in a session that has.
    """
    context = await browser.new_context(locale="en-GB") if isinstance(browser, Browser) else browser
    page = await context.new_page()
    page.set_default_timeout(_WAIT_MS)
    start = time.perf_counter()
    await page.goto(url, wait_until="commit")
    await page.locator(_ROW).first.wait_for()
    return time.perf_counter() - start, page


async def _filtered(page: Page, text: str) -> float:
    """Filter by name, and return how long it took until every row on the screen was one of those asked for."""
    field = page.get_by_role("textbox", name="Patient")
    await field.fill(text)
    start = time.perf_counter()
    await field.press("Enter")
    await page.wait_for_function(
        """text => {
          const names = [];
          const look = (root) => {
            for (const each of root.querySelectorAll('button.open')) names.push(each.textContent);
            for (const each of root.querySelectorAll('*')) if (each.shadowRoot) look(each.shadowRoot);
          };
          look(document);
          return names.length > 0 && names.every((name) => name.endsWith(text));
        }""",
        arg=text,
        polling=10,
    )
    return time.perf_counter() - start


async def _reader(page: Page, number: int, rounds: int) -> dict[str, Any]:
    """Filter over and over, beside all the others."""
    filters = [await _filtered(page, f"-{100 * each + number:05}") for each in range(rounds)]
    return {"filters": filters, "errors": await page.get_by_role("alert").count()}


def _page(measured: Mapping[str, Any]) -> str:
    def row(name: str, seconds: list[float], limit: str) -> list[str]:
        return [name, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}", limit]

    rows = [
        ["first page after the start, s", f"{measured['cold_s']:.2f}", "", ""],
        row("worklist on the screen, in a browser that was never there, s", measured["new_browser_s"], ""),
        row("worklist on the screen, warm, s", measured["paint_s"], f"{LIMITS['paint_s']:.1f}"),
        row("filter, s", measured["filter_s"], f"{LIMITS['filter_s']:.1f}"),
        row(f"filter, {measured['readers']} readers at once, s", measured["together_filter_s"], ""),
        ["memory of the server, one reader, MB", f"{measured['memory_alone_mb']:.0f}", "", ""],
        [
            f"memory of the server, {measured['readers']} readers, MB",
            f"{measured['memory_mb']:.0f}",
            "",
            f"{LIMITS['memory_mb']:.0f}",
        ],
    ]
    return f"""# The dashboard over {measured["samples"]:,} scored samples

`benchmarks/dashboard.py --samples {measured["samples"]} --readers {measured["readers"]}`; browser and server share the
machine. {machine_line(measured["machine"])}

{markdown_table(("", "median", "largest", "limit"), rows)}
Errors on the screen of {measured["readers"]} readers at once: {measured["errors"]}.
"""


if __name__ == "__main__":
    sys.exit(main())
