"""Stops calls to a provider that is away: when many grants fail at it, this process pauses.

The row's ``retry_at`` bounds the calls for one grant; with a thousand grants an outage would still
bring a thousand calls for each pause, and hold as many requests until their time-out. After `FAILING_GRANTS`
grants in a row have failed, one probe is admitted for each pause, and any response closes the breaker. A
call that has no response yet counts as failed from the moment it is overdue until it gets one.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .backoff import backoff
from .ports import Clock
from .verdict import Verdict

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


@dataclass(frozen=True, slots=True)
class Admitted:
    """Whether a redemption is admitted: ``pause`` 0, else the seconds until another try is worth it.

    ``is_probe``: it is the one that finds out whether the provider is back.
    """

    pause: float = 0.0
    is_probe: bool = False


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
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self.backoff = backoff
        self.backoff_limit = min(backoff_limit, LONGEST_PAUSE)
        self._probe_seconds = probe_seconds
        self._jitter = jitter
        self._circuits: dict[str, _Circuit] = {}
        self._lock = threading.Lock()

    def admit(self, provider: str, grant_id: str) -> Admitted:
        """Return whether the provider may be asked for the grant.

        While the circuit is open, one caller is admitted for each pause: the probe.
        """
        now = self._clock.monotonic()
        with self._lock:
            circuit = self._circuits.get(provider)
            if circuit is None or not circuit.is_open:
                return Admitted()
            if now < circuit.probe_at:
                # Jitter: callers that are sent away now must not all come back at once.
                return Admitted(pause=circuit.probe_at - now + circuit.pause * self._jitter())
            circuit.probing = grant_id
            # The next one waits for this probe's response, or until it must have ended without any.
            circuit.probe_at = now + self._probe_seconds + circuit.pause
            return Admitted(is_probe=True)

    def is_open(self, provider: str) -> bool:
        """Return whether the provider counts as away."""
        with self._lock:
            circuit = self._circuits.get(provider)
            return circuit is not None and circuit.is_open

    def overdue(self, provider: str, grant_id: str) -> None:
        """Note that the response to a redemption is overdue: the provider counts as failing meanwhile.

        Without it a provider that accepts and never responds would hold each request until its time-out.
        """
        with self._lock:
            self._fails(provider, grant_id)

    def record(self, provider: str, grant_id: str, verdict: Verdict) -> None:
        """Note what came of asking ``provider`` for the grant."""
        with self._lock:
            if verdict.consequences.is_outage:
                self._fails(provider, grant_id, at_least=getattr(verdict, "retry_after", None) or 0.0)
            else:
                self._circuits.pop(provider, None)

    def _fails(self, provider: str, grant_id: str, at_least: float = 0.0) -> None:
        circuit = self._circuits.setdefault(provider, _Circuit())
        if circuit.is_open:
            # Calls that were in progress when it opened say nothing new; each would double the pause.
            is_news = circuit.probing == grant_id
        else:
            circuit.failing.add(grant_id)
            is_news = circuit.is_open
        if is_news:
            circuit.pause = backoff(self, circuit.pauses, self._jitter)
            circuit.pauses += 1
            circuit.probing = None
            circuit.probe_at = self._clock.monotonic() + max(circuit.pause, at_least)

    def reset(self) -> None:
        """Close all circuits, in a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._circuits = {}
