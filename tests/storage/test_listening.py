"""Waiting requests are woken by PostgreSQL where that works, and look at the row where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.rotation.outcomes import Overtaken, SaveOutcome
from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.storage.database import listening, write
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.listening import Listener
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.grants import SqlGrantStore

from ..conftest import available
from ..servers import Servers
from ..servers.pgbouncer import OPTIONS, PgBouncer
from .backends import BUSY, SEALER, new_grant, token_set

pytestmark = pytest.mark.engine

LONG = 20.0
"""Seconds that nothing here takes unless it fails."""

LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN tokenrotate'"


class Process:
    """What a process of a deployment has: a database, a store on it and a listener."""

    def __init__(self, uri: str, *, enabled: bool = True, **options: Any) -> None:
        self.database = Database.from_uri(uri, options)
        self.store = SqlGrantStore(self.database, SEALER, notifies=enabled)
        self.listener = Listener(self.database, SystemClock(), enabled=enabled)

    def close(self) -> None:
        """Leave no connection behind."""
        self.listener.close()
        self.database.engine().dispose()

    def begin_to_hear(self) -> None:
        """Wait as requests do until the listener hears."""
        give_up_at = time.monotonic() + LONG
        while time.monotonic() < give_up_at:
            with self.listener.watch("nobody") as watch:
                watch.wait(0.01)
            with self.listener.watch("nobody") as watch:
                if watch.is_notified:
                    return
        raise AssertionError("the listener does not hear")

    def claim(self, *, awaited: bool = True) -> Claim:
        """Sign in and take the claim."""
        grant = self.store.add(new_grant())
        claim = self.store.try_claim(grant, doubts=0, holder="h", seconds=10.0, awaited=awaited)
        assert not isinstance(claim, Overtaken)
        return claim

    def save(self, claim: Claim) -> object:
        """Save a new token set for the claim."""
        grant = self.store.load(claim.grant_id)
        assert grant is not None
        return self.store.save(grant, claim, token_set(1))


SETTLING: dict[str, Callable[[Process, Claim], object]] = {
    "save": Process.save,
    "release": lambda process, claim: process.store.release(claim, BUSY, retry_after=1.0),
    "end": lambda process, claim: process.store.end(claim.grant_id, "refused", claim=claim),
}


@pytest.fixture(scope="module")
def uri(servers: Servers) -> str:
    uri = available(lambda: servers.new_database("postgresql"))
    with running(uri) as process:
        create_tables(process.database.engine())
    return uri


@pytest.fixture(autouse=True)
def looks_often_whether_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test here closes its listeners."""
    monkeypatch.setattr(listening, "_SLICE_SECONDS", 0.02)


@contextmanager
def running(uri: str, **how: Any) -> Iterator[Process]:
    process = Process(uri, **how)
    try:
        yield process
    finally:
        process.close()


@pytest.fixture
def process(uri: str) -> Iterator[Process]:
    """The process whose requests wait."""
    with running(uri) as process:
        yield process


@pytest.fixture
def other(uri: str) -> Iterator[Process]:
    """The process that redeems."""
    with running(uri) as process:
        yield process


def count_of(process: Process, what: str) -> int:
    """Execute a query of one number, on the pool."""
    with process.database.engine().connect() as connection:
        return int(connection.execute(text(what)).scalar_one())


@pytest.mark.parametrize("settle", SETTLING.values(), ids=SETTLING)
def test_who_waits_hears_that_a_claim_is_settled(
    process: Process, other: Process, settle: Callable[[Process, Claim], object]
) -> None:
    """Whatever became of it: the next token, a failure that all share, or a sign-in."""
    process.begin_to_hear()
    claim = other.claim()
    with process.listener.watch(claim.grant_id) as watch:
        assert settle(other, claim)
        assert watch.wait(LONG)


def test_a_claim_that_nobody_waits_for_is_settled_in_silence(process: Process, other: Process) -> None:
    """Commits that notify wait for each other on PostgreSQL: rotations ahead, nearly all, must not."""
    process.begin_to_hear()
    ahead, awaited = other.claim(awaited=False), other.claim()
    with process.listener.watch(ahead.grant_id) as nothing, process.listener.watch(awaited.grant_id) as watch:
        other.save(ahead)
        other.save(awaited)
        assert watch.wait(LONG)
        assert not nothing.wait(0.0)


