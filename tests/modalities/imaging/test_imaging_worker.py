"""Films are decoded in processes that can be ended."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaging_files import as_bytes, make_film, speckles

from medfusion.core.errors import MedfusionError, PayloadRejected
from medfusion.modalities.imaging import pixels, pool
from medfusion.modalities.imaging.pool import Decoders, Loaded

FILM = as_bytes(make_film(speckles(), WindowCenter="2048", WindowWidth="4096"))
# A worker that knows some misdeeds, too; it is what the caller's sys.path leads to.
MISDEEDS = """
    import ctypes, os, sys, time
    import numpy as np
    from medfusion.modalities.imaging import worker

    def hang(source, arguments):
        time.sleep(60)

    def fail(source, arguments):
        raise ArithmeticError("of a library")

    def crash(source, arguments):
        ctypes.string_at(0)

    def crash_if_used(source, arguments):
        worker.TASKS["crash_if_used"] = crash
        return {"pid": os.getpid()}, np.zeros(1)

    def take(source, arguments):
        return {"pid": os.getpid()}, np.ones(arguments["bytes"] // 4, np.float32)

    def leak(source, arguments):
        worker.leaked = bytearray(arguments["bytes"])
        return {"pid": os.getpid()}, np.zeros(1)

    def counted(path):
        with open(path, "a") as file:
            file.write(f"{os.getpid()}\\n")
        with open(path) as file:
            return len(file.readlines())

    def die(source, arguments):
        if counted(arguments["file"]) <= arguments["times"]:
            os.kill(os.getpid(), arguments["signal"])
            time.sleep(60)
        return {"pid": os.getpid()}, np.zeros(1)

    def linger(source, arguments):
        counted(arguments["file"])
        time.sleep(0.5)
        return {"pid": os.getpid()}, np.zeros(1)

    def chatter(source, arguments):
        os.write(1, b"a decoder says hello")
        os.write(2, b"and warns of something" * 10_000)
        return {"pid": os.getpid()}, np.arange(3)

    worker.TASKS.update(
        hang=hang, fail=fail, crash=crash, crash_if_used=crash_if_used, take=take, leak=leak, chatter=chatter,
        die=die, linger=linger
    )
"""


@pytest.fixture(scope="module")
def misdeeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Teach workers started meanwhile some misdeeds."""
    folder = tmp_path_factory.mktemp("misdeeds")
    (folder / "misdeeds.py").write_text(textwrap.dedent(MISDEEDS), encoding="utf-8")
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(folder))
    patch.setattr(pool, "_START", pool._START.replace("from", "import misdeeds; from", 1))
    yield folder
    patch.undo()


@pytest.fixture
def decoders(misdeeds: Path) -> Iterator[Decoders]:
    with Decoders(workers=1) as decoders:
        yield decoders


def run(decoders: Decoders, task: str, **arguments: Any) -> tuple[Mapping[str, Any], np.ndarray]:
    return decoders.run(task, arguments)


def is_gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process ends in time; one that nobody waited for counts as ended."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("longest", [None, 16])
def test_a_worker_gives_what_decoding_here_gives(decoders: Decoders, tmp_path: Path, longest: int | None) -> None:
    (tmp_path / "a.dcm").write_bytes(FILM)
    here = pixels.load(FILM)
    for source in (FILM, tmp_path / "a.dcm"):
        film, image = decoders.decode(source, longest=longest)
        assert film == Loaded((40, 50), here.content, here.digest) == decoders.decode(source, longest=None)[0]
        np.testing.assert_array_equal(image, pixels.decode(here, longest=longest))
        assert image.dtype == np.float32
        assert image.flags.writeable


def test_a_frame_can_be_asked_for(decoders: Decoders) -> None:
    frames = as_bytes(make_film(speckles(), Rows=10, NumberOfFrames=4))
    _, image = decoders.decode(frames, longest=None, frame=2)
    expected = pixels.decode(pixels.load(frames), frame=2)
    assert image.shape == (10, 50)
    np.testing.assert_array_equal(image, expected)


