"""What follows from a verdict is stated in its class and nowhere else: a new one is one file and one test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import pytest

from flask_tokenrotate.errors import (
    ProviderMisconfigured,
    ProviderUnavailable,
    RotationTimeout,
    SignInRequired,
    TokenRotateError,
)
from flask_tokenrotate.rotation import asking
from flask_tokenrotate.rotation import verdict as verdicts
from flask_tokenrotate.rotation.breaker import FAILING_GRANTS
from flask_tokenrotate.rotation.tokens import Secret, TokenResponse
from flask_tokenrotate.rotation.verdict import (
    CONSEQUENCES,
    MISCONFIGURED_PAUSE,
    Busy,
    Consequences,
    Effect,
    Misconfigured,
    NotPosted,
    NotSent,
    Refused,
    Rotated,
    Unknown,
    Verdict,
    _Verdict,
)

from .processes import World, a_policy, access

KINDS = get_args(Verdict)
TOKENS = TokenResponse(access_token=Secret("access-1"), refresh_token=Secret("refresh-1"), expires_in=3600.0)
EXAMPLES: dict[type, Verdict] = {
    Rotated: Rotated(response=TOKENS),
    Refused: Refused(error="invalid_grant"),
    Busy: Busy(cause="http_503"),
    NotSent: NotSent(cause="connect"),
    NotPosted: NotPosted(),
    Unknown: Unknown(cause="reset"),
    Misconfigured: Misconfigured(error="invalid_client", cure="Check it."),
}


@pytest.fixture
def world() -> World:
    return World()


class TestTheTable:
    """Each verdict states all of its consequences."""

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
    def test_every_verdict_states_its_own(self, kind: type[_Verdict]) -> None:
        """In its own class, with a name that fits the ledger, and words for people."""
        assert "consequences" in vars(kind)
        follows = kind.consequences
        assert follows.ledger_name.isidentifier()
        assert len(follows.ledger_name) <= 32
        assert follows.meaning
        assert follows.spent in (True, False, None)

    def test_the_union_the_classes_and_the_names_agree(self) -> None:
        """None is missing anywhere, and no two share a name."""
        classes = {each for each in vars(verdicts).values() if isinstance(each, type)}
        assert set(KINDS) == {each for each in classes if issubclass(each, _Verdict)} - {_Verdict}
        assert {kind.consequences.ledger_name: kind.consequences for kind in KINDS} == CONSEQUENCES
        assert len(CONSEQUENCES) == len(KINDS) == len(EXAMPLES)

    def test_a_doubt_is_what_nobody_knows_and_an_end_what_is_spent(self) -> None:
        """What it does to the row fits what it says of the refresh token."""
        for follows in CONSEQUENCES.values():
            assert (follows.effect is Effect.DOUBT) == (follows.spent is None)
            assert (follows.effect is Effect.PAUSE) == (follows.spent is False)

    @pytest.mark.parametrize("is_replay", [False, True])
    def test_only_a_refusal_depends_on_the_attempt(self, is_replay: bool) -> None:
        """A refused replay proves only that the token was spent."""
        for name, follows in CONSEQUENCES.items():
            expected = Effect.DOUBT if name == "refused" and is_replay else follows.effect
            assert follows.on(is_replay=is_replay) is expected

    def test_an_outage_is_what_may_pass_by_itself(self) -> None:
        """A response to this grant or this client is none."""
        outages = {name for name, follows in CONSEQUENCES.items() if follows.is_outage}
        assert outages == {"busy", "not_sent", "unknown"}

    @pytest.mark.parametrize(
        ("verdict", "backoff", "pause"),
        [
            (Busy(cause="503"), 4.0, 4.0),
            (Busy(cause="429", retry_after=90.0), 4.0, 90.0),
            (NotSent(cause="connect"), 4.0, 4.0),
            (NotPosted(), 4.0, None),
            (Unknown(cause="reset"), 1.0, 2.0),
            (Unknown(cause="reset"), 4.0, 4.0),
            (Unknown(cause="read", timed_out=True), 1.0, 10.0),
            (Misconfigured(error="e", cure="c"), 4.0, MISCONFIGURED_PAUSE),
            (Misconfigured(error="e", cure="c"), 60.0, 60.0),
        ],
    )
    def test_pauses(self, verdict: Verdict, backoff: float, pause: float | None) -> None:
        """The backoff of the row at least, and what the verdict itself asks for."""
        assert verdict.pause(backoff, a_policy()) == pause

    def test_in_a_grace_period_only_the_settling_is_waited_for(self) -> None:
        """The replay has to come while the provider still accepts it."""
        assert Unknown(cause="read", timed_out=True).pause(1.0, a_policy(grace=20.0)) == 2.0


ERRORS: dict[type, type[TokenRotateError] | None] = {
    Rotated: None,
    Refused: SignInRequired,
    Busy: ProviderUnavailable,
    NotSent: ProviderUnavailable,
    NotPosted: None,
    Unknown: ProviderUnavailable,
    Misconfigured: ProviderMisconfigured,
}


class TestWhatIsDone:
    """Row, ledger, breaker and request follow what the class states."""

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
    def test_each_verdict(self, world: World, kind: type) -> None:
        """One redemption with it, from the response to the error page."""
        verdict, error = EXAMPLES[kind], ERRORS[kind]
        follows = CONSEQUENCES[verdict.consequences.ledger_name]
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [verdict]
        process = world.process()
        if error is None:
            assert access(process.get(grant_id)).startswith("access-")
        else:
            with pytest.raises(error):
                process.get(grant_id)
        entry = next(iter(world.store.ledger.values()))
        assert entry.verdict == follows.ledger_name
        assert entry.slot == (None if follows.spent is False else 0)
        row = world.row(grant_id)
        assert (row.end_reason is not None) == (follows.effect is Effect.END)
        assert row.doubts == (follows.effect is Effect.DOUBT)
        assert ("p" in process.rotation.breaker._circuits) == follows.is_outage


@dataclass(frozen=True, kw_only=True, slots=True)
class Resting(_Verdict):
    """A verdict that nobody has thought of: the provider takes a nap."""

    consequences = Consequences(
        ledger_name="resting",
        meaning="the provider takes a nap",
        spent=False,
        effect=Effect.PAUSE,
        is_outage=True,
    )

    @property
    def code(self) -> str:
        """Its reason."""
        return "siesta"

    def pause(self, backoff: float, policy: object) -> float | None:
        """A nap's length."""
        return 1200.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Restless(_Verdict):
    """The mistake: the refresh token stays in place, and nothing keeps requests from posting it again."""

    consequences = replace(Resting.consequences, ledger_name="restless", is_outage=False)

    def pause(self, backoff: float, policy: object) -> None:
        """None."""


