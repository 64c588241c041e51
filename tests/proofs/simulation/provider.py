"""A strict authorization server: each refresh token works once, and its reuse has consequences.

It deals with requests in the order that the schedule chooses and keeps going when the process that
sent one is stopped or dead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from flask_tokenrotate.rotation.holding import RESPONSE_SECONDS
from flask_tokenrotate.rotation.tokens import Secret, TokenResponse, TokenSet
from flask_tokenrotate.rotation.verdict import (
    Busy,
    Misconfigured,
    Refused,
    Rotated,
    Unknown,
    Verdict,
)

from .scheduler import Errand, Process, Scheduler, Worker

KERNEL_DROPS = True
"""Whether the sender's kernel drops what was not acknowledged by the claim's first deadline."""

CLOSE_ABORTS = True
"""Whether the end of a call, or of its process, discards what the kernel has not sent."""

HEALS = (3.0, 6.0, 15.0, 40.0, 90.0)
"""Seconds after which the network delivers a message that it could not deliver at once."""


@dataclass(eq=False)
class Issued:
    """One token set that the provider issued, and what it is worth there now."""

    family: str
    number: int
    refresh_lives: bool = True
    access_lives: bool = True
    spent_at: float | None = None
    successor: Issued | None = None
    received_by: Process | None = None

    @property
    def refresh_token(self) -> Secret:
        """The name of the refresh token tells its family and its number."""
        return Secret(f"{self.family}-refresh-{self.number}")

    @property
    def access_token(self) -> Secret:
        """Likewise."""
        return Secret(f"{self.family}-access-{self.number}")


@dataclass(eq=False)
class Message:
    """A refresh token on its way to the provider, and the response on its way back.

    ``in_progress``: its sender still waits for the response. ``send_by``: until when its bytes may leave the
    sender's host. ``released_at``: when its claim was given up.
    ``meant`` is the provider's response from when it is decided, ``answer`` the same once it has arrived.
    """

    refresh_token: Secret
    sender: Worker
    meant: Verdict | None = None
    answer: Verdict | None = None
    issued: Issued | None = None
    outcome_unknown: bool = False
    in_progress: bool = True
    send_by: float = 0.0
    first_deadline: float = 0.0
    claimed_at: float = 0.0
    claim_version: int = 0
    claim_deadline: float = 0.0
    released_at: float | None = None

    @property
    def done(self) -> bool:
        """Whether there is an answer to read."""
        return self.answer is not None

    @property
    def counts(self) -> bool:
        """Whether the refresh token may have been looked at: a busy provider did not."""
        return self.meant is None or self.meant.consequences.spent is not False


@dataclass
class Behaviour:
    """What kind of provider it is; ``grace``, ``lifetime`` and ``delay`` in seconds.

    ``delay`` is how long most responses take, infinite for those that never come; ``decides_late``: a slow
    message waits before the provider looks at it, else the response waits. ``has_partitions``: now and then
    the network to it is interrupted.
    """

    grace: float = 0.0
    reuse_kills_family: bool = True
    lifetime: float = 60.0
    delay: float = 0.0
    decides_late: bool = False
    has_partitions: bool = False
    faults: list[str] = field(default_factory=list)


def family_of(access_token: Secret) -> str:
    """Return the family that the access token's name tells."""
    return access_token.reveal().partition("-access-")[0]