def test_a_refusal_arrives_as_it_was_raised(decoders: Decoders) -> None:
    with pytest.raises(PayloadRejected) as here:
        pixels.load(as_bytes(make_film(speckles(), BitsStored=77)))
    with pytest.raises(PayloadRejected) as there:
        decoders.decode(as_bytes(make_film(speckles(), BitsStored=77)), longest=None)
    assert there.value.problem == here.value.problem


def test_a_relative_path_is_that_of_the_caller(
    decoders: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders.decode(FILM, longest=None)
    (tmp_path / "a.dcm").write_bytes(FILM)
    monkeypatch.chdir(tmp_path)
    assert decoders.decode(Path("a.dcm"), longest=None)[0].size == (40, 50)


def test_another_film_than_expected_is_refused(decoders: Decoders) -> None:
    digest = decoders.decode(FILM, longest=None)[0].digest
    assert decoders.decode(FILM, longest=None, digest=digest)[0].digest == digest
    with pytest.raises(PayloadRejected, match="changed-film"):
        decoders.decode(as_bytes(make_film(speckles(seed=1))), longest=None, digest=digest)


def test_a_file_that_takes_too_long_is_refused_and_the_next_one_decoded(decoders: Decoders) -> None:
    decoders.decode(FILM, longest=None)
    decoders.time_limit_s = 0.5
    start = time.monotonic()
    with pytest.raises(PayloadRejected, match=r"over 0.5 s.*decode-timeout"):
        run(decoders, "hang")
    assert time.monotonic() - start < 10
    decoders.time_limit_s = pool.TIME_LIMIT_S
    assert decoders.decode(FILM, longest=None)[0].size == (40, 50)


def test_whatever_a_library_raises_is_a_refusal(decoders: Decoders) -> None:
    with pytest.raises(PayloadRejected, match=r"ArithmeticError: of a library.*undecodable-pixels"):
        run(decoders, "fail")


def test_a_crash_ends_the_worker_alone(decoders: Decoders) -> None:
    with pytest.raises(PayloadRejected, match=r"SIGSEGV.*decoder-crashed"):
        run(decoders, "crash")
    assert decoders.decode(FILM, longest=None)[0].size == (40, 50)


KILLS = [signal.SIGKILL, signal.SIGTERM]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("kill", KILLS)
def test_a_worker_that_somebody_ends_costs_no_film(decoders: Decoders, tmp_path: Path, kill: signal.Signals) -> None:
    tries = tmp_path / "tries"
    told, _ = run(decoders, "die", file=str(tries), times=2, signal=int(kill))
    pids = tries.read_text(encoding="utf-8").split()
    assert len(set(pids)) == 3
    assert told["pid"] == int(pids[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_film_whose_workers_are_ended_three_times_is_given_up(decoders: Decoders, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    with pytest.raises(PayloadRejected, match=r"SIGKILL.*decoder-crashed"):
        run(decoders, "die", file=str(tries), times=9, signal=int(signal.SIGKILL))
    assert len(tries.read_text(encoding="utf-8").split()) == 3
    assert decoders.decode(FILM, longest=None)[0].size == (40, 50)


@pytest.mark.skipif(sys.platform != "linux", reason="kills by process id")
def test_a_kill_from_outside_while_a_film_is_decoded_is_not_noticed(decoders: Decoders, tmp_path: Path) -> None:
    started = tmp_path / "started"
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(run, decoders, "linger", file=str(started))
        end = time.monotonic() + 20
        while not started.exists() and time.monotonic() < end:
            time.sleep(0.01)
        victim = int(started.read_text(encoding="utf-8").split()[0])
        os.kill(victim, signal.SIGKILL)
        assert asked.result(timeout=30)[0]["pid"] != victim


@pytest.mark.skipif(sys.platform != "linux", reason="kills by process id")
def test_a_worker_that_is_killed_while_it_starts_or_waits_is_replaced(
    decoders: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    once = f"import os, pathlib, signal; mark = pathlib.Path({str(mark)!r}); seen = mark.exists(); mark.touch()\n"
    once += f"if not seen: os.kill(os.getpid(), signal.SIGKILL)\n{pool._START}"
    monkeypatch.setattr(pool, "_START", once)
    first = run(decoders, "chatter")[0]["pid"]
    os.kill(first, signal.SIGKILL)
    assert is_gone(first)
    assert run(decoders, "chatter")[0]["pid"] != first


def test_a_film_is_not_blamed_for_a_crash_that_earlier_ones_led_to(decoders: Decoders) -> None:
    first = run(decoders, "crash_if_used")[0]["pid"]
    second = run(decoders, "crash_if_used")[0]["pid"]
    assert first != second


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_memory_beyond_the_limit_is_refused(misdeeds: Path) -> None:
    with Decoders(workers=1, memory_limit_bytes=2**29) as decoders:
        assert run(decoders, "take", bytes=2**27)[1].shape == (2**25,)
        with pytest.raises(PayloadRejected, match=r"beyond the limit of memory.*too-large"):
            run(decoders, "take", bytes=2**29)
        assert decoders.decode(FILM, longest=None)[0].size == (40, 50)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory a process holds")
def test_a_worker_that_keeps_memory_is_replaced(decoders: Decoders) -> None:
    assert run(decoders, "leak", bytes=2**20)[0]["pid"] == run(decoders, "leak", bytes=2**28)[0]["pid"]
    assert run(decoders, "leak", bytes=2**20)[0]["pid"] == run(decoders, "chatter")[0]["pid"]


def test_what_decoders_print_does_not_mix_with_the_answers(decoders: Decoders) -> None:
    for _ in range(2):
        assert run(decoders, "chatter")[1].tolist() == [0, 1, 2]


def test_threads_share_the_workers_and_get_their_own_answers(misdeeds: Path) -> None:
    films = [as_bytes(make_film(speckles(seed), PatientID=str(seed))) for seed in range(12)]
    with Decoders(workers=2) as decoders, ThreadPoolExecutor(6) as pool:
        images = list(pool.map(lambda film: decoders.decode(film, longest=None)[1], films))
    for film, image in zip(films, images, strict=True):
        np.testing.assert_array_equal(image, pixels.decode(pixels.load(film)))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_end_with_the_block_and_start_again_when_needed(misdeeds: Path) -> None:
    with Decoders(workers=1) as decoders:
        pid = run(decoders, "chatter")[0]["pid"]
    assert is_gone(pid)
    again = run(decoders, "chatter")[0]["pid"]
    del decoders
    assert is_gone(again)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_the_caller_however_it_ends(tmp_path: Path, end: signal.Signals) -> None:
    script = tmp_path / "script.py"
    lines = (
        "import time",
        "from medfusion.modalities.imaging.pool import Decoders",
        "decoders = Decoders(1)",
        "try: decoders.decode(b'', longest=None)",
        "except Exception: pass",
        "print(next(iter(decoders._running))._process.pid, flush=True)",
        "time.sleep(60)",
    )
    script.write_text("\n".join(lines), encoding="utf-8")
    # Without a guard around what it does: a worker does not run it again.
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        pid = int(caller.stdout.readline())
        assert not is_gone(pid, within_s=0.1)
        caller.send_signal(end)
        caller.wait()
    assert is_gone(pid)


def test_an_interpreter_that_ignores_the_environment_can_decode(tmp_path: Path) -> None:
    root = Path(pool.__file__).parents[3]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from medfusion.modalities.imaging.pool import Decoders\n"
        f"print(Decoders(1).decode(bytes.fromhex({FILM.hex()!r}), longest=None)[0].size)"
    )
    environment = {**os.environ, "PYTHONPATH": "/nowhere"}
    # A module of the folder at hand does not stand in for one of the library.
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong module')", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("(40, 50)\n", "")


def test_a_worker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_START", "import no_such_module")
    with pytest.raises(MedfusionError, match="does not start: ModuleNotFoundError: No module named 'no_such_module'"):
        Decoders(1).decode(FILM, longest=None)
