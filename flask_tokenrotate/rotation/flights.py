"""Single flight: of the threads of one process that need the same grant, one works, the others wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .ports import Clock, Event

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class Flight(Generic[T, E]):
    """One piece of work under way. ``result`` or ``error`` is set before ``landed``."""

    __slots__ = ("error", "landed", "result")

    def __init__(self, landed: Event) -> None:
        self.landed = landed
        self.result: T | None = None
        self.error: E | None = None


class Flights(Generic[T, E]):
    """The flights of this process by key."""

    def __init__(self, clock: Clock, shared_errors: type[E]) -> None:
        self._clock = clock
        self._shared_errors = shared_errors
        self._flights: dict[str, Flight[T, E]] = {}
        self._lock = threading.Lock()

    def join(self, key: str) -> tuple[Flight[T, E], bool]:
        """Return the flight under ``key`` and whether the caller leads it (and then must call `lead`)."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Flight(self._clock.event())
            return flight, True

    def lead(self, key: str, flight: Flight[T, E], work: Callable[[], T]) -> T:
        """Do the work, share its result or its error, and let all who joined go on.

        The flight is forgotten only when the work is done: forgotten earlier, the next thread would
        start the same work beside it. Anything but a shared error (a worker that is being stopped,
        say) leaves the flight without an outcome, and one of the followers takes over.
        """
        try:
            flight.result = work()
            return flight.result
        except self._shared_errors as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            flight.landed.set()

    def forget(self, key: str) -> None:
        """Let nobody join the flight under way: it may have looked before what the caller knows."""
        with self._lock:
            self._flights.pop(key, None)
