"""The rotation threads: bounded, started when needed, gone when idle, drained at exit."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator

import pytest

from flask_tokenrotate import threads as module
from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.threads import (
    FREE_FOR_REQUESTS,
    CallersThread,
    RotationThreads,
    _ForkedAway,
    threads_can_run,
)

from .forked import in_forked_child

LONGEST = 10.0
"""Seconds until a test that hangs fails."""

LIMIT = 6


class Task:
    """Work that says when it has begun, and goes on until it is released."""

    def __init__(self, at_release: Callable[[], object] = lambda: None) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.thread: threading.Thread | None = None
        self._at_release = at_release

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        assert self.release.wait(LONGEST)
        self._at_release()

    def has_begun(self) -> bool:
        return self.begun.wait(LONGEST)


class Pool(RotationThreads):
    """Rotation threads whose tasks are released when the test ends."""

    def __init__(self, *, limit: int = LIMIT, drain_seconds: float = LONGEST) -> None:
        super().__init__(SystemClock(), limit=limit, drain_seconds=drain_seconds)
        self.tasks: list[Task] = []

    def task(self, *, provider: str = "p", ahead: bool = False) -> Task | None:
        """Hand a new task over; None where it was not accepted."""
        task = Task()
        self.tasks.append(task)
        return task if self.run(provider, task, ahead=ahead) else None

    def begun(self, count: int, *, provider: str = "p") -> list[Task]:
        """Hand over that many tasks, all of which begin."""
        tasks = [self.task(provider=provider) for _ in range(count)]
        assert all(task is not None and task.has_begun() for task in tasks)
        return [task for task in tasks if task is not None]

    def release_all(self) -> None:
        for task in self.tasks:
            task.release.set()
        assert self.wait_until_idle(LONGEST)


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.release_all()


class TestBounds:
    """At most ``limit`` threads for each provider."""

    def test_so_much_work_runs_at_once_and_the_rest_waits(self, pool: Pool) -> None:
        """The next piece begins when one has ended."""
        running = pool.begun(LIMIT)
        waiting = pool.task()
        assert waiting is not None
        assert pool._pools["p"].threads == LIMIT
        assert not waiting.begun.is_set()
        running[0].release.set()
        assert waiting.has_begun()
        assert waiting.thread is running[0].thread

    def test_a_slow_provider_keeps_no_thread_from_another(self, pool: Pool) -> None:
        """Each has its own."""
        pool.begun(LIMIT)
        assert pool.task() is not None
        other = pool.begun(1, provider="q")
        assert other[0].has_begun()

    def test_work_that_is_queued_keeps_its_order(self) -> None:
        """Who came first is served first."""
        pool, done = Pool(limit=1), []
        first = pool.begun(1)[0]
        for number in range(5):
            pool.run("p", lambda number=number: done.append(number), ahead=False)  # type: ignore[misc]
        first.release.set()
        assert pool.wait_until_idle(LONGEST)
        assert done == [0, 1, 2, 3, 4]

    def test_rotations_ahead_leave_threads_free(self, pool: Pool) -> None:
        """Requests find `FREE_FOR_REQUESTS` of them, however many tokens are near their end at once."""
        accepted = [pool.task(ahead=True) for _ in range(LIMIT)]
        assert [task is not None for task in accepted] == [True] * (LIMIT - FREE_FOR_REQUESTS) + [
            False
        ] * FREE_FOR_REQUESTS
        pool.begun(FREE_FOR_REQUESTS)

    def test_what_requests_wait_for_counts_too(self, pool: Pool) -> None:
        """A rotation ahead is refused while they keep the threads busy, and accepted after."""
        busy = pool.begun(LIMIT - FREE_FOR_REQUESTS)
        assert pool.task(ahead=True) is None
        busy[0].release.set()
        with pool._changed:
            assert pool._changed.wait_for(lambda: pool._pools["p"].in_progress < len(busy), LONGEST)
        assert pool.task(ahead=True) is not None


class TestLife:
    """Threads are started when there is work, and end when there is none."""

    def test_none_is_started_before_there_is_work(self, pool: Pool) -> None:
        """An application that is imported has no thread."""
        assert pool._pools == {}
        task = pool.begun(1)[0]
        assert task.thread is not None
        assert (task.thread.daemon, task.thread.name) == (True, "tokenrotate-p")

    def test_a_thread_that_is_free_is_used_again(self, pool: Pool) -> None:
        """One piece of work after the other needs one thread."""
        seen = set()
        for _ in range(5):
            task = pool.begun(1)[0]
            seen.add(task.thread)
            task.release.set()
            assert pool.wait_until_idle(LONGEST)
        assert len(seen) == 1

    def test_a_thread_without_work_ends(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        """And the next work has a new one."""
        monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
        task = pool.begun(1)[0]
        task.release.set()
        assert task.thread is not None
        task.thread.join(LONGEST)
        assert not task.thread.is_alive()
        assert pool._pools["p"].threads == 0
        assert pool.begun(1)[0].thread is not task.thread

    def test_work_that_fails_is_logged_and_the_thread_goes_on(
        self, pool: Pool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A defect costs nobody a thread."""
        failing = Task(lambda: 1 / 0)
        pool.run("p", failing, ahead=False)
        failing.release.set()
        assert pool.wait_until_idle(LONGEST)
        assert "a rotation thread failed" in caplog.text
        assert pool.begun(1)[0].thread is failing.thread

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_thread_that_is_ended_is_not_counted_any_more(self, pool: Pool) -> None:
        """As a greenlet that is killed: what counted for ever would keep the process from its end."""
        stopped = Task(sys.exit)
        pool.run("p", stopped, ahead=False)
        assert stopped.has_begun()
        assert stopped.thread is not None
        stopped.release.set()
        stopped.thread.join(LONGEST)
        assert pool.wait_until_idle(0.0)
        assert pool._pools["p"].threads == 0

    def test_where_no_thread_can_be_started_the_caller_does_the_work(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a request waits for is done; what nobody waits for is not."""
        monkeypatch.setattr(threading.Thread, "start", no_more_threads)
        done: list[threading.Thread] = []
        assert pool.run("p", lambda: done.append(threading.current_thread()), ahead=False)
        assert done == [threading.current_thread()]
        assert not pool.run("p", lambda: done.append(threading.current_thread()), ahead=True)
        assert len(done) == 1
        assert pool.wait_until_idle(0.0)

    def test_where_no_more_can_be_started_those_that_run_do_it(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It waits for one of them."""
        running = pool.begun(1)[0]
        monkeypatch.setattr(threading.Thread, "start", no_more_threads)
        waiting = pool.task()
        assert waiting is not None
        running.release.set()
        assert waiting.has_begun()
        assert waiting.thread is running.thread

    def test_the_caller_holds_nothing_while_it_does_the_work(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Work may start work."""
        monkeypatch.setattr(threading.Thread, "start", no_more_threads)
        done: list[str] = []
        pool.run("p", lambda: pool.run("q", lambda: done.append("inner"), ahead=False), ahead=False)
        assert done == ["inner"]


def no_more_threads(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


class TestDrain:
    """At exit work in progress has ``drain_seconds``; then calls that still wait are aborted."""

    def test_it_waits_for_work_in_progress(self) -> None:
        """Nothing is aborted when it ends in time."""
        pool = Pool()
        task = pool.begun(1)[0]
        drained = in_thread(pool.drain)
        assert not pool.are_closing
        task.release.set()
        drained.join(LONGEST)
        assert not drained.is_alive()
        assert not pool.are_closing

    def test_then_calls_are_aborted(self) -> None:
        """The holder sees it between two reads, and writes that its grant is in doubt."""
        pool = Pool(drain_seconds=0.01)
        aborted = threading.Event()

        def wait_for_the_provider() -> None:
            while not pool.are_closing:
                threading.Event().wait(0.001)
            aborted.set()

        pool.run("p", wait_for_the_provider, ahead=False)
        pool.drain()
        assert aborted.is_set()
        assert pool.wait_until_idle(0.0)

    def test_no_rotation_ahead_begins_any_more(self) -> None:
        """Only what requests wait for."""
        pool = Pool()
        pool._is_closing = True
        assert pool.task(ahead=True) is None
        pool.begun(1)
        pool.release_all()

    def test_what_does_not_end_even_then_is_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The process ends all the same: its threads are daemons."""
        monkeypatch.setattr(module, "ABORT_SECONDS", 0.01)
        pool = Pool(drain_seconds=0.0)
        pool.begun(1)
        with caplog.at_level(logging.WARNING):
            pool.drain()
        assert "redemptions are still in progress" in caplog.text
        pool.release_all()

    def test_a_process_without_work_does_not_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing was handed over: nothing is registered for the exit, and nothing is drained."""
        registered: list[object] = []
        monkeypatch.setattr(module.atexit, "register", registered.append)
        pool = Pool()
        pool.drain()
        assert registered == []
        pool.run("p", lambda: None, ahead=False)
        pool.run("p", lambda: None, ahead=False)
        assert registered == [pool.drain]
        assert pool.wait_until_idle(LONGEST)


AT_EXIT = """
import sys, threading, time
from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.threads import RotationThreads

begun = threading.Event()

def redeem():
    begun.set()
    for _ in range(20):
        time.sleep(0.01)
        if pool.are_closing:
            print("in doubt")
            return
    print("saved")

pool = RotationThreads(SystemClock(), limit=5, drain_seconds=float(sys.argv[1]))
pool.run("p", redeem, ahead=False)
begun.wait()
"""


@pytest.mark.parametrize(("drain_seconds", "said"), [("5", "saved"), ("0", "in doubt")])
def test_the_end_of_the_interpreter_drains(drain_seconds: str, said: str) -> None:
    """Daemon threads would be gone, and what they had got with them."""
    command = [sys.executable, "-c", AT_EXIT, drain_seconds]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout.strip(), ended.stderr) == (said, "")


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
class TestFork:
    """A forked child has none of its parent's threads."""

    def test_the_child_starts_with_none_and_starts_its_own(self, pool: Pool) -> None:
        """The parent's threads are busy, and nobody in the child waits for them."""
        pool.begun(LIMIT)
        assert pool.task() is not None

        def work_in_child() -> bool:
            done = threading.Event()
            was_empty = pool._pools == {} and pool.wait_until_idle(0.0)
            return was_empty and pool.run("p", done.set, ahead=False) and done.wait(LONGEST)

        assert in_forked_child(work_in_child)

    def test_a_lock_that_a_thread_of_the_parent_holds_is_free(self, pool: Pool) -> None:
        """No thread of the child's would ever release it."""
        with pool._changed:
            assert in_forked_child(lambda: pool._changed.acquire(timeout=0))

    def test_a_parent_that_closes_says_nothing_of_the_child(self) -> None:
        """Its calls go on."""
        pool = Pool()
        pool.run("p", lambda: None, ahead=False)
        pool._is_closing = True
        assert in_forked_child(lambda: not pool.are_closing)

    def test_the_child_drains_its_own_work(self) -> None:
        """It is registered for the child's exit, and the parent's handler says nothing of the child."""
        pool = Pool(drain_seconds=0.01)
        pool.run("p", lambda: None, ahead=False)
        assert pool.wait_until_idle(LONGEST)

        def drain_in_child() -> bool:
            pool.drain()
            nothing_to_drain = pool._process is None
            pool.run("p", lambda: None, ahead=False)
            return nothing_to_drain and pool._process == os.getpid()

        assert in_forked_child(drain_in_child)

    def test_a_greenlet_of_the_parent_that_lives_on_is_stopped(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Under gevent it would read the response from the socket that its parent reads from."""
        seen: list[bool | None] = []
        parent = os.getpid()

        def redeem_across_a_fork() -> None:
            seen.append(pool.are_closing)
            monkeypatch.setattr(os, "getpid", lambda: parent + 1)
            try:
                seen.append(pool.are_closing)
            except _ForkedAway:
                seen.append(None)
                raise
            finally:
                monkeypatch.setattr(os, "getpid", lambda: parent)

        pool.run("p", redeem_across_a_fork, ahead=False)
        assert pool.wait_until_idle(LONGEST)
        assert seen == [False, None]

    def test_a_greenlet_that_lives_on_takes_no_work(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is queued in the child is for the child's own threads."""
        task = pool.begun(1)[0]
        queue = pool._pools["p"]
        with pool._changed:
            task.release.set()
            parent = os.getpid()
            monkeypatch.setattr(os, "getpid", lambda: parent + 1)
            queue.queue.append(lambda: None)
        assert task.thread is not None
        task.thread.join(LONGEST)
        assert (len(queue.queue), task.thread.is_alive()) == (1, False)
        queue.queue.clear()

    def test_work_in_its_caller_may_ask_whether_the_process_closes(self, pool: Pool) -> None:
        """A job's call runs in a process that has no rotation thread, or has been forked from one."""
        assert pool.are_closing is False
        assert in_forked_child(lambda: pool.are_closing is False)


class TestCallersThread:
    """Where no other thread can run."""

    @pytest.mark.parametrize("ahead", [False, True])
    def test_the_work_is_done_when_run_returns(self, ahead: bool) -> None:
        """In the caller, and nothing goes on after it."""
        here, done = CallersThread(), []
        assert here.run("p", lambda: done.append(threading.current_thread()), ahead=ahead)
        assert done == [threading.current_thread()]
        assert (here.in_background, here.are_closing, here.wait_until_idle(0.0)) == (False, False, True)


class TestDetection:
    """Whether threads run beside the requests of this process."""

    @pytest.fixture(autouse=True)
    def usual_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in module._FROZEN_BETWEEN_REQUESTS:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delitem(sys.modules, "uwsgi", raising=False)

    def test_a_usual_process_has_them(self) -> None:
        """Gunicorn, waitress, the development server."""
        assert threads_can_run()

    @pytest.mark.parametrize(
        "name", ["AWS_LAMBDA_FUNCTION_NAME", "FUNCTIONS_WORKER_RUNTIME", "K_SERVICE", "VERCEL"]
    )
    def test_a_process_that_is_frozen_between_requests_has_not(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """It may get no processor time after its response."""
        monkeypatch.setenv(name, "1")
        assert not threads_can_run()

    @pytest.mark.parametrize(
        ("options", "can_run"),
        [
            ({}, False),
            ({"processes": b"4"}, False),
            ({"enable-threads": True}, True),
            ({b"enable-threads": True}, True),
            ({"threads": b"4"}, True),
            ({b"threads": b"4"}, True),
        ],
    )
    def test_uwsgi_has_them_when_its_options_say_so(
        self, monkeypatch: pytest.MonkeyPatch, options: dict[object, object], can_run: bool
    ) -> None:
        """Without either option the interpreter's threads stand still between requests."""
        uwsgi = types.ModuleType("uwsgi")
        uwsgi.opt = options  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
        assert threads_can_run() is can_run
