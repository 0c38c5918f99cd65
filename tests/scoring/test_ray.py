"""The Ray engine: the rows of the local one, also where an actor is killed; errors as ours."""

import os
import pickle

import pytest

from medfusion.core.errors import DataError, MissingExtra, PayloadRejected, Problem, RunStopped, UsageError
from medfusion.modalities.imaging.pool import processors
from medfusion.scoring import Counts, PartResult, RayEngine, Stage
from medfusion.scoring.engines import PROCESSORS

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'medfusion[ray]'")
crashes = pytest.importorskip("crashes", reason="benchmarks/ is not here")
# Ray Data warns of settings of its own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
PROBLEM = Problem("bad-time", "ehr.csv", "row 3", "time", "01/02/2020", "ISO 8601", "write 2020-02-01")


def scorer_that(work):
    """Return what makes a scorer of one stage; of the test, so that it is sent as it is."""

    class Toy:
        def stages(self):
            return [Stage("work", work)]

    return Toy


@pytest.fixture(scope="module")
def cluster():
    """Start Ray once for all engines of this module."""
    with RayEngine(workers=2)._connected() as connected:
        yield connected


def test_an_actor_that_is_killed_costs_no_row_and_rows_are_those_of_the_local_engine(
    trained, new_patients, cache, tmp_path
):
    options = ("--part-size", "3", "--cache", str(cache))
    local = crashes.Command(trained.folder, new_patients.folder, options)
    command = crashes.Command(trained.folder, new_patients.folder, ("--engine", "ray", "--workers", "2", *options))
    outcome = crashes.crash(command, tmp_path, ["actor"], seed=0, reference=local)
    assert [kill.hit for kill in outcome.kills] == [True]
    assert outcome.rows["predictions"] > 0
    assert outcome.rows["ledger"] > 0
    assert (outcome.lost, outcome.doubled, outcome.changed) == (0, 0, 0)


def test_every_part_comes_back_once(cluster):
    engine = RayEngine(workers=2)
    made = scorer_that(lambda part: PartResult(part, Counts(rows=part)))
    found = list(engine.run(range(50), made))
    assert sorted((result.part, result.counts.rows) for result in found) == [(n, n) for n in range(50)]
    assert engine.waiting() == {"ray": 0}


def test_an_error_of_ours_in_an_actor_is_raised_as_it_is(cluster):
    def refuse(part):
        raise DataError([PROBLEM])

    with pytest.raises(DataError) as caught:
        list(RayEngine(workers=1).run(range(3), scorer_that(refuse)))
    assert caught.value.problems == (PROBLEM,)


@pytest.mark.parametrize(
    "error", [RunStopped("the disk is full"), DataError([PROBLEM]), PayloadRejected(PROBLEM), MissingExtra("a", "b")]
)
def test_errors_of_ours_can_be_sent(error):
    sent = pickle.loads(pickle.dumps(error))  # noqa: S301 - as Ray does
    assert type(sent) is type(error)
    assert str(sent) == str(error)
    assert getattr(sent, "problems", None) == getattr(error, "problems", None)


def test_any_other_error_stops_the_run_with_its_type_and_not_its_words(cluster):
    def fail(part):
        raise KeyError("Jane Doe")

    with pytest.raises(RunStopped, match=r"the Ray cluster cannot go on: KeyError; see its logs") as caught:
        list(RayEngine(workers=1).run(range(3), scorer_that(fail)))
    assert "Jane" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cluster_that_is_not_there_is_wrong_usage(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(UsageError, match=r"--address 127\.0\.0\.1:9: no Ray cluster answers"):
        list(RayEngine("127.0.0.1:9").run([1], scorer_that(str)))


@pytest.mark.parametrize(("told", "expected"), [("1", 1), ("1000000", None), ("", None), ("many", None), ("0", None)])
def test_an_actor_decodes_in_no_more_processes_than_it_has_processors(monkeypatch, told, expected):
    monkeypatch.setenv(PROCESSORS, told)
    assert processors() == (expected or len(os.sched_getaffinity(0)))
