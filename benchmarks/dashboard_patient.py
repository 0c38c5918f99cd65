"""How quick is a patient's page: to open it, to ask "what if?", to set the window of a picture?

`medfusion dashboard` is started on a scored cohort, as a user does, and a browser opens patients one by one. Times are
by the clock: from the click on a name until risk and reasons are there, until the server has drawn the last of the
page, and until the picture is there, too, for which the processor stands in for a graphics card; and from a changed
value until the risk that it would make. Dragging over a picture is counted, in messages between browser and server, of
which there are to be none. The first patient after the start of server and browser, for whom libraries and scripts
are loaded, is told apart.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import RESULTS, machine, machine_line, markdown_table, write_results
from dashboard import FLAGS, dashboard, scored
from playwright.sync_api import BrowserContext, FrameLocator, Page, sync_playwright

from medfusion.pipeline import score

LIMITS = {"open_s": 1.5, "what_if_s": 1.0, "drag_messages": 0}
_WAIT_MS = 60_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, help="new patients; synthetic unless given")
    parser.add_argument("--model", type=Path, help="what scores them; with --cohort")
    parser.add_argument("--patients", type=int, default=10)
    parser.add_argument("--port", type=int, default=8598)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if (args.cohort is None) != (args.model is None):
        parser.error("--cohort and --model go together")
    with tempfile.TemporaryDirectory() as temporary:
        work, name = Path(temporary), "synthetic"
        if args.cohort is None:
            scores, cohort, model = scored(work), work / "new", work / "model"
        else:
            scores, cohort, model, name = work / "scores", args.cohort, args.model, args.cohort.name
            score(model, cohort, scores, cache=work / "cache")
        with dashboard(scores, args.port, "--cohort", cohort, "--model", model):
            visits = _visits(f"http://127.0.0.1:{args.port}", args.patients + 1)
    measured = {"cohort": name, "machine": machine(), "first": visits[0], "visits": visits[1:]}
    write_results(args.out, f"dashboard-patient-{name}", measured, _page(measured))
    return 0


def _visits(url: str, patients: int) -> list[dict[str, float | None]]:
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 1000})
        context.set_default_timeout(_WAIT_MS)
        visits = [_visit(context, url, number) for number in range(patients)]
        browser.close()
    return visits


def _visit(context: BrowserContext, url: str, row: int) -> dict[str, float | None]:
    """Open a patient of the worklist, and do there what is timed."""
    page = context.new_page()
    messages = [0]
    page.on("websocket", lambda socket: _count(socket, messages))
    page.goto(url)
    name = page.locator("tbody tr button.open").nth(row)
    name.wait_for()
    page.wait_for_timeout(1000)
    start = time.perf_counter()
    name.click()
    page.locator(".mf-fall").first.wait_for()
    reasons_s = time.perf_counter() - start
    page.get_by_role("heading", name="Similar patients").wait_for()
    page.locator("[data-test-script-state=notRunning]").wait_for(state="attached")
    open_s = time.perf_counter() - start
    pictures = page.frame_locator("iframe").first if page.locator("iframe").count() else None
    if pictures is not None:
        pictures.locator("#where").filter(has_text=re.compile("Level")).wait_for()
    picture_s = None if pictures is None else time.perf_counter() - start
    page.wait_for_timeout(1000)
    measured: dict[str, float | None] = {"reasons_s": reasons_s, "open_s": open_s, "picture_s": picture_s}
    measured["what_if_s"] = _what_if(page)
    measured["drag_messages"] = None if pictures is None else _drag(page, pictures, messages)
    print(measured, flush=True)
    page.close()
    return measured


def _count(socket: Any, messages: list[int]) -> None:
    def count(_message: Any) -> None:
        messages[0] += 1

    socket.on("framesent", count)
    socket.on("framereceived", count)


def _what_if(page: Page) -> float | None:
    """Change the first number that was recorded, if any, and return how long it took until its risk was there."""
    page.get_by_text("What if?").click()
    chooser = page.get_by_role("combobox", name="Values to change")
    chooser.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    chooser.click()
    chooser.fill(": ")
    page.get_by_role("option").first.wait_for()
    recorded_numbers = page.get_by_role("option").filter(has_text=re.compile(r": -?\d"))
    if not recorded_numbers.count():
        return None
    recorded_numbers.first.click()
    page.keyboard.press("Escape")
    field = page.get_by_role("spinbutton").first
    recorded = float(field.input_value())
    low, high = float(field.get_attribute("min") or 0.0), float(field.get_attribute("max") or 0.0)
    field.fill(f"{high if recorded - low < high - recorded else low:.6g}")
    start = time.perf_counter()
    page.keyboard.press("Enter")
    page.get_by_test_id("stMetric").filter(has_text="Hypothetical").wait_for()
    return time.perf_counter() - start


def _drag(page: Page, pictures: FrameLocator, messages: list[int]) -> int:
    """Set the window of the picture by dragging, and return how many messages that took."""
    stage = pictures.locator("#stage")
    stage.scroll_into_view_if_needed()
    page.wait_for_timeout(2000)
    before, said = messages[0], pictures.locator("#where").inner_text()
    box = stage.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 100, steps=20)
    page.mouse.up()
    if pictures.locator("#where").inner_text() == said:
        raise RuntimeError("the window has not moved")
    return messages[0] - before


def _page(measured: Mapping[str, Any]) -> str:
    names = {
        "reasons_s": "risk and reasons on the screen, s",
        "open_s": "the whole page, s",
        "picture_s": "its picture, s",
        "what_if_s": "what-if, s",
        "drag_messages": "messages while a window is dragged",
    }
    rows = []
    for key, name in names.items():
        found = [each[key] for each in measured["visits"] if each[key] is not None]
        if found:
            first = measured["first"][key]
            told = [f"{each:.2f}" for each in (statistics.median(found), max(found))]
            rows.append([name, "" if first is None else f"{first:.2f}", *told, str(LIMITS.get(key, ""))])
    return f"""# A patient's page, {measured["cohort"]}

`benchmarks/dashboard_patient.py`; browser and server share the machine; {len(measured["visits"])} patients, one by one.
{machine_line(measured["machine"])}

{markdown_table(("", "first patient", "median", "largest", "limit"), rows)}
"""


if __name__ == "__main__":
    sys.exit(main())
