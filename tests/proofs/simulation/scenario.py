"""One whole run: what is drawn from the tape, who does what, and what may go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from flask_tokenrotate.rotation.assembly import Rotation
from flask_tokenrotate.rotation.holding import Timing
from flask_tokenrotate.rotation.protocol import Policy
from flask_tokenrotate.rotation.tokens import Claim, Grant, NewGrant
from flask_tokenrotate.testing.memory import MemoryGrantStore
from flask_tokenrotate.threads import ABORT_SECONDS

from .ports import (
    CountedWakeups,
    NoThreads,
    ProcessClock,
    SilentObserver,
    SimulatedThreads,
    StoppingEndpoint,
)
from .provider import Behaviour, Message, Provider, family_of
from .referee import Referee
from .requests import Request, watch
from .scheduler import Errand, Process, Scheduler, Stuck, Tape, Worker
from .store import EPOCH, DatabaseTime, StoppingStore, WatchedRescue

TIMING = Timing(redeem=7.0, claim=10.0, backoff=1.0, backoff_limit=60.0)
WAIT = 15.0
LIFETIME = 60.0
AGES = (60.0, 45.0, 60.0, 0.0, 60.0, 52.0)
"""How old the first token set may be, in seconds: run out, in the ahead window, fresh or stale."""

DELAYS = (0.0, 0.0, 0.0, 0.0, 8.0, 40.0, 40.0, 100.0, math.inf)
"""Seconds that a slow provider may take for a response."""

PROVIDER_FAULTS = ("lost", "busy", "refused", "not_sent", "reset", "wait", "misconfigured")
ACTIONS = ("touch", "touch", "touch", "touch", "refused", "pause", "expire", "guarded")
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
        self._stopped_until_a_look: set[Process] = set()
        self.database_time = DatabaseTime(scheduler)
        self.rows = MemoryGrantStore(self.database_time)
        self.rescue = WatchedRescue(scheduler)
        self.referee = Referee(scheduler, self.provider, self.rows, self.policy, TIMING, WAIT)
        self.provider.arrives_late = self.referee.arrives_late
        self.provider.is_interrupted = self._crash_in_a_partition
        self.referee.is_rescued = self.rescue.holds_before
        self.store = StoppingStore(self.rows, scheduler, self.referee)
        self.store.settled = self._tell_waiters
        self.store.overdue_seen = self._wake_delayed_holders
        self._heard_of = (1, 0, 3)[tape.pick(3)]
        self._wakeups: list[CountedWakeups] = []
        self.session: dict[str, str] = {}
        for number in range((1, 1, 1, 2)[tape.pick(4)]):
            self._sign_in(f"user{number}")
        cache_seconds = (5.0, 0.0)[tape.pick(2)]
        self.processes = [
            self._process(number, cache_seconds) for number in range((1, 2, 2, 3)[tape.pick(4)])
        ]
        self._choose_faults()
        for _ in range((0, 0, 0, 1, 1, 2)[tape.pick(6)]):
            self._worker([self._ending()])
        for _ in range(2 + tape.pick(5)):
            self._worker(self._requests())
        scheduler.after_step = self.referee.check

    def _sign_in(self, user: str) -> None:
        """Sign a user in, some time before the schedule begins."""
        age = AGES[self.tape.pick(len(AGES))]
        grant = self.rows.add(self._new_grant(user))
        self.rows.rows[grant.id] = _aged(grant, age)
        self.referee.families[grant.id] = family_of(grant.tokens.access_token)
        self.session[user] = grant.id

    def _renew(self, user: str, replaces: str) -> str:
        """Sign a user in who is signed in already; return the new grant's id."""
        return self.store.add(self._new_grant(user), replaces=replaces).id

    def _new_grant(self, user: str) -> NewGrant:
        answer = self.provider.issue(f"family{len(self.provider.families)}")
        return NewGrant(provider="p", response=answer, user_id=user)

    def _process(self, number: int, cache_seconds: float) -> Process:
        process = Process(f"process {number}", offset=1000.0 * number + 7.0)
        clock = ProcessClock(process, self.scheduler)
        self._wakeups.append(CountedWakeups(clock, self.referee))
        limit = (3, 1, 2, 0)[self.tape.pick(4)]
        process.rotation = Rotation(
            store=self.store,
            endpoint=StoppingEndpoint(
                self.provider, process, self.scheduler, self.referee, has_threads=limit > 0
            ),
            clock=clock,
            observer=SilentObserver(),
            rescue=self.rescue,
            wakeups=self._wakeups[-1],
            threads=SimulatedThreads(process, self.scheduler, self.referee, limit)
            if limit
            else NoThreads(self.referee),
            policy_for=lambda provider: self.policy,
            timing=TIMING,
            wait_seconds=WAIT,
            cache_entries=100,
            cache_seconds=cache_seconds,
            holder=lambda: process.name,
            jitter=lambda: 0.5,
        )
        watch(process.rotation, process, self.scheduler, self.referee)
        return process

    def _tell_waiters(self, claim: Claim) -> None:
        """Wake the waiters of every process, of none, or of one in three, as this schedule has it."""
        if not claim.awaited:
            return
        for wakeups in self._wakeups:
            if self._heard_of == 1 or (self._heard_of and self.tape.pick(self._heard_of) == 0):
                wakeups.wake(claim.grant_id)

    def _choose_faults(self) -> None:
        tape = self.tape
        scheduler = self.scheduler
        scheduler.stickiness = (0, 120, 200)[tape.pick(3)]
        kinds = (
            self._stall,
            self._stall,
            self._crash,
            self._outage,
            self._wait,
            self._set_clock,
            self._drain,
        )
        self.provider.behaviour.delay = DELAYS[tape.pick(len(DELAYS))]
        self.provider.behaviour.decides_late = tape.pick(2) == 1
        self.provider.behaviour.has_partitions = tape.pick(6) == 5
        theme = tape.pick(8)
        if theme in (1, 2):
            faults = [PROVIDER_FAULTS[tape.pick(len(PROVIDER_FAULTS))] for _ in range(1 + tape.pick(2))]
            self.provider.behaviour.faults = faults
        if theme > 3:
            scheduler.faults = [self._stall]
            scheduler.fault_rate = (10, 24)[tape.pick(2)]
        if theme in (2, 3):
            scheduler.faults = [kinds[tape.pick(len(kinds))] for _ in range(1 + tape.pick(2))]
            scheduler.fault_rate = (6, 20)[tape.pick(2)]

    def _victim(self) -> Process:
        """Return a process: the one that ran last is in the middle of something."""
        last = self.scheduler.last_to_run
        if last is not None and self.tape.pick(3):
            return last.process
        return self.processes[self.tape.pick(len(self.processes))]

    def _crash(self) -> None:
        self._kill(self._victim())

    def _crash_in_a_partition(self, message: Message) -> None:
        if self.tape.one_in(4):
            self._kill(message.sender.process)

    def _kill(self, process: Process) -> None:
        if self._goes_on_without(process):
            process.alive = False
            self._disturb("crash", f"{process.name} is killed")

    def _drain(self) -> None:
        """Let a process exit: its calls are aborted, and it is gone a moment later."""
        process = self._victim()
        if self._goes_on_without(process) and not process.closing:
            process.closing = True
            self.scheduler.errands.append(
                Errand(lambda: self._exit(process), self.scheduler.now + ABORT_SECONDS)
            )
            self._disturb("drain", f"{process.name} ends")

    def _exit(self, process: Process) -> None:
        if process.alive:
            process.alive = False
            self.scheduler.note(f"{process.name} has ended", "the world")

    def _goes_on_without(self, process: Process) -> bool:
        return any(other.alive and not other.closing for other in self.processes if other is not process)

    def _stall(self) -> None:
        process = self._victim()
        in_doubt = TIMING.claim + self.policy.settle
        seconds = (in_doubt, 40.0, TIMING.claim, 40.0, 80.0)[self.tape.pick(5)]
        process.stalled_until = self.scheduler.now + seconds
        self.referee.hindered.add(process)
        until = self.tape.pick(3)
        if until == 1:
            self._stopped_until_an_answer.add(process)
        elif until == 2:
            self._stopped_until_a_look.add(process)
        self._disturb("stall", f"{process.name} is stopped for {seconds} s")

    def _wake_late_winners(self, message: Message) -> None:
        """Let processes that were stopped go on just when another one has an answer on its way."""
        for process in self._stopped_until_an_answer - {message.sender.process}:
            self._stopped_until_an_answer.discard(process)
            process.stalled_until = min(process.stalled_until, self.scheduler.now)

    def _wake_delayed_holders(self) -> None:
        """Let processes that were stopped go on just when another one finds a claim's deadline passed."""
        for process in self._stopped_until_a_look:
            process.stalled_until = min(process.stalled_until, self.scheduler.now)
        self._stopped_until_a_look.clear()

    def _wait(self) -> None:
        seconds = (1.0, 5.0, 9.0, 12.5, 50.0)[self.tape.pick(5)]
        self.scheduler.now += seconds
        self._disturb("slow", f"everything is slow: {seconds} s pass")

    def _set_clock(self) -> None:
        """Set the database's clock forward or back; or a process's own forward, as after a suspend."""
        seconds = (15.0, 300.0, -15.0, -120.0, 40.0)[self.tape.pick(5)]
        if self.tape.pick(3):
            self.database_time.offset += seconds
            self._disturb("clock", f"the database's clock is set by {seconds:+} s")
        else:
            process = self._victim()
            process.offset += abs(seconds)
            self.referee.hindered.add(process)
            self._disturb("suspend", f"the clock of {process.name} goes {abs(seconds)} s ahead")

    def _outage(self) -> None:
        seconds = (0.1, 1.0, 3.0, 20.0)[self.tape.pick(4)]
        self.store.away_until = self.scheduler.now + seconds
        self.store.comes_and_goes = self.tape.pick(2) == 1
        self._disturb("outage", f"the store is away for {seconds} s")

    def _disturb(self, kind: str, what: str) -> None:
        self.referee.disturbed(kind)
        self.referee.events["clock jump" if kind in ("clock", "suspend") else kind] += 1
        self.scheduler.note(what, "the world")

    def _requests(self) -> list[list[tuple[str, str]]]:
        """Draw what a worker does: one or two requests of one to three actions each."""
        tape = self.tape
        return [
            [(ACTIONS[tape.pick(len(ACTIONS))], self._any_user()) for _ in range(1 + tape.pick(3))]
            for _ in range(1 + tape.pick(2))
        ]

    def _ending(self) -> list[tuple[str, str]]:
        """Draw a request that signs a user out, or in anew; it may use tokens before and after that."""
        user = self._any_user()
        end = ("sign_out", "sign_out", "sign_in")[self.tape.pick(3)]
        actions = ([end], [end], ["touch", end, "touch"])[self.tape.pick(3)]
        return [(action, user) for action in actions]

    def _any_user(self) -> str:
        return f"user{self.tape.pick(len(self.session))}" if len(self.session) > 1 else "user0"

    def _worker(self, requests: list[list[tuple[str, str]]]) -> None:
        process = self.processes[self.tape.pick(len(self.processes))]
        here = self.tape.one_in(8)

        def run(worker: Worker) -> None:
            for actions in requests:
                Request(self.scheduler, self.referee, worker, self.session, self._renew, here=here).run(
                    actions
                )
            worker.finished = True

        self.scheduler.start(f"w{len(self.scheduler.workers) + 1}", process, run)

    def run(self) -> None:
        """Run to the end, then let every living process look once more when all is calm."""
        try:
            self.scheduler.run()
            self._look_again()
            if self.referee.looks_again:
                self.referee.is_last_look = True
                self._look_again()
            self.referee.finish()
        except Stuck:
            raise self.referee.violated("I3", "a request does not come to an end") from None
        finally:
            self.scheduler.close()
            self.referee.events["lost answer"] += self.provider.lost_answers
            self.referee.events["slow provider"] += self.provider.slow_responses
            self.referee.events["partition"] += self.provider.partitions

    def _look_again(self) -> None:
        # Longer where the database's clock was set back: its times are still to come.
        self.scheduler.now += LONG_AFTER + max(0.0, EPOCH - self.database_time.offset)
        self.provider.behaviour.faults = []
        self.provider.behaviour.delay = 0.0
        self.provider.behaviour.has_partitions = False
        self.scheduler.faults = []
        for process in self.processes:
            for grant_id in list(self.rows.rows):
                self.scheduler.start(f"last look at {grant_id}", process, self._last_look(grant_id))
                self.scheduler.run()

    def _last_look(self, grant_id: str) -> Callable[[Worker], None]:
        def run(worker: Worker) -> None:
            session = {"anybody": grant_id}
            Request(self.scheduler, self.referee, worker, session, self._renew, calm=True).run(
                [("touch", "anybody")]
            )
            worker.finished = True

        return run


def _aged(grant: Grant, age: float) -> Grant:
    assert grant.tokens.expires_at is not None
    return replace(grant, tokens=replace(grant.tokens, expires_at=grant.tokens.expires_at - age))