class TestANewVerdict:
    """Its class is enough for redeemer, store, breaker and request."""

    def test_it_is_written_paused_and_reported(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """`CONSEQUENCES` has it when it is in the union; nothing else knows it."""
        monkeypatch.setitem(asking.CONSEQUENCES, "resting", Resting.consequences)
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [Resting()]  # type: ignore[list-item]
        process = world.process()
        for _ in range(3):
            with pytest.raises(ProviderUnavailable) as caught:
                process.get(grant_id)
            assert caught.value.retry_after == pytest.approx(1200.0)
        row = world.row(grant_id)
        assert (row.failure, row.failure_code, row.failures) == ("resting", "siesta", 1)
        entry = next(iter(world.store.ledger.values()))
        assert (entry.verdict, entry.slot) == ("resting", None)
        assert world.endpoint.posts == ["refresh-0"]
        assert world.notified.events[-1] == (
            "rotation_failed",
            {"failure": "resting", "code": "siesta", "retry_after": 1200.0},
        )

    def test_it_counts_for_the_breaker(self, world: World) -> None:
        """As its class says."""
        process = world.process()
        for number in range(FAILING_GRANTS):
            process.rotation.breaker.record("p", f"grant-{number}", Resting())  # type: ignore[arg-type]
        assert process.rotation.breaker.admit("p", "other").pause > 0

    def test_one_that_asks_an_operator_is_reported_so(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The request gets the error that names the configuration."""
        follows = replace(Resting.consequences, asks_operator=True)
        monkeypatch.setattr(Resting, "consequences", follows)
        monkeypatch.setitem(asking.CONSEQUENCES, "resting", follows)
        grant_id = world.sign_in(remaining=-1.0)
        world.endpoint.script = [Resting()]  # type: ignore[list-item]
        with pytest.raises(ProviderMisconfigured) as caught:
            world.process().get(grant_id)
        assert caught.value.error == "siesta"

    def test_one_without_a_pause_would_post_again_and_again(self, world: World) -> None:
        """The control: one request posts its refresh token as often as the provider responds so."""
        grant_id = world.sign_in(remaining=-1.0)

        def restless() -> Verdict:
            world.clock.advance(1.0)
            return Restless()  # type: ignore[return-value]

        world.endpoint.script = [restless] * 100
        with pytest.raises(RotationTimeout):
            world.process().get(grant_id)
        assert len(world.endpoint.posts) == world.wait_seconds

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
    def test_no_verdict_on_a_post_is_without_one(self, kind: type) -> None:
        """Whatever leaves the refresh token in place after a post has to pause."""
        verdict = EXAMPLES[kind]
        leaves_it = verdict.consequences.effect in (Effect.PAUSE, Effect.DOUBT)
        if leaves_it and kind is not NotPosted:
            assert verdict.pause(1.0, a_policy())
