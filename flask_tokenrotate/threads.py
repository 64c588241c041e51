"""The rotation threads: where a process redeems refresh tokens while its requests go on.

Each provider has a few daemon threads of its own, so that a slow one keeps none from the others. They are
started when there is work, and end when there has been none for `IDLE_SECONDS`. Under gevent's patches they
are greenlets. A forked child starts with none.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .forks import call_in_forked_child
from .rotation.ports import Clock

logger = logging.getLogger("flask_tokenrotate")

Work = Callable[[], None]

FREE_FOR_REQUESTS = 4
"""Threads of each provider that rotations ahead leave free, for redemptions that requests wait for."""

IDLE_SECONDS = 10.0
"""How long a thread without work waits for more before it ends."""

ABORT_SECONDS = 5.0
"""How long calls that are aborted at exit may take to write that they are in doubt."""

_FROZEN_BETWEEN_REQUESTS = ("AWS_LAMBDA_FUNCTION_NAME", "FUNCTIONS_WORKER_RUNTIME", "K_SERVICE", "VERCEL")
"""Variables that AWS Lambda, Azure Functions, Cloud Run and Vercel set: such a process may get no processor
time after its response, so that nothing can go on in the background."""


def threads_can_run() -> bool:
    """Return whether a thread of this process runs beside its requests.

    Not in processes that are frozen between requests, and not under uWSGI without ``enable-threads``.
    """
    if any(name in os.environ for name in _FROZEN_BETWEEN_REQUESTS):
        return False
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return True
    options = getattr(uwsgi, "opt", {})
    return any(name in options for name in ("enable-threads", b"enable-threads", "threads", b"threads"))


class _ForkedAway(BaseException):
    """A greenlet of the parent runs on in a forked child: its redemption goes on there, not here."""


@dataclass(slots=True)
class _Pool:
    """The threads of one provider: how many there are, how many wait for work, and the work that waits."""

    threads: int = 0
    idle: int = 0
    queue: deque[Work] = field(default_factory=deque)


class RotationThreads:
    """Threads of this process for each provider; the contract is `rotation.ports.Threads`.

    ``limit``: how many for each provider at most. ``drain_seconds``: how long work in progress may go on when
    the process exits; what then still waits for a provider is aborted.
    """

    in_background = True

    def __init__(self, clock: Clock, *, limit: int, drain_seconds: float) -> None:
        self._clock = clock
        self._limit = limit
        self._drain_seconds = drain_seconds
        self._pools: dict[str, _Pool] = {}
        self._changed = threading.Condition()
        self._process: int | None = None
        self._is_closing = False
        self._serving = threading.local()
        call_in_forked_child(self._reset)

    @property
    def are_closing(self) -> bool:
        """Whether calls that still wait for a provider have to give up, because the process exits."""
        if getattr(self._serving, "process", os.getpid()) != os.getpid():
            raise _ForkedAway
        return self._is_closing

    def run(self, provider: str, work: Work, *, ahead: bool) -> bool:
        """Run ``work`` on a thread for ``provider``; False where nobody waits for it and too few are free."""
        with self._changed:
            self._drain_at_exit()
            pool = self._pools.setdefault(provider, _Pool())
            busy = pool.threads - pool.idle + len(pool.queue)
            if ahead and (busy >= self._limit - FREE_FOR_REQUESTS or self._is_closing):
                return False
            pool.queue.append(work)
            if pool.idle >= len(pool.queue):
                self._changed.notify_all()
            elif pool.threads < self._limit and not self._start_thread(pool, provider):
                pool.queue.remove(work)
                return self._run_here(work, ahead=ahead)
        return True

    def _start_thread(self, pool: _Pool, provider: str) -> bool:
        thread = threading.Thread(
            target=self._serve, args=(pool, os.getpid()), name=f"tokenrotate-{provider}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # The system gives no more threads, or the interpreter is ending.
            return pool.threads > 0
        pool.threads += 1
        return True

    def _run_here(self, work: Work, *, ahead: bool) -> bool:
        if ahead:
            return False
        self._changed.release()
        try:
            work()
        finally:
            self._changed.acquire()
        return True

    def _serve(self, pool: _Pool, process: int) -> None:
        """Do the provider's work, one piece after the other, until there has been none for a while."""
        self._serving.process = process
        while True:
            with self._changed:
                pool.idle += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: pool.queue, IDLE_SECONDS)
                if os.getpid() != process:
                    return  # a greenlet lives on in a forked child, whose work this is not
                pool.idle -= 1
                if not pool.queue:
                    pool.threads -= 1
                    return
                work = pool.queue.popleft()
            try:
                work()
            except _ForkedAway:
                return
            except Exception:
                logger.exception("a rotation thread failed")
            except BaseException:
                with self._changed:
                    pool.threads -= 1  # it would count as busy for ever
                    self._changed.notify_all()
                raise

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until no work is in progress or queued, for ``seconds`` at most; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(self._are_idle, seconds)

    def _are_idle(self) -> bool:
        return all(pool.threads == pool.idle and not pool.queue for pool in self._pools.values())

    def drain(self) -> None:
        """Let work in progress end for ``drain_seconds``, then abort the calls that still wait (at exit).

        They write that their grants are in doubt. Daemon threads are simply gone when the interpreter ends,
        and a redemption that ends so loses the refresh token that it spent.
        """
        if self._process == os.getpid() and not self.wait_until_idle(self._drain_seconds):
            self._is_closing = True
            if not self.wait_until_idle(ABORT_SECONDS):
                logger.warning("the process ends while redemptions are still in progress")

    def _drain_at_exit(self) -> None:
        """Once for each process that has such work: a handler of the parent's says nothing of the child."""
        if self._process != os.getpid():
            self._process = os.getpid()
            atexit.register(self.drain)

    def _reset(self) -> None:
        """In a forked child: no thread of the parent's is here, and one may have held the lock."""
        self._changed = threading.Condition()
        self._pools = {}
        self._process = None
        self._is_closing = False


class CallersThread:
    """Runs work in the caller, where no other thread can run; the contract is `rotation.ports.Threads`."""

    in_background = False
    are_closing = False

    def run(self, provider: str, work: Work, *, ahead: bool) -> bool:
        """Do ``work`` and return True."""
        work()
        return True

    def wait_until_idle(self, seconds: float) -> bool:
        """Return True: nothing goes on in the background."""
        return True
