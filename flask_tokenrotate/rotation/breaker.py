"""Spares a provider that is away: when many grants fail at it, this process stops asking for a while.

The row's ``retry_at`` bounds the calls for one grant; with a thousand grants an outage would still
bring a thousand calls for each pause, and hold as many requests until their time-out. After `FAILING_GRANTS`
grants in a row have failed, one probe is let through for each pause, and any response closes the breaker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .ports import Clock
from .verdict import Busy, NotSent, Unknown, Verdict

FAILING_GRANTS = 5
"""How many different grants have to fail, with no response in between, until the provider counts as away.

One grant that fails again and again may be its own fault, or a limit on its user."""

LONGEST_PAUSE = 15.0
"""Seconds; a probe costs the provider one call, so a recovery need not stay unseen for longer."""


@dataclass(slots=True)
class _Circuit:
    """What this process knows of one provider; closed while fewer than `FAILING_GRANTS` have failed."""

    failing: set[str] = field(default_factory=set)
    probing: str | None = None
    pauses: int = 0
    pause: float = 0.0
    probe_at: float = 0.0

    @property
    def is_open(self) -> bool:
        return len(self.failing) >= FAILING_GRANTS


class Breaker:
    """The circuits of all providers, for one process.

    ``backoff`` and ``backoff_limit`` bound the pause between two probes (seconds, doubled with each
    that fails), ``probe_seconds`` is what a probe may take. ``jitter`` returns a number from 0 to 1.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        backoff: float,
        backoff_limit: float,
        probe_seconds: float,
        jitter: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._backoff = backoff
        self._backoff_limit = min(backoff_limit, LONGEST_PAUSE)
        self._probe_seconds = probe_seconds
        self._jitter = jitter
        self._circuits: dict[str, _Circuit] = {}
        self._lock = threading.Lock()

    def admit(self, provider: str, grant_id: str) -> float:
        """Return 0 where the provider may be asked for the grant, else the seconds until another try.

        While the circuit is open, the 0 goes to one caller for each pause: the probe.
        """
        now = self._clock.monotonic()
        with self._lock:
            circuit = self._circuits.get(provider)
            if circuit is None or not circuit.is_open:
                return 0.0
            if now < circuit.probe_at:
                # Jitter: all who are sent away now shall not come back in the same moment.
                return circuit.probe_at - now + circuit.pause * self._jitter()
            circuit.probing = grant_id
            # The next one waits for this probe's response, or until it must have ended without any.
            circuit.probe_at = now + self._probe_seconds + circuit.pause
            return 0.0

    def record(self, provider: str, grant_id: str, verdict: Verdict) -> None:
        """Take note of what came of asking ``provider`` for the grant."""
        now = self._clock.monotonic()
        with self._lock:
            if not isinstance(verdict, Busy | NotSent | Unknown):
                self._circuits.pop(provider, None)
                return
            circuit = self._circuits.setdefault(provider, _Circuit())
            if circuit.is_open:
                # Calls that were under way when it opened say nothing new; each would double the pause.
                news = circuit.probing == grant_id
            else:
                circuit.failing.add(grant_id)
                news = circuit.is_open
            if news:
                self._pause(circuit, now, verdict)

    def _pause(self, circuit: _Circuit, now: float, verdict: Busy | NotSent | Unknown) -> None:
        pause = min(self._backoff * 2 ** min(circuit.pauses, 20), self._backoff_limit)
        asked_for = verdict.retry_after if isinstance(verdict, Busy) else None
        # Jitter: the processes of a deployment shall not probe in step.
        circuit.pause = pause * (0.75 + 0.5 * self._jitter())
        circuit.pauses += 1
        circuit.probing = None
        circuit.probe_at = now + max(circuit.pause, asked_for or 0.0)

    def forget(self) -> None:
        """Know nothing, in a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._circuits = {}
