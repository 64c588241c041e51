"""Who runs next, and when time passes: deterministic, from a tape of choices.

Workers are greenlets that give up control at every port call. A byte 0 on the tape always means
the dullest choice (the same worker goes on, nothing fails), and so does a tape that is used up:
what Hypothesis shrinks towards is the calm schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from greenlet import GreenletExit, getcurrent, greenlet

TICK = 0.001
"""Seconds that each step takes."""

STEPS = 4000
"""More steps than any schedule needs that makes progress."""


class Tape:
    """The choices of one schedule."""

    def __init__(self, choices: bytes) -> None:
        self._choices = choices
        self._at = 0

    def byte(self) -> int:
        """Return the next choice, 0 when there is none left."""
        at = self._at
        if at >= len(self._choices):
            return 0
        self._at = at + 1
        return self._choices[at]

    def pick(self, count: int) -> int:
        """Return a number below ``count``."""
        return self.byte() % count

    def one_in(self, rarity: int) -> bool:
        """Return True once in ``rarity`` times; never for a byte 0."""
        return self.byte() >= 256 - 256 // rarity


class Awaited(Protocol):
    """What a worker can wait for."""

    @property
    def done(self) -> bool:
        """Whether there is nothing more to wait for."""
        ...


class Process:
    """One simulated process: its own monotonic clock, its own memory, and a life that may end.

    ``closing``: it exits, and its calls to the provider have to end.
    """

    def __init__(self, name: str, offset: float) -> None:
        self.name = name
        self.offset = offset
        self.alive = True
        self.closing = False
        self.stalled_until = 0.0
        self.rotation: Any = None


class Worker:
    """One thread of a process. ``hub`` is the greenlet that runs when this one has ended."""

    def __init__(self, name: str, process: Process, run: Callable[[Worker], None], hub: greenlet) -> None:
        self.name = name
        self.process = process
        self.greenlet = greenlet(lambda: run(self), parent=hub)
        self.until: float | None = None
        self.awaits: Awaited | None = None
        self.finished = False

    def can_run(self, now: float) -> bool:
        """Return whether nothing keeps this worker from its next step."""
        if self.finished or not self.process.alive or self.process.stalled_until > now:
            return False
        if self.until is None or self.until <= now:
            return True
        return self.awaits is not None and self.awaits.done

    def wakes_at(self) -> float:
        """Return when this worker can run at the latest."""
        return max(self.until or 0.0, self.process.stalled_until)


@dataclass(eq=False)
class Errand:
    """What happens outside all processes, at the moment ``at`` or some time after."""

    run: Callable[[], None]
    at: float = 0.0


class Stuck(Exception):
    """The schedule does not come to an end."""


class Scheduler:
    """Runs workers one step at a time; everything else of the world hooks in from outside."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.now = 0.0
        self.workers: list[Worker] = []
        self.errands: list[Errand] = []
        self.trace: list[tuple[float, str, str]] = []
        self.fault_rate = 0
        self.stickiness = 0
        self.faults: list[Callable[[], None]] = []
        self.after_step: Callable[[], None] = lambda: None
        self._hub = getcurrent()
        self._closed = False
        self._running: Worker | None = None

    @property
    def running(self) -> Worker:
        """The worker whose step it is."""
        assert self._running is not None
        return self._running

    @property
    def last_to_run(self) -> Worker | None:
        """The worker that ran last, None at the start."""
        return self._running

    def start(self, name: str, process: Process, run: Callable[[Worker], None]) -> None:
        """Start a thread of ``process``, which may be done from another one."""
        self.workers.append(Worker(name, process, run, self._hub))

    def note(self, what: str, who: str | None = None) -> None:
        """Add a line to the schedule's story."""
        if who is None:
            worker = self.running
            who = f"{worker.name} ({worker.process.name})"
        self.trace.append((self.now, who, what))

    def stop(self, until: float | None = None, awaits: Awaited | None = None) -> None:
        """Give up control: until the scheduler likes, or ``until`` is reached, or ``awaits`` is done."""
        worker = self.running
        self.check_alive(worker)
        worker.until = until
        worker.awaits = awaits
        self._hub.switch()
        self.check_alive(worker)
        worker.until = worker.awaits = None

    def check_alive(self, worker: Worker) -> None:
        """End a worker whose process is dead: nothing that it would still do may have an effect."""
        if self._closed or not worker.process.alive:
            raise GreenletExit

    @property
    def closed(self) -> bool:
        """Whether the schedule is over and what still unwinds must have no effect."""
        return self._closed

    def run(self) -> None:
        """Step until everyone who lives has finished."""
        for _ in range(STEPS):
            moves = self._moves()
            if moves:
                self._step(moves)
                self.after_step()
            elif not self._let_time_pass():
                return
        raise Stuck

    def close(self) -> None:
        """Unwind what is left, without any effect."""
        self._closed = True
        for worker in self.workers:
            self._running = worker
            worker.greenlet.throw(GreenletExit)

    def _moves(self) -> list[Worker | Errand]:
        """Return who can run: the one who ran last first, then the network, then the others."""
        now = self.now
        last = self._running
        moves: list[Worker | Errand] = []
        if last is not None and last.can_run(now):
            moves.append(last)
        moves += [errand for errand in self.errands if errand.at <= now]
        moves += [worker for worker in self.workers if worker is not last and worker.can_run(now)]
        return moves

    def _step(self, moves: list[Worker | Errand]) -> None:
        self.now += TICK
        choice = self.tape.byte()
        if choice >= 256 - self.fault_rate and self.faults:
            self.faults[self.tape.pick(len(self.faults))]()
            return
        move = moves[0 if choice < self.stickiness else choice % len(moves)]
        if isinstance(move, Worker):
            self._running = move
            move.greenlet.switch()
            if move.finished:
                self.workers.remove(move)
        else:
            self.errands.remove(move)
            move.run()

    def _let_time_pass(self) -> bool:
        """Go to the moment at which the next thing can happen; return whether there is one."""
        wakes = [w.wakes_at() for w in self.workers if not w.finished and w.process.alive]
        wakes += [errand.at for errand in self.errands]
        if not wakes:
            return False
        self.now = max(self.now, min(wakes))
        return True


def story(trace: list[tuple[float, str, str]]) -> str:
    """Return the schedule as a numbered list: who did what, and when."""
    return "\n".join(
        f"{number:4}. {at:9.3f} s  {who:<16} {what}" for number, (at, who, what) in enumerate(trace, 1)
    )
