"""The viewer of images, in a real browser: what is seen, what is said, and that nothing of it asks the server."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from browsing import CHROMIUM, FLAGS
from PIL import Image
from playwright.sync_api import FrameLocator, Page, expect, sync_playwright
from serving import free_port
from viewer_app import film, volume

from dashboards import viewer

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    port = free_port()
    options = {
        "server.port": port,
        "server.address": "127.0.0.1",
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "streamlit", "run", str(Path(__file__).with_name("viewer_app.py")), *given]
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait_for(health: str) -> None:
    for _ in range(PATIENCE_MS // 500):
        try:
            urlopen(health).close()  # noqa: S310 - the server that was just started
        except (URLError, ConnectionError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError("the application does not start")


class Told:
    """What went over the network since the page was opened."""

    def __init__(self, page: Page) -> None:
        self.frames = 0
        self.addresses: list[str] = []
        page.on("websocket", self._watch)
        page.on("request", lambda request: self.addresses.append(request.url))

    def _watch(self, websocket) -> None:
        websocket.on("framesent", self._count)
        websocket.on("framereceived", self._count)

    def _count(self, _) -> None:
        self.frames += 1


@pytest.fixture(scope="module")
def opened(address: str) -> Iterator[tuple[Page, Told]]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        told = Told(page)
        page.goto(address)
        expect(page.frame_locator("iframe").locator("#where")).to_have_text(re.compile("Level 1,750"))
        # Whatever the page itself still has to say.
        page.wait_for_timeout(3000)
        yield page, told
        browser.close()


@pytest.fixture
def frame(opened: tuple[Page, Told]) -> FrameLocator:
    """Return the viewer with the film in it, as it was opened."""
    found = opened[0].frame_locator("iframe")
    found.locator("#strip button").first.click()
    found.locator("#heat").uncheck()
    found.locator("#opacity").fill("0.6")
    return found


def picture(frame: FrameLocator) -> np.ndarray:
    """Return what the picture looks like, array (side, side, 3)."""
    frame.locator("#stage").page.wait_for_timeout(500)
    seen = frame.locator("#stage").screenshot()
    return np.asarray(Image.open(BytesIO(seen)).convert("RGB")).astype(float)


def block(seen: np.ndarray, row: int, column: int, of: int = 4) -> np.ndarray:
    """Return the colour in the middle of a block; texts lie over the corners."""
    side = len(seen)
    y, x = (int((place + 0.5) * side / of) for place in (row, column))
    return seen[y - 5 : y + 5, x - 5 : x + 5].mean(axis=(0, 1))


def point(page: Page, frame: FrameLocator, row: int, column: int) -> tuple[float, float]:
    box = frame.locator("#stage").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] * (column + 0.5) / 4, box["y"] + box["height"] * (row + 0.5) / 4
    page.mouse.move(x, y)
    return x, y


def test_a_film_is_shown_in_the_window_of_its_file(frame):
    seen, expected = picture(frame), film().grey(0)
    for row, column in ((1, 0), (1, 3), (2, 1), (2, 2)):
        grey = float(expected[128 * row + 64, 128 * column + 64])
        np.testing.assert_allclose(block(seen, row, column), [grey] * 3, atol=3)


def test_what_is_under_the_pointer_is_the_value_and_the_share_of_the_arrays(opened, frame):
    page, _ = opened
    for row, column in np.ndindex(4, 4):
        point(page, frame, row, column)
        value = film().pixels[0, 128 * row + 64, 128 * column + 64]
        share = f"{film().heat[0, row, column]:+.3f}".replace("-", "\N{MINUS SIGN}")
        said = re.compile(rf"Value {value:,.0f}\s+row {row + 1}, column {column + 1}: {re.escape(share)} log-odds")
        expect(frame.locator("#under")).to_have_text(said)


def test_dragging_changes_the_window_and_asks_the_server_nothing(opened, frame):
    page, told = opened
    before, frames = picture(frame), told.frames
    x, y = point(page, frame, 1, 1)
    page.mouse.down()
    page.mouse.move(x + 60, y + 100, steps=8)
    page.mouse.up()
    expect(frame.locator("#where")).not_to_have_text(re.compile("Level 1,750"))
    after = picture(frame)
    # A higher level, and a wider window: darker, with less contrast.
    assert block(after, 2, 2).mean() < block(before, 2, 2).mean() - 5
    assert told.frames == frames
    frame.locator("#reset").click()
    np.testing.assert_allclose(block(picture(frame), 2, 2), block(before, 2, 2), atol=1)
    assert told.frames == frames


def test_the_heat_map_is_orange_where_it_raises_and_blue_where_it_lowers(opened, frame):
    _, told = opened
    frames = told.frames
    frame.locator("#opacity").fill("1")
    frame.locator("#heat").check()
    seen, grey = picture(frame), film().grey(0)
    for (row, column), colour in (((2, 3), (213, 94, 0)), ((1, 0), (0, 114, 178))):
        share = abs(film().heat[0, row, column]) / 0.375
        beneath = float(grey[128 * row + 64, 128 * column + 64])
        expected = share * np.array(colour) + (1 - share) * beneath
        np.testing.assert_allclose(block(seen, row, column), expected, atol=6)
    frame.locator("#heat").uncheck()
    np.testing.assert_allclose(np.ptp(block(picture(frame), 2, 3)), 0, atol=1)
    assert told.frames == frames


def test_slices_are_turned_by_wheel_keys_and_slider(opened, frame):
    page, told = opened
    frame.locator("#strip button").nth(1).click()
    # The one with the largest share comes first.
    expect(frame.locator("#where")).to_have_text(re.compile("slice 5 of 12"))
    frames = told.frames
    point(page, frame, 2, 2)
    page.mouse.wheel(0, 100)
    expect(frame.locator("#where")).to_have_text(re.compile("slice 6 of 12"))
    np.testing.assert_allclose(block(picture(frame), 2, 2), float(volume().grey(5)[0, 0]), atol=3)
    expect(frame.locator("#under")).to_have_text(re.compile("Value 0 HU.*was not shown this slice", re.DOTALL))
    frame.locator("#stage").focus()
    page.keyboard.press("End")
    expect(frame.locator("#where")).to_have_text(re.compile("slice 12 of 12"))
    frame.locator("#slice").fill("0")
    expect(frame.locator("#where")).to_have_text(re.compile("slice 1 of 12"))
    np.testing.assert_allclose(block(picture(frame), 2, 2), float(volume().grey(0)[0, 0]), atol=3)
    frame.locator("#preset").select_option("lung")
    expect(frame.locator("#where")).to_have_text(re.compile(r"Level -600\s+Width 1,500"))
    assert told.frames == frames


def test_everything_works_by_keys(opened, frame):
    page, _ = opened
    frame.locator("#stage").focus()
    page.keyboard.press("h")
    expect(frame.locator("#heat")).to_be_checked()
    page.keyboard.press("+")
    expect(frame.locator("output[for=zoom]")).to_have_text(re.compile("1.3"))
    page.keyboard.press("ArrowUp")
    expect(frame.locator("#where")).to_have_text(re.compile("Level 1,850"))
    page.keyboard.press("r")
    expect(frame.locator("#where")).to_have_text(re.compile("Level 1,750"))
    expect(frame.locator("output[for=zoom]")).to_have_text(re.compile("^1[^.]"))


def test_nothing_of_a_patient_is_in_an_address_or_kept_in_the_browser(opened, address):
    page, told = opened
    assert all(each.startswith((address, "data:", "blob:")) for each in told.addresses)
    assert not [each for each in told.addresses if "film" in each or "2020-01-31" in each]
    kept = [each.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])") for each in page.frames]
    assert not [each for each in kept if "film" in each or "2020-01-31" in each]


def test_pixels_are_packed_without_loss_where_they_are_whole_numbers():
    packed = viewer.packed([film(), volume()])
    stored = np.frombuffer(packed["pixels"], "<i2")
    assert stored.tolist() == [*film().pixels.ravel().tolist(), *volume().pixels.ravel().tolist()]
    described = packed["images"][1]
    assert (described["first"], described["unit"], described["names"][0]) == (4, "HU", "slice 1 of 12")


def test_other_values_are_packed_to_a_65000th_of_their_range():
    values = np.random.default_rng(0).normal(3, 2, (1, 32, 32)).astype(np.float32)
    view = viewer.ImageView("PET", values, np.zeros((1, 2, 2)), (3.0, 6.0), "SUV", ["film 1"])
    packed = viewer.packed([view])
    (said,) = packed["images"]
    again = said["offset"] + said["step"] * np.frombuffer(packed["pixels"], "<i2").reshape(1, 32, 32)
    np.testing.assert_allclose(again, values, atol=np.ptp(values) / 65000)
    assert packed["digest"] != viewer.packed([film()])["digest"]
