import threading
import time

import pytest

from medfusion.scoring import Stage, Stages


def test_every_item_comes_out_once_whatever_the_number_of_threads():
    stages = Stages([Stage("square", lambda number: number**2, 4), Stage("negate", lambda number: -number, 2)])
    assert sorted(stages.run(range(50))) == sorted(-(number**2) for number in range(50))


def test_one_thread_per_stage_keeps_the_order():
    stages = Stages([Stage("same", lambda number: number), Stage("text", str)])
    assert list(stages.run(range(20))) == [str(number) for number in range(20)]


def test_no_more_items_are_on_their_way_than_there_are_threads():
    taken = []

    def source():
        for number in range(40):
            taken.append(number)
            yield number

    quick, slow = Stage("quick", lambda number: number, 3), Stage("slow", lambda number: time.sleep(0.01) or number)
    for done, _ in enumerate(Stages([quick, slow]).run(source())):
        assert len(taken) <= done + 1 + 4
    assert sorted(taken) == list(range(40))


def test_an_error_of_a_stage_ends_the_run_and_its_threads():
    before = threading.active_count()

    def refuse(number):
        if number == 3:
            raise ValueError("three")
        return number

    with pytest.raises(ValueError, match="three"):
        list(Stages([Stage("refuse", refuse), Stage("same", lambda number: number)]).run(range(1000)))
    assert threading.active_count() == before


def test_an_error_of_the_source_is_raised():
    def source():
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(Stages([Stage("same", lambda number: number)]).run(source()))


def test_who_stops_listening_ends_the_threads():
    before = threading.active_count()
    run = Stages([Stage("same", lambda number: number)]).run(range(1000))
    assert next(run) == 0
    run.close()
    assert threading.active_count() == before