def test_only_a_watch_that_began_while_the_listener_heard_can_rely_on_it(process: Process) -> None:
    """What was told before the connection listened is lost, and so are its waiters' hopes."""
    with process.listener.watch("early") as early:
        assert not early.is_notified
        process.begin_to_hear()
        assert not early.is_notified
        with process.listener.watch("late") as late:
            assert late.is_notified


def test_no_thread_before_somebody_waits(process: Process) -> None:
    """A process whose requests never wait has no connection more than its pool's."""
    with process.listener.watch("g"):
        assert process.listener._thread is None
    process.begin_to_hear()
    assert count_of(process, f"SELECT count(*) {LISTENERS}") == 1
    process.listener.close()
    assert count_of(process, f"SELECT count(*) {LISTENERS}") == 0


def test_the_listener_goes_when_nobody_has_waited_for_a_while(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection does not stay for the life of the process."""
    monkeypatch.setattr(listening, "LINGER_SECONDS", 0.2)
    process.begin_to_hear()
    thread = process.listener._thread
    assert thread is not None
    thread.join(LONG)
    assert not thread.is_alive()
    assert count_of(process, f"SELECT count(*) {LISTENERS}") == 0


def test_a_broken_connection_wakes_who_relied_on_it(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """They look at the row, and by themselves from then on; the log says so once."""
    process.begin_to_hear()
    with process.listener.watch("g") as watch:
        assert watch.is_notified
        count_of(process, f"SELECT count(pg_terminate_backend(pid)) {LISTENERS}")
        assert watch.wait(LONG)
        assert not watch.is_notified
        watch.clear()
        assert not watch.wait(0.01)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "TOKENROTATE_LISTEN" in caplog.text
    assert process.listener._thread is None


def test_switched_off_it_neither_listens_nor_tells(uri: str, process: Process) -> None:
    """For deployments in which each connection counts."""
    with running(uri, enabled=False) as silent:
        with silent.listener.watch("g") as watch:
            assert not watch.wait(0.01)
        assert silent.listener._thread is None
        process.begin_to_hear()
        claim, awaited = silent.claim(), process.claim()
        with (
            process.listener.watch(claim.grant_id) as nothing,
            process.listener.watch(awaited.grant_id) as watch,
        ):
            silent.save(claim)
            process.save(awaited)
            assert watch.wait(LONG)
            assert not nothing.wait(0.0)


def test_a_notification_that_is_refused_costs_nothing(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that may not notify, an engine that cannot: the token set is saved all the same."""
    monkeypatch.setattr(write, "CHANNEL", "a name that is longer than PostgreSQL takes" * 2)
    claim = process.claim()
    assert process.save(claim) is SaveOutcome.SAVED
    row = process.store.load(claim.grant_id)
    assert row is not None
    assert (row.token_version, row.standing) == (claim.version, None)


def test_a_request_waits_without_a_thread_where_none_can_be_started(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of the system on threads must not fail the request."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with process.listener.watch("g") as watch:
        assert not watch.wait(0.01)
        assert not watch.wait(0.01)
    assert process.listener._thread is None


def test_a_database_that_is_away_is_tried_again_later(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a pooler through which nothing comes is given up for good."""
    monkeypatch.setattr(listening, "PAUSE_SECONDS", 0.0)
    connect = process.listener._connect
    away = [True]

    def connect_or_not() -> Any:
        if away.pop():
            away.append(False)
            raise OSError("it does not answer")
        away.append(False)
        return connect()

    monkeypatch.setattr(process.listener, "_connect", connect_or_not)
    process.begin_to_hear()


class StoppedClock(SystemClock):
    """A clock that lets something happen before the listener's thread looks at it next."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.meanwhile: Callable[[], object] | None = None

    def monotonic(self) -> float:  # type: ignore[override]
        if self.meanwhile is not None and threading.current_thread().name == "tokenrotate-listener":
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return SystemClock.monotonic() + self.ahead


def test_a_listener_that_was_stopped_itself_reads_before_it_judges(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trial has arrived by the time it looks, though that time is over."""
    notify, clock = process.listener._notify, StoppedClock()
    monkeypatch.setattr(process.listener, "_clock", clock)

    def stop_and_go_on(payload: str) -> None:
        clock.ahead += 2 * listening.TRIAL_SECONDS
        monkeypatch.setattr(listening, "_SLICE_SECONDS", LONG)
        notify(payload)

    def notify_late(payload: str) -> None:
        monkeypatch.setattr(process.listener, "_notify", notify)
        clock.meanwhile = lambda: stop_and_go_on(payload)

    monkeypatch.setattr(process.listener, "_notify", notify_late)
    process.begin_to_hear()
    monkeypatch.setattr(listening, "_SLICE_SECONDS", 0.02)
    notify("nobody")  # ends the long wait


def test_a_connection_whose_other_end_is_gone_is_noticed(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence alone tells nothing: the listener sends itself a notification now and then."""
    monkeypatch.setattr(listening, "TRIAL_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(listening, "TRIAL_SECONDS", 0.2)
    process.begin_to_hear()
    with process.listener.watch("g") as watch:
        assert watch.is_notified
        monkeypatch.setattr(process.listener, "_notify", lambda payload: None)
        assert watch.wait(LONG)
        assert not watch.is_notified


@pytest.mark.parametrize("engine", ["sqlite", "mariadb"])
def test_other_engines_have_nothing_to_listen_to(servers: Servers, engine: str) -> None:
    """There a wait is a wait."""
    with running(available(lambda: servers.new_database(engine))) as process:
        create_tables(process.database.engine())
        with process.listener.watch("g") as watch:
            assert not watch.wait(0.01)
            assert not watch.is_notified
        assert process.listener._thread is None


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_listens_by_itself(process: Process, other: Process) -> None:
    """It has no thread and must not share the parent's connection; the parent's goes on."""
    process.begin_to_hear()
    child = os.fork()
    if child == 0:
        code = 2
        try:
            assert process.listener._thread is None
            process.begin_to_hear()
            assert count_of(process, f"SELECT count(*) {LISTENERS}") == 2
            process.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    claim = other.claim()
    with process.listener.watch(claim.grant_id) as watch:
        assert watch.is_notified
        other.save(claim)
        assert watch.wait(LONG)


FORK_WHILE_HEARING = """
from gevent import monkey
monkey.patch_all()
import os, sys, gevent
from flask_tokenrotate.storage.database import listening
from tests.storage.test_listening import Process
if "control" in sys.argv:
    listening.os.getpid = lambda: 1
process, other = Process(sys.argv[1]), Process(sys.argv[1])
process.begin_to_hear()
child = os.fork()
if child == 0:
    gevent.sleep(30.0)
    os._exit(0)
heard = []
for _ in range(20):
    claim = other.claim()
    with process.listener.watch(claim.grant_id) as watch:
        other.save(claim)
        heard.append(watch.is_notified and watch.wait(2.0))
    if not heard[-1]:
        break
    gevent.sleep(0.1)
os.kill(child, 9)
os.waitpid(child, 0)
os._exit(0 if all(heard) else 1)
"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["as it is", "control"])
def test_a_greenlet_leaves_the_parents_connection_alone_in_a_forked_child(uri: str, how: str) -> None:
    """Greenlets live on in a child: one that listened there would take what the parent shall hear."""
    pytest.importorskip("gevent")
    command = [sys.executable, "-W", "ignore", "-c", FORK_WHILE_HEARING, uri, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) is (how != "control"), done.stderr


def test_many_who_wait_share_one_listener(process: Process, other: Process) -> None:
    """Sixteen threads, eight grants: one connection, and each hears of its own grant."""
    process.begin_to_hear()
    claims = [other.claim() for _ in range(8)]
    heard: list[bool] = []
    ready = threading.Barrier(len(claims) * 2 + 1)

    def wait(claim: Claim) -> None:
        with process.listener.watch(claim.grant_id) as watch:
            ready.wait(LONG)
            heard.append(watch.wait(LONG))

    threads = [threading.Thread(target=wait, args=(claim,)) for claim in claims * 2]
    for thread in threads:
        thread.start()
    ready.wait(LONG)
    for claim in claims:
        other.save(claim)
    for thread in threads:
        thread.join(LONG)
    assert heard == [True] * len(threads)
    assert count_of(process, f"SELECT count(*) {LISTENERS}") == 1


def test_behind_pgbouncer_the_listener_notices_that_nothing_arrives(
    uri: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up, says how to spare the attempt, and claims are settled all the same."""
    monkeypatch.setattr(listening, "TRIAL_SECONDS", 0.5)
    bouncer = available(lambda: PgBouncer(uri))
    try:
        with running(bouncer.uri, **OPTIONS) as process:
            with process.listener.watch("g") as watch:
                assert watch.wait(LONG)  # it wakes its waiters as it gives up
                assert not watch.is_notified
            assert "TimeoutError" in caplog.text
            assert "no other attempt by this process" in caplog.text
            assert process.save(process.claim())
    finally:
        bouncer.close()
