"""Starting a dashboard in a process of its own, as a user does."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 120
"""For a server to start, or a page to be drawn, on a machine that is busy with other tests."""


@dataclass(frozen=True, slots=True)
class Server:
    """A dashboard in a process of its own."""

    url: str
    pid: int
    log: Path


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def dashboard(scores: Path, work: Path, *options: object, port: int | None = None) -> Iterator[Server]:
    """Run ``medfusion dashboard`` until the end of the block."""
    port, log = port or free_port(), work / "server.log"
    command = [sys.executable, "-m", "medfusion.cli", "dashboard", scores, "--port", port, *options]
    # Neither settings nor secrets of whoever runs the tests.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(work)}
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(list(map(str, command)), cwd=work, env=environment, stdout=out, stderr=out)
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health", process, log)
            yield Server(f"http://127.0.0.1:{port}", process.pid, log)
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


def _wait(address, process, log):
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - of this machine
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the dashboard did not start: {log.read_text(encoding='utf-8')[-2000:]}")
