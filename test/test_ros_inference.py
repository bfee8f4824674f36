# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The mailbox and its thread: the latest wins, everything is counted, nothing comes after stop."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import astuple

import pytest

from evict3r_ros.ros.perception.worker import Counts, Worker

PATIENCE_S = 5.0


class Bench:
    """A worker whose work takes as long as the test wants, and what it delivered and reported."""

    def __init__(self, before: Counts | None = None) -> None:
        self.begun: queue.Queue = queue.Queue()
        self.go_on = threading.Semaphore(0)
        self.delivered: list = []
        self.errors: list[Exception] = []
        self.threads: set[str] = set()
        self.worker: Worker = Worker(self.work, self.delivered.append, self.errors.append, before or Counts())

    def work(self, item):
        self.threads.add(threading.current_thread().name)
        self.begun.put(item)
        assert self.go_on.acquire(timeout=PATIENCE_S)
        if isinstance(item, Exception):
            raise item
        return -item

    def until(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)


@pytest.fixture
def bench():
    bench = Bench()
    bench.worker.start()
    yield bench
    bench.go_on.release(100)
    assert bench.worker.stop(PATIENCE_S)


def test_the_latest_of_those_that_wait_wins_and_the_others_are_counted(bench):
    bench.worker.offer(1)
    assert bench.begun.get(timeout=PATIENCE_S) == 1
    for item in (2, 3, 4):
        bench.worker.offer(item)
    bench.go_on.release(2)
    bench.until(lambda: len(bench.delivered) == 2)
    bench.until(lambda: bench.worker.counts().processed == 2)
    assert bench.delivered == [-1, -4]
    assert bench.worker.counts() == Counts(received=4, processed=2, dropped=2)
    assert 'MainThread' not in bench.threads and len(bench.threads) == 1


def test_offer_does_not_wait_for_the_work(bench):
    bench.worker.offer(1)
    bench.begun.get(timeout=PATIENCE_S)
    began = time.perf_counter()
    for item in range(1000):
        bench.worker.offer(item)
    assert time.perf_counter() - began < 1.0
    assert not bench.delivered


def test_an_exception_costs_its_own_frame_only(bench):
    bench.go_on.release(3)
    for count, item in enumerate((ValueError('torn'), RuntimeError('worse'), 7), start=1):
        bench.worker.offer(item)
        bench.until(lambda count=count: sum(astuple(bench.worker.counts())[1:]) == count)
    assert bench.delivered == [-7]
    assert [str(error) for error in bench.errors] == ['torn', 'worse']
    assert bench.worker.counts() == Counts(received=3, processed=1, failed=2)


def test_an_exception_of_the_delivery_is_counted_as_well():
    errors: list[Exception] = []

    def deliver(_):
        raise OSError('no way out')

    worker = Worker(lambda item: item, deliver, errors.append)
    worker.start()
    worker.offer(1)
    deadline = time.monotonic() + PATIENCE_S
    while not errors and time.monotonic() < deadline:
        time.sleep(0.002)
    assert worker.stop(PATIENCE_S)
    assert worker.counts() == Counts(received=1, failed=1) and isinstance(errors[0], OSError)


def test_what_is_refused_before_any_work_is_counted_and_told(bench):
    assert bench.worker.is_idle()
    bench.worker.refuse(ValueError('its stamp'))
    assert [str(error) for error in bench.errors] == ['its stamp'] and bench.worker.is_idle()
    bench.worker.offer(1)
    bench.begun.get(timeout=PATIENCE_S)
    assert not bench.worker.is_idle()
    bench.go_on.release()
    bench.until(bench.worker.is_idle)
    assert bench.worker.counts() == Counts(received=2, processed=1, failed=1)


def test_a_report_that_fails_leaves_the_thread_alive(caplog):
    done = threading.Event()

    def report(error: Exception) -> None:
        raise RuntimeError('nobody to tell')

    worker = Worker(lambda item: 1 // item, lambda result: done.set(), report)
    worker.start()
    worker.offer(0)
    deadline = time.monotonic() + PATIENCE_S
    while worker.counts().failed < 1:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    worker.offer(1)
    assert done.wait(PATIENCE_S)
    assert worker.stop(PATIENCE_S)
    assert 'ZeroDivisionError' in caplog.text and 'nobody to tell' in caplog.text


def test_nothing_is_delivered_after_stop(bench):
    bench.worker.offer(1)
    bench.begun.get(timeout=PATIENCE_S)
    bench.worker.offer(2)
    assert not bench.worker.stop(0.05)  # still deep in its frame
    bench.worker.offer(3)
    bench.go_on.release()
    assert bench.worker.stop(PATIENCE_S)
    assert bench.delivered == []
    assert bench.worker.counts() == Counts(received=3, dropped=3)


def test_an_idle_worker_stops_at_once(bench):
    began = time.perf_counter()
    assert bench.worker.stop(PATIENCE_S)
    assert time.perf_counter() - began < 1.0
    assert bench.worker.stop(PATIENCE_S)  # and a second time does no harm


def test_a_worker_that_never_started_stops():
    assert Bench().worker.stop(0.1)


def test_counts_go_on_from_an_earlier_worker():
    bench = Bench(before=Counts(10, 7, 2, 1))
    bench.go_on.release()
    bench.worker.start()
    bench.worker.offer(1)
    bench.until(lambda: bench.worker.counts().processed == 8)
    assert bench.worker.stop(PATIENCE_S)
    assert bench.worker.counts() == Counts(11, 8, 2, 1)


def test_pace_tells_rate_and_latency(bench):
    assert bench.worker.pace().rate_hz == 0.0
    for count in range(1, 6):
        bench.worker.offer(count)
        bench.begun.get(timeout=PATIENCE_S)
        time.sleep(0.03)
        bench.go_on.release()
        bench.until(lambda count=count: bench.worker.counts().processed == count)
    pace = bench.worker.pace()
    assert 30.0 <= pace.latency_p50_ms <= pace.latency_p99_ms < 2000.0
    assert 0.0 < pace.rate_hz < 1 / 0.03


def test_a_flood_keeps_the_books_straight(bench):
    bench.go_on.release(100_000)
    threads = [threading.Thread(target=lambda: [bench.worker.offer(i) for i in range(2000)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.until(lambda: sum(astuple(bench.worker.counts())[1:]) == 6000)
    counts = bench.worker.counts()
    assert counts.received == 6000 and counts.failed == 0
    assert counts.processed == len(bench.delivered) > 0
