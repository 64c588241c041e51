"""Gates at named points of a token request, with which a test makes a race without sleeping."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Point = Literal["received", "processed"]


class Gate:
    """Holds every request that reaches it until it is opened. It cannot be closed again."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._arrived = 0
        self._open = False

    def wait_for(self, requests: int, timeout: float = 10.0) -> None:
        """Return once ``requests`` requests have arrived; raise `TimeoutError` after ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= requests, timeout):
                raise TimeoutError(
                    f"{self._arrived} of {requests} token requests arrived at the gate in {timeout} s."
                )

    def open(self) -> None:
        """Let all requests continue: those that wait, and later ones."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def enter(self) -> None:
        """Arrive, and wait until the gate is open."""
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open)


class Gates:
    """The gates that exist now, at most one at each point."""

    def __init__(self) -> None:
        self._gates: dict[Point, Gate] = {}

    @contextmanager
    def hold(self, point: Point) -> Iterator[Gate]:
        """Create a gate at ``point``; at the end of the block it is opened and removed."""
        if point not in get_args(Point):
            raise ValueError(f"There is no point {point!r}. The points are {get_args(Point)}.")
        gate = Gate()
        if self._gates.setdefault(point, gate) is not gate:
            raise ValueError(f"There is already a gate at {point!r}. Leave its block first.")
        try:
            yield gate
        finally:
            del self._gates[point]
            gate.open()

    def pass_through(self, point: Point) -> None:
        """Wait at ``point`` if there is a gate."""
        gate = self._gates.get(point)
        if gate is not None:
            gate.enter()

    def open_all(self) -> None:
        """Open every gate."""
        for gate in list(self._gates.values()):
            gate.open()
