"""One whole run: what is drawn from the tape, who does what, and what may go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flask_tokenrotate.rotation.protocol import Policy
from flask_tokenrotate.rotation.redeemer import Timing
from flask_tokenrotate.rotation.tokens import Grant, NewGrant
from flask_tokenrotate.testing.memory import MemoryGrantStore

from .ports import DatabaseTime, ProcessClock, SilentObserver, StoppingEndpoint, StoppingStore, WatchedRescue
from .provider import Behaviour, Message, Provider
from .referee import Referee
from .requests import Request, WatchedRotator
from .scheduler import Process, Scheduler, Stuck, Tape, Worker

TIMING = Timing()
LIFETIME = 60.0
AGES = (60.0, 45.0, 60.0, 0.0, 60.0, 52.0)
"""How old the first token set may be, in seconds: run out, in the ahead window, fresh or stale."""

PROVIDER_FAULTS = ("lost", "busy", "refused", "not_sent", "reset", "wait", "misconfigured")
ACTIONS = ("touch", "touch", "touch", "touch", "refused", "pause", "expire")
LONG_AFTER = 300.0
"""Seconds after which every deadline, pause and cached token of a schedule has run out."""


class Scenario:
    """A world drawn from a tape of choices."""

    def __init__(self, choices: bytes) -> None:
        self.tape = tape = Tape(choices)
        self.scheduler = scheduler = Scheduler(tape)
        self.policy = Policy(
            min_ttl=10.0, ahead=30.0, settle=2.0, on_unknown=("replay", "replay", "reauthorize")[tape.pick(3)]
        )
        grace, reuse_kills_family = ((0.0, True), (0.0, False), (30.0, True))[tape.pick(3)]
        behaviour = Behaviour(grace=grace, reuse_kills_family=reuse_kills_family, lifetime=LIFETIME)
        self.provider = Provider(behaviour, scheduler)
        self.provider.has_answered = self._wake_late_winners
        self._stopped_until_an_answer: set[Process] = set()
        self.rows = MemoryGrantStore(DatabaseTime(scheduler))
        self.rescue = WatchedRescue(scheduler)
        self.referee = Referee(scheduler, self.provider, self.rows, self.policy)
        self.referee.is_rescued = self.rescue.holds_before
        self.store = StoppingStore(self.rows, scheduler, self.referee)
        self.grants = [self._sign_in(number) for number in range((1, 1, 1, 2)[tape.pick(4)])]
        cache_seconds = (5.0, 0.0)[tape.pick(2)]
        self.processes = [
            self._process(number, cache_seconds) for number in range((1, 2, 2, 3)[tape.pick(4)])
        ]
        self._choose_faults()
        for _ in range((0, 0, 0, 1, 1, 2)[tape.pick(6)]):
            self._worker([[("sign_out", self._any_grant())]])
        for _ in range(2 + tape.pick(5)):
            self._worker(self._requests())
        scheduler.after_step = self.referee.check

    def _sign_in(self, number: int) -> str:
        family = f"family{number}"
        age = AGES[self.tape.pick(len(AGES))]
        answer = self.provider.issue(family)
        grant = self.rows.add(NewGrant(provider="p", answer=answer, user_id=f"user{number}"))
        self.rows.rows[grant.id] = _aged(grant, age)
        self.referee.families[grant.id] = family
        return grant.id

    def _process(self, number: int, cache_seconds: float) -> Process:
        process = Process(f"process {number}", offset=1000.0 * number + 7.0)
        process.rotator = rotator = WatchedRotator(
            self.store,
            StoppingEndpoint(self.provider, process, self.scheduler, self.referee),
            ProcessClock(process, self.scheduler),
            SilentObserver(),
            self.rescue,
            policy_for=lambda provider: self.policy,
            timing=TIMING,
            cache_entries=100,
            cache_seconds=cache_seconds,
            holder=lambda: process.name,
            jitter=lambda: 0.5,
        )
        rotator.referee, rotator.process, rotator.scheduler = self.referee, process, self.scheduler
        return process

    def _choose_faults(self) -> None:
        tape = self.tape
        scheduler = self.scheduler
        scheduler.stickiness = (0, 120, 200)[tape.pick(3)]
        kinds = (self._stall, self._stall, self._crash, self._outage, self._jump)
        theme = tape.pick(8)
        if theme in (1, 2):
            faults = [PROVIDER_FAULTS[tape.pick(len(PROVIDER_FAULTS))] for _ in range(1 + tape.pick(2))]
            self.provider.behaviour.faults = faults
        if theme > 3:
            scheduler.faults = [self._stall]
            scheduler.fault_rate = (10, 24)[tape.pick(2)]
        if theme in (2, 3):
            scheduler.faults = [kinds[tape.pick(5)] for _ in range(1 + tape.pick(2))]
            scheduler.fault_rate = (6, 20)[tape.pick(2)]

    def _victim(self) -> Process:
        """Return a process: the one that ran last is in the middle of something."""
        last = self.scheduler.last_to_run
        if last is not None and self.tape.pick(3):
            return last.process
        return self.processes[self.tape.pick(len(self.processes))]

    def _crash(self) -> None:
        process = self._victim()
        if sum(other.alive for other in self.processes) > process.alive:
            process.alive = False
            self._disturb("crash", f"{process.name} is killed")

    def _stall(self) -> None:
        process = self._victim()
        in_doubt = TIMING.claim + self.policy.settle
        seconds = (in_doubt, 40.0, TIMING.claim, 40.0)[self.tape.pick(4)]
        process.stalled_until = self.scheduler.now + seconds
        if self.tape.pick(2):
            self._stopped_until_an_answer.add(process)
        self._disturb("stall", f"{process.name} is stopped for {seconds} s")

    def _wake_late_winners(self, message: Message) -> None:
        """Let processes that were stopped go on just when another one has an answer on its way."""
        for process in self._stopped_until_an_answer - {message.sender.process}:
            self._stopped_until_an_answer.discard(process)
            process.stalled_until = min(process.stalled_until, self.scheduler.now)

    def _jump(self) -> None:
        seconds = (1.0, 5.0, 9.0, 12.5, 50.0)[self.tape.pick(5)]
        self.scheduler.now += seconds
        self._disturb("jump", f"everything is slow: {seconds} s pass")

    def _outage(self) -> None:
        seconds = (0.1, 1.0, 3.0, 20.0)[self.tape.pick(4)]
        self.store.away_until = self.scheduler.now + seconds
        self.store.comes_and_goes = self.tape.pick(2) == 1
        self._disturb("outage", f"the store is away for {seconds} s")

    def _disturb(self, kind: str, what: str) -> None:
        self.referee.disturbed(kind)
        self.scheduler.note(what, "the world")

    def _requests(self) -> list[list[tuple[str, str]]]:
        """Draw what a worker does: one or two requests of one to three actions each."""
        tape = self.tape
        return [
            [(ACTIONS[tape.pick(len(ACTIONS))], self._any_grant()) for _ in range(1 + tape.pick(3))]
            for _ in range(1 + tape.pick(2))
        ]

    def _any_grant(self) -> str:
        return self.grants[self.tape.pick(len(self.grants))] if len(self.grants) > 1 else self.grants[0]

    def _worker(self, requests: list[list[tuple[str, str]]]) -> None:
        process = self.processes[self.tape.pick(len(self.processes))]

        def run(worker: Worker) -> None:
            for actions in requests:
                Request(self.scheduler, self.referee, worker).run(actions)
            worker.finished = True

        self.scheduler.workers.append(Worker(f"w{len(self.scheduler.workers) + 1}", process, run))

    def run(self) -> None:
        """Run to the end, then let every living process look once more when all is calm."""
        try:
            self.scheduler.run()
            self._look_again()
            self.referee.finish()
        except Stuck:
            raise self.referee.violated("I3", "a request does not come to an end") from None
        finally:
            self.scheduler.close()

    def _look_again(self) -> None:
        self.scheduler.now += LONG_AFTER
        self.provider.behaviour.faults = []
        self.scheduler.faults = []
        for process in self.processes:
            for grant_id in self.grants:
                self.scheduler.workers.append(
                    Worker(f"last look at {grant_id}", process, self._last_look(grant_id))
                )
                self.scheduler.run()

    def _last_look(self, grant_id: str) -> Callable[[Worker], None]:
        def run(worker: Worker) -> None:
            request = Request(self.scheduler, self.referee, worker, calm=True)
            request.run([("touch", grant_id)])
            worker.finished = True

        return run


def _aged(grant: Grant, age: float) -> Grant:
    assert grant.tokens.expires_at is not None
    return replace(grant, tokens=replace(grant.tokens, expires_at=grant.tokens.expires_at - age))
