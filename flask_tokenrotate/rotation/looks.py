"""One look at a time: of a process's threads that need the same grant, one reads its row, the others wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from .ports import Clock, Event

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


_taking: ContextVar[tuple[Look[Any, Any], ...]] = ContextVar("tokenrotate_looks", default=())
"""The looks that the running code is itself a part of, the innermost last."""


class Look(Generic[T, E]):
    """One look in progress. ``result`` or ``error`` is set before ``done``; neither: nobody knows."""

    __slots__ = ("done", "error", "result")

    def __init__(self, done: Event) -> None:
        self.done = done
        self.result: T | None = None
        self.error: E | None = None

    @property
    def is_callers_own(self) -> bool:
        """Whether the caller is a part of this look, and would wait for itself.

        So is the receiver of a signal that asks for the token, where the redemption ran in its caller.
        """
        return self in _taking.get()


class Looks(Generic[T, E]):
    """The looks of this process by grant id."""

    def __init__(self, clock: Clock, shared_errors: type[E]) -> None:
        self._clock = clock
        self._shared_errors = shared_errors
        self._looks: dict[str, Look[T, E]] = {}
        self._lock = threading.Lock()

    def join(self, key: str) -> tuple[Look[T, E], bool]:
        """Return the look under ``key`` and whether it is the caller's own (and then must call `take`)."""
        with self._lock:
            look = self._looks.get(key)
            if look is not None:
                return look, False
            look = self._looks[key] = Look(self._clock.event())
            return look, True

    def take(self, key: str, look: Look[T, E], work: Callable[[], T]) -> T:
        """Do the work, share its result or its error, and let all who joined go on.

        The look is forgotten only when the work is done: forgotten earlier, the next thread would
        start the same work beside it. Anything but a shared error (a worker that is being stopped,
        say) leaves the look without an outcome, and one of those who waited takes over.
        """
        inside = _taking.set((*_taking.get(), look))
        try:
            look.result = work()
            return look.result
        except self._shared_errors as error:
            look.error = error
            raise
        finally:
            _taking.reset(inside)
            with self._lock:
                if self._looks.get(key) is look:
                    del self._looks[key]
            look.done.set()

    def forget(self, key: str) -> None:
        """Let nobody join the look in progress: it may have read the row before what the caller knows."""
        with self._lock:
            self._looks.pop(key, None)

    def reset(self) -> None:
        """In a forked child: looks of the parent's threads never end here."""
        self._lock = threading.Lock()
        self._looks = {}