class Provider:
    """Families of token sets by name."""

    def __init__(self, behaviour: Behaviour, scheduler: Scheduler) -> None:
        self.behaviour = behaviour
        self.families: dict[str, list[Issued]] = {}
        self.refused_families: set[str] = set()
        self.disturbances: set[str] = set()
        self.lost_answers = 0
        self.slow_responses = 0
        self.partitions = 0
        self._accepted: set[Secret] = set()
        self.is_interrupted: Callable[[Message], None] = lambda message: None
        self.arrives_late: Callable[[Message, float], None] = lambda message, at: None
        self.has_answered: Callable[[Message], None] = lambda message: None
        self._scheduler = scheduler

    def issue(self, family: str) -> TokenResponse:
        """Issue the next token set of the family."""
        sets = self.families.setdefault(family, [])
        issued = Issued(family, len(sets))
        sets.append(issued)
        return TokenResponse(
            access_token=issued.access_token,
            refresh_token=issued.refresh_token,
            expires_in=self.behaviour.lifetime,
        )

    def find(self, refresh_token: Secret) -> Issued:
        """Return the token set that the refresh token belongs to."""
        family, _, number = refresh_token.reveal().partition("-refresh-")
        return self.families[family][int(number)]

    def is_unreachable(self) -> bool:
        """Draw whether a connection fails."""
        return "not_sent" in self.behaviour.faults and self._scheduler.tape.one_in(16)

    def send(self, message: Message) -> None:
        """Deliver a request. While the network is interrupted, it waits in its sender's kernel."""
        tape = self._scheduler.tape
        if not (self.behaviour.has_partitions and tape.one_in(4)):
            self._accept(message)
            return
        self.partitions += 1
        self.disturbances.add("slow provider")
        self._scheduler.note("the network is interrupted", "the world")
        self.is_interrupted(message)
        heals_at = self._scheduler.now + HEALS[tape.pick(len(HEALS))]
        if KERNEL_DROPS and heals_at >= message.send_by:
            self._later(lambda: self._drop(message), message.send_by - self._scheduler.now)
        else:
            self._later(lambda: self._deliver_after_all(message, heals_at), heals_at - self._scheduler.now)

    def _drop(self, message: Message) -> None:
        message.answer = Unknown(cause="no acknowledgement", timed_out=True)
        self.disturbances.add("unknown")

    def _deliver_after_all(self, message: Message, at: float) -> None:
        if CLOSE_ABORTS and not (message.in_progress and message.sender.process.alive):
            return
        self._scheduler.note(f"delivers what {message.sender.name} has posted", "the network")
        self.arrives_late(message, at)
        self._accept(message)

    def _accept(self, message: Message) -> None:
        """Take a request, to respond to it now or late, or never."""
        delay = self.behaviour.delay
        # Most replays find a provider that is quick again, and may overtake the first post.
        is_replay = message.refresh_token in self._accepted
        self._accepted.add(message.refresh_token)
        is_slow = delay > 0 and is_replay == (self._scheduler.tape.pick(4) == 3)
        if is_slow:
            self.disturbances.add("slow provider" if delay < RESPONSE_SECONDS else "unknown")
            self.slow_responses += 1
        decides_late = is_slow and self.behaviour.decides_late
        between = delay if is_slow and not decides_late else 0.0

        def respond() -> None:
            self._decide(message)
            self._later(lambda: self._deliver(message), between)

        self._later(respond, delay if decides_late else 0.0)

    def _later(self, run: Callable[[], None], seconds: float) -> None:
        if not math.isinf(seconds):
            self._scheduler.errands.append(Errand(run, self._scheduler.now + seconds))

    def _deliver(self, message: Message) -> None:
        message.answer = message.meant
        self.has_answered(message)

    def _decide(self, message: Message) -> None:
        """Decide on one request: honestly, or with one of the faults that this schedule has."""
        tape = self._scheduler.tape
        faults = self.behaviour.faults
        fault = faults[tape.pick(len(faults))] if faults and tape.one_in(4) else ""
        message.meant = self._faulty(fault, message)
        what = f"answers {message.sender.name}: {type(message.meant).__name__} {fault}"
        self._scheduler.note(what.rstrip(), "the provider")

    def _faulty(self, fault: str, message: Message) -> Verdict:
        if fault == "refused":
            self._kill(self.find(message.refresh_token).family)
        answers: dict[str, Verdict] = {
            "busy": Busy(cause="503"),
            "wait": Busy(cause="429", retry_after=20.0),
            "reset": Unknown(cause="connection reset"),
            "misconfigured": Misconfigured(error="invalid_client", cure="check the secret"),
        }
        answer = answers.get(fault) or self._redeem(message)
        if fault in {"busy", "wait", "reset", "misconfigured", "lost"}:
            self.disturbances.add("unknown" if fault in {"reset", "lost"} else fault)
            self.lost_answers += fault == "lost"
        return Unknown(cause="connection reset") if fault == "lost" else answer

    def _redeem(self, message: Message) -> Verdict:
        issued = self.find(message.refresh_token)
        if not issued.refresh_lives:
            if issued.spent_at is None or not self._in_grace(issued):
                return self._refuse(issued)
            if issued.successor is not None:
                # The live refresh token is the one that was issued last.
                issued.successor.refresh_lives = False
        issued.refresh_lives = False
        issued.spent_at = self._scheduler.now if issued.spent_at is None else issued.spent_at
        answer = self.issue(issued.family)
        message.issued = issued.successor = self.families[issued.family][-1]
        return Rotated(response=answer)

    def _in_grace(self, issued: Issued) -> bool:
        assert issued.spent_at is not None
        unused = issued.successor is None or issued.successor.spent_at is None
        return unused and self._scheduler.now < issued.spent_at + self.behaviour.grace

    def _refuse(self, issued: Issued) -> Refused:
        self.refused_families.add(issued.family)
        if self.behaviour.reuse_kills_family and issued.spent_at is not None:
            self._kill(issued.family)
        return Refused(error="invalid_grant")

    def _kill(self, family: str) -> None:
        for issued in self.families[family]:
            issued.refresh_lives = issued.access_lives = False

    def revoke(self, tokens: TokenSet) -> bool:
        """Revoke this token set and no other: the least that RFC 7009 asks for."""
        assert tokens.refresh_token is not None
        if "busy" in self.behaviour.faults and self._scheduler.tape.one_in(16):
            self.disturbances.add("not_revoked")
            return False
        issued = self.find(tokens.refresh_token)
        issued.refresh_lives = issued.access_lives = False
        return True
