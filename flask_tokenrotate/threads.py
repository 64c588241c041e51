"""The rotation threads: a process redeems refresh tokens on them while its requests continue.

Each provider has its own daemon threads, so that a slow provider does not delay the others. They are started
when there is work, and end after `IDLE_SECONDS` without work. Under gevent's patches they are greenlets. A
forked child starts without threads.
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
"""How long calls that are aborted at exit have to write that they are in doubt."""

_FROZEN_BETWEEN_REQUESTS = ("AWS_LAMBDA_FUNCTION_NAME", "FUNCTIONS_WORKER_RUNTIME", "K_SERVICE", "VERCEL")
"""Environment variables of AWS Lambda, Azure Functions, Cloud Run and Vercel. There, a process may get no
processor time after its response, so nothing can run in the background."""


def threads_can_run() -> bool:
    """Return whether threads of this process run while no request does.

    They do not in processes that are frozen between requests, nor under uWSGI without ``enable-threads``.
    """
    if any(name in os.environ for name in _FROZEN_BETWEEN_REQUESTS):
        return False
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return True
    options = getattr(uwsgi, "opt", {})
    return any(name in options for name in ("enable-threads", b"enable-threads", "threads", b"threads"))


class _ForkedAway(BaseException):
    """A greenlet of the parent also runs in a forked child. The parent continues its redemption."""


@dataclass(slots=True)
class _Pool:
    """The threads of one provider: their number, how many of them work, and the queued work."""

    threads: int = 0
    working: int = 0
    queue: deque[Work] = field(default_factory=deque)

    @property
    def in_progress(self) -> int:
        """How much work is running or queued."""
        return self.working + len(self.queue)


class RotationThreads:
    """The rotation threads of this process; implements `rotation.ports.Threads`.

    ``limit`` is the maximum for each provider. ``drain_seconds`` is for how long work in progress continues
    when the process exits; calls that have no response by then are aborted.
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
        self._of_thread = threading.local()
        call_in_forked_child(self._reset)

    @property
    def are_closing(self) -> bool:
        """Whether calls that wait for a response must be aborted, because the process exits."""
        # Only a thread of a pool can find itself in a forked child. Work may also run in its caller.
        if getattr(self._of_thread, "process", None) not in (None, os.getpid()):
            raise _ForkedAway
        return self._is_closing

    def run(self, provider: str, work: Work, *, ahead: bool) -> bool:
        """Run ``work`` on a thread of ``provider``; return False if it is ``ahead`` and too few are free."""
        with self._changed:
            self._drain_at_exit()
            pool = self._pools.setdefault(provider, _Pool())
            if ahead and (pool.in_progress >= self._limit - FREE_FOR_REQUESTS or self._is_closing):
                return False
            pool.queue.append(work)
            if pool.threads >= pool.in_progress:
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
            # The system's limit of threads is reached, or the interpreter is shutting down.
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
        """Do the provider's work, until there has been none for a while."""
        self._of_thread.process = process
        try:
            while (work := self._next(pool, process)) is not None:
                self._do(pool, work)
        except _ForkedAway:
            pass
        except BaseException:
            # A thread that ends in another way (a killed greenlet, say) must not be counted any more.
            with self._changed:
                pool.threads -= 1
            raise

    def _next(self, pool: _Pool, process: int) -> Work | None:
        """Wait for work and return it. None: the thread ends, and is no longer counted."""
        with self._changed:
            self._changed.wait_for(lambda: pool.queue, IDLE_SECONDS)
            # A greenlet also runs in a forked child, where the work must not be done.
            if not pool.queue or os.getpid() != process:
                pool.threads -= 1
                return None
            pool.working += 1
            return pool.queue.popleft()

    def _do(self, pool: _Pool, work: Work) -> None:
        try:
            work()
        except Exception:
            logger.exception("a rotation thread failed")
        finally:
            with self._changed:
                pool.working -= 1
                self._changed.notify_all()

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until no work is in progress or queued, for ``seconds`` at most; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(self._are_idle, seconds)

    def _are_idle(self) -> bool:
        return not any(pool.in_progress for pool in self._pools.values())

    def drain(self) -> None:
        """At exit, wait ``drain_seconds`` for work in progress, then abort the calls that still wait.

        They write that their grants are in doubt. Without this, daemon threads would disappear when the
        interpreter ends, and the new tokens of a redemption in progress would be lost.
        """
        if self._process == os.getpid() and not self.wait_until_idle(self._drain_seconds):
            self._is_closing = True
            if not self.wait_until_idle(ABORT_SECONDS):
                logger.warning("the process ends while redemptions are still in progress")

    def _drain_at_exit(self) -> None:
        """Register `drain`, once for each process: a forked child does not use the parent's handler."""
        if self._process != os.getpid():
            self._process = os.getpid()
            atexit.register(self.drain)

    def _reset(self) -> None:
        """Start again in a forked child: it has no thread of the parent, and one may have held the lock."""
        self._changed = threading.Condition()
        self._pools = {}
        self._process = None
        self._is_closing = False


class CallersThread:
    """Runs work in its caller, if threads cannot run; implements `rotation.ports.Threads`."""

    in_background = False
    are_closing = False

    def run(self, provider: str, work: Work, *, ahead: bool) -> bool:
        """Do ``work`` and return True."""
        work()
        return True

    def wait_until_idle(self, seconds: float) -> bool:
        """Return True: nothing runs in the background."""
        return True
