"""Wakes waiting requests by PostgreSQL's LISTEN and NOTIFY; implements `rotation.ports.Wakeups`.

One thread of a process listens, on a connection of its own outside the pool, from the first request that
waits until none has waited for `LINGER_SECONDS`. It first sends a notification to itself through the pool:
behind a pooler that uses another server connection for each transaction (PgBouncer) none arrives, and
requests read the row repeatedly, as on any other engine.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import selectors
import threading
from typing import Any, Self

from sqlalchemy import func, select

from ...forks import call_in_forked_child
from ...rotation.ports import Clock, Event
from .engine import Database
from .notifications import CHANNEL, can_notify

logger = logging.getLogger("flask_tokenrotate")

LINGER_SECONDS = 60.0
TRIAL_SECONDS = 2.0
TRIAL_EVERY_SECONDS = 30.0
"""How long the notification that the listener sends to itself may take, and how often it sends one."""

PAUSE_SECONDS = 60.0
"""Time before the next attempt after notifications did not arrive or the connection broke."""

_SLICE_SECONDS = 1.0
"""How long the thread waits at a time before it checks whether it is still needed."""

_left_to_the_parent: list[object] = []


class Listener:
    """Notifies the waiting requests of this process of settled claims. Thread-safe."""

    def __init__(self, database: Database, clock: Clock, *, enabled: bool = True) -> None:
        self._database = database
        self._clock = clock
        self._enabled = enabled
        self._lock = threading.Lock()
        self._watches: dict[str, set[_Watch]] = {}
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._arriving = 0
        """Grows by one when notifications begin to arrive and when they stop: odd while they arrive."""
        self._wanted_until = self._not_before = clock.monotonic()
        call_in_forked_child(self._forget_parent)

    def watch(self, grant_id: str) -> _Watch:
        """Watch the grant's claims; thread and connection start with the first wait."""
        return _Watch(self, grant_id, self._clock.event())

    def begin(self, watch: _Watch) -> int:
        """Register ``watch``, and return the count for `has_missed_none_since`."""
        with self._lock:
            self._watches.setdefault(watch.grant_id, set()).add(watch)
            return self._arriving

    def end(self, watch: _Watch) -> None:
        """Remove the watch."""
        with self._lock:
            watches = self._watches.get(watch.grant_id, set())
            watches.discard(watch)
            if not watches:
                self._watches.pop(watch.grant_id, None)

    def close(self) -> None:
        """Stop listening and wait until the connection is closed; the next wait listens again."""
        thread, self._wanted_until = self._thread, self._clock.monotonic()
        if thread is not None:
            thread.join()

    def has_missed_none_since(self, arriving: int) -> bool:
        """Return whether every notification since the listener's count was ``arriving`` has arrived."""
        return arriving == self._arriving and arriving % 2 == 1

    def listen_for(self, seconds: float) -> None:
        """Listen for the next ``seconds``, in which a request waits, and for `LINGER_SECONDS` after them."""
        now = self._clock.monotonic()
        with self._lock:
            self._wanted_until = max(self._wanted_until, now + seconds + LINGER_SECONDS)
            if self._thread is not None or not self._enabled or now < self._not_before:
                return
            if can_notify(self._database.engine()):
                thread = threading.Thread(target=self._run, name="tokenrotate-listener", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    # No thread can be started; the request does not need it.
                    self._not_before = now + PAUSE_SECONDS
                else:
                    self._thread = thread

    def _run(self) -> None:
        connection, process = None, os.getpid()
        try:
            connection = self._connect()
            self._listen(connection, process)
        except Exception as error:
            # Whatever it is: a request can always read the row.
            if os.getpid() == process:
                self._give_up(error)
        finally:
            # A greenlet goes on in a forked child, where the connection is still the parent's.
            if os.getpid() == process:
                if connection is not None:
                    connection.close()
                with self._lock:
                    self._thread = self._connection = None
                    self._arriving += self._arriving % 2
                    self._wake_all()

    def _give_up(self, error: Exception) -> None:
        self._not_before = self._clock.monotonic() + PAUSE_SECONDS
        if isinstance(error, TimeoutError) and not self._arriving:
            # A pooler that forwards no notification never will, and each attempt leaves it with one more
            # server connection that listens.
            self._enabled = False
        logger.warning(
            "no notifications from the grant database (%s), %s: requests that wait read the row repeatedly. "
            "TOKENROTATE_LISTEN = False stops the attempts.",
            type(error).__name__,
            f"next attempt in {PAUSE_SECONDS:.0f} s" if self._enabled else "no other attempt by this process",
        )

    def _connect(self) -> Any:
        """Return a psycopg connection that no longer belongs to the pool and commits each statement."""
        pooled = self._database.engine().raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        connection.autocommit = True
        self._connection = connection
        return connection

    def _listen(self, connection: Any, process: int) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        trial = secrets.token_hex(16)
        next_trial, give_up_at = self._clock.monotonic(), math.inf
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            while (now := self._clock.monotonic()) < self._wanted_until:
                if now >= next_trial:
                    # Repeated: a connection whose other end disappeared reports no error.
                    self._notify(trial)
                    next_trial, give_up_at = math.inf, now + TRIAL_SECONDS
                selector.select(_SLICE_SECONDS)
                if os.getpid() != process:
                    return
                for note in connection.notifies(timeout=0):
                    if note.payload == trial:
                        next_trial, give_up_at = now + TRIAL_EVERY_SECONDS, math.inf
                        self._arriving += 1 - self._arriving % 2
                    self._wake(note.payload)
                # Only after reading what has arrived: a process that was stopped meanwhile is late itself.
                if now >= give_up_at:
                    raise TimeoutError

    def _notify(self, payload: str) -> None:
        with self._database.engine().connect() as connection:
            connection.execute(select(func.pg_notify(CHANNEL, payload)))
            connection.commit()

    def _wake(self, grant_id: str) -> None:
        with self._lock:
            for watch in self._watches.get(grant_id, ()):
                watch.event.set()

    def _wake_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.event.set()

    def _forget_parent(self) -> None:
        # Kept from the garbage collector, which would close the parent's connection from here.
        _left_to_the_parent.append(self._connection)
        self._lock = threading.Lock()
        self._watches = {}
        self._thread = self._connection = None
        self._arriving += self._arriving % 2


class _Watch:
    """One request's watch on a grant; the contract is `rotation.ports.Watch`."""

    def __init__(self, listener: Listener, grant_id: str, event: Event) -> None:
        self.grant_id = grant_id
        self.event = event
        self._listener = listener
        self._arriving = 0

    def __enter__(self) -> Self:
        self._arriving = self._listener.begin(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.end(self)

    @property
    def is_notified(self) -> bool:
        """Whether no notification since the watch began can have been missed."""
        return self._listener.has_missed_none_since(self._arriving)

    def clear(self) -> None:
        """Reset the watch: the row is read now."""
        self.event.clear()

    def wait(self, seconds: float) -> bool:
        """Wait until notified, for ``seconds`` at most; return whether a notification came."""
        self._listener.listen_for(seconds)
        return self.event.wait(seconds)
