"""Several write at once: one chain comes of it, and nothing is lost."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from medfusion.review import ReviewStore, Verdict

EVENTS, WAIT_SECONDS = 200, 300
READERS = ("kim", "lee")


def write(url, about, reader, start):
    store = ReviewStore.open(url, wait_seconds=WAIT_SECONDS)
    start.wait(WAIT_SECONDS)
    for place in range(EVENTS):
        if place % 2:
            store.decide(replace(about, subject_id=f"P{place}"), reader, Verdict.AGREE)
        else:
            store.saw(replace(about, subject_id=f"P{place}"), reader, "patient")
    store.close()


def test_two_processes_that_also_make_the_store_write_one_unbroken_chain(url, about):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(READERS))
    processes = [context.Process(target=write, args=(url, about, reader, start)) for reader in READERS]
    for process in processes:
        process.start()
    for process in processes:
        process.join(WAIT_SECONDS)
    assert [process.exitcode for process in processes] == [0, 0]
    store = ReviewStore.open(url, create=False)
    verification = store.verify()
    assert (verification.ok, verification.checked) == (True, 2 * EVENTS)
    for reader in READERS:
        mine = [event.subject_id for event in store.events(limit=2 * EVENTS) if event.who == reader]
        assert mine == [f"P{place}" for place in range(EVENTS)]
    assert store.summary()["readers"].to_pylist() == [2] * (EVENTS // 2)
    store.close()


def test_twenty_threads_share_one_store(url, about):
    store = ReviewStore.open(url, wait_seconds=WAIT_SECONDS)
    with ThreadPoolExecutor(20) as pool:
        said = list(pool.map(lambda place: store.decide(about, f"reader {place % 20}", Verdict.AGREE), range(60)))
    assert sorted(decision.seq for decision in said) == list(range(1, 61))
    assert store.decisions() == sorted(said, key=lambda decision: decision.seq)
    assert store.verify().ok
    assert store.summary()["readers"].to_pylist() == [20]
    store.close()
