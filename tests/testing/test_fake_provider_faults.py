"""The faults that the FakeProvider can be asked for, and the gates that make races."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import requests

from flask_tokenrotate.testing import FakeProvider
from flask_tokenrotate.testing.provider.knobs import KNOBS, Knobs

from .conftest import ClientApp


class TestTurnedAway:
    @pytest.mark.parametrize(
        ("knobs", "status"),
        [
            ({"fail_next": 1}, 503),
            ({"fail_next": 1, "fail_status": 500}, 500),
            ({"rate_limit_next": 1}, 429),
        ],
    )
    def test_a_failure_leaves_the_refresh_token_as_it_was(
        self, app: ClientApp, knobs: dict[str, int], status: int
    ) -> None:
        """So many requests fail with Retry-After; the same token then works."""
        app.provider.turn(retry_after=7, **knobs)
        token = app.provider.mint()["refresh_token"]
        response = app.redeem(token)
        assert (response.status_code, response.headers["Retry-After"]) == (status, "7")
        assert app.provider.presentations() == {}
        assert app.redeem(token).status_code == 200

    def test_retry_after_can_be_left_out(self, app: ClientApp) -> None:
        """Some servers do not say when to come back."""
        app.provider.turn(fail_next=1, retry_after=0)
        assert "Retry-After" not in app.redeem("x").headers

    def test_an_outage_lasts_until_it_is_over(self, app: ClientApp) -> None:
        """Token, revocation and userinfo fail; the resource server is another one and goes on."""
        tokens = app.provider.mint()
        app.provider.outage = True
        for _ in range(2):
            assert app.redeem(tokens["refresh_token"]).status_code == 503
        assert app.revoke(tokens["refresh_token"]).status_code == 503
        assert app.get("/userinfo", tokens["access_token"]).status_code == 503
        assert app.get("/api/me", tokens["access_token"]).status_code == 200
        app.provider.outage = False
        assert app.redeem(tokens["refresh_token"]).status_code == 200
        assert app.provider.outcomes() == {"failed": 3, "rotated": 1}

    def test_a_reset_comes_before_anything_happened(self, app: ClientApp) -> None:
        """The client sees a reset connection, and the token is good."""
        app.provider.reset_next = 1
        token = app.provider.mint()["refresh_token"]
        with pytest.raises(requests.ConnectionError, match="Connection reset by peer"):
            app.redeem(token)
        assert [(entry.outcome, entry.status) for entry in app.provider.log] == [("reset", 0)]
        assert app.redeem(token).status_code == 200


class TestLostAnswers:
    @pytest.mark.parametrize(
        ("knob", "seen"), [("drop_next", "without response"), ("cut_next", "IncompleteRead")]
    )
    def test_the_token_is_spent_and_the_client_does_not_learn_it(
        self, app: ClientApp, knob: str, seen: str
    ) -> None:
        """Processed and logged as not delivered; another try is a reuse."""
        app.provider.turn(**{knob: 1})
        token = app.provider.mint()["refresh_token"]
        with pytest.raises(requests.RequestException, match=seen):
            app.redeem(token)
        (entry,) = app.provider.log
        assert (entry.outcome, entry.status, entry.delivered) == ("rotated", 200, False)
        assert app.redeem(token).status_code == 400
        assert app.provider.families_revoked == 1

    def test_a_grace_period_brings_a_lost_response_back(self, app: ClientApp) -> None:
        """The one repair there is: the old token brings the pair that was lost."""
        app.provider.turn(drop_next=1, grace_seconds=60)
        token = app.provider.mint()["refresh_token"]
        with pytest.raises(requests.ConnectionError):
            app.redeem(token)
        assert app.redeem(app.redeem(token).json()["refresh_token"]).status_code == 200


class TestDelays:
    def test_time_passes_before_and_after_processing(
        self, app: ClientApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """response_seconds pass while nothing is logged yet, after_seconds when the token is spent."""
        pauses: list[tuple[float, int]] = []
        monkeypatch.setattr(
            app.provider, "pause", lambda seconds: pauses.append((seconds, len(app.provider.log)))
        )
        app.provider.turn(response_seconds=3, after_seconds=5)
        app.redeem(app.provider.mint()["refresh_token"])
        assert pauses == [(3, 0), (5, 1)]

    def test_a_failure_takes_its_time_too(self, app: ClientApp, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server in trouble is not quicker than a healthy one."""
        pauses: list[float] = []
        monkeypatch.setattr(app.provider, "pause", pauses.append)
        app.provider.turn(response_seconds=3, after_seconds=5, fail_next=1)
        app.redeem(app.provider.mint()["refresh_token"])
        assert pauses == [3]

    def test_a_delay_is_waited_out(self) -> None:
        """The client's own time-out strikes first, before anything was processed."""
        with FakeProvider(response_seconds=60) as provider:
            app = ClientApp(provider)
            with pytest.raises(requests.ReadTimeout):
                app.post("/token", {"grant_type": "refresh_token", "refresh_token": "x"}, timeout=0.2)
            assert provider.log == []

    def test_stopping_waits_for_no_delay(self) -> None:
        """A request in a delay of a minute does not keep a test for a minute."""
        with ThreadPoolExecutor(1) as pool, FakeProvider(response_seconds=60) as provider:
            with provider.hold("received") as gate:
                call = pool.submit(ClientApp(provider).redeem, provider.mint()["refresh_token"])
                gate.wait_for(1)
            provider.stop()
            assert call.result(timeout=10).status_code == 200


class TestGates:
    def test_received_holds_before_processing(self, app: ClientApp) -> None:
        """While the gate is shut nothing was spent, whatever came in."""
        token = app.provider.mint()["refresh_token"]
        with ThreadPoolExecutor(1) as pool, app.provider.hold("received") as gate:
            call = pool.submit(app.redeem, token)
            gate.wait_for(1)
            assert app.provider.log == []
            gate.open()
            assert call.result(timeout=10).status_code == 200

    def test_processed_holds_the_response(self, app: ClientApp) -> None:
        """The token is spent and the client does not know it yet: a second redemption meets a spent one."""
        token = app.provider.mint()["refresh_token"]
        with ThreadPoolExecutor(2) as pool, app.provider.hold("processed") as gate:
            first = pool.submit(app.redeem, token)
            gate.wait_for(1)
            assert app.provider.outcomes() == {"rotated": 1}
            second = pool.submit(ClientApp(app.provider).redeem, token)
            gate.wait_for(2)
            gate.open()
            assert (first.result(timeout=10).status_code, second.result(timeout=10).status_code) == (200, 400)

    def test_leaving_the_block_opens_the_gate(self, app: ClientApp) -> None:
        """No request is left behind, and the next one is not held."""
        with ThreadPoolExecutor(1) as pool:
            with app.provider.hold("received") as gate:
                call = pool.submit(app.redeem, app.provider.mint()["refresh_token"])
                gate.wait_for(1)
            assert call.result(timeout=10).status_code == 200
        assert app.redeem(app.provider.mint()["refresh_token"]).status_code == 200

    def test_stopping_opens_the_gate(self) -> None:
        """A server that is stopped leaves no request waiting."""
        with ThreadPoolExecutor(1) as pool, FakeProvider() as provider, provider.hold("received") as gate:
            call = pool.submit(ClientApp(provider).redeem, provider.mint()["refresh_token"])
            gate.wait_for(1)
            provider.stop()
            assert call.result(timeout=10).status_code == 200

    def test_waiting_for_too_many_gives_up(self, app: ClientApp) -> None:
        """The error says how many came."""
        with app.provider.hold("received") as gate, pytest.raises(TimeoutError, match="0 of 1"):
            gate.wait_for(1, timeout=0.01)

    def test_one_gate_at_a_point_that_exists(self, app: ClientApp) -> None:
        """A second gate at the same point, or one at no point, is a mistake in the test."""
        with pytest.raises(ValueError, match="no point 'sent'"), app.provider.hold("sent"):  # type: ignore[arg-type]
            pass
        with (
            app.provider.hold("received"),
            pytest.raises(ValueError, match="already a gate"),
            app.provider.hold("received"),
        ):
            pass


class TestKnobs:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("response_seconds", -1),
            ("response_seconds", "1"),
            ("lifetime", float("inf")),
            ("lifetime", float("nan")),
            ("lifetime", True),
            ("fail_next", -1),
            ("fail_next", 1.0),
            ("drop_next", True),
            ("fail_status", 200),
            ("fail_status", "503"),
            ("rotation", 1),
            ("scope", 7),
            ("client_auth", "mtls"),
        ],
    )
    def test_an_impossible_value_is_refused_with_its_name(self, name: str, value: object) -> None:
        """The message has the knob, the value and what to give; nothing is changed."""
        knobs = Knobs()
        with pytest.raises(ValueError, match=f"{name} = .* is not possible: it must be "):
            setattr(knobs, name, value)
        assert knobs.positions() == Knobs().positions()

    def test_all_or_none_are_turned(self) -> None:
        """An unknown name beside a good one leaves the good one alone, and lists the knobs."""
        knobs = Knobs()
        with pytest.raises(ValueError, match=r"no knob 'fail_nxt'\. The knobs are: .*fail_next"):
            knobs.turn(outage=True, fail_nxt=1)
        assert knobs.outage is False

    def test_every_default_passes_its_own_check(self) -> None:
        """What a knob starts with can also be set."""
        defaults = {name: knob.default for name, knob in KNOBS.items()}
        assert Knobs(**defaults).positions() == defaults

    def test_the_countdowns_take_turns(self) -> None:
        """Each applies to its number of requests, in the order of the class, and then it is over."""
        knobs = Knobs(cut_next=1, drop_next=1, reset_next=1, rate_limit_next=1, fail_next=2)
        fates = [knobs.next_fate() for _ in range(7)]
        assert fates == ["fail", "fail", "rate_limit", "reset", "drop", "cut", "respond"]

    def test_a_countdown_of_one_is_for_one_of_two_threads(self) -> None:
        """Both would write the count down at the same moment, were the lock not there."""
        knobs = Knobs(fail_next=1)
        meeting = threading.Barrier(2)

        class Positions(dict[str, Any]):
            def __setitem__(self, name: str, value: Any) -> None:
                with suppress(threading.BrokenBarrierError):
                    meeting.wait(timeout=0.2)
                super().__setitem__(name, value)

        knobs._positions = Positions(knobs.positions())
        with ThreadPoolExecutor(2) as pool:
            fates = [pool.submit(knobs.next_fate) for _ in range(2)]
            assert sorted(fate.result(timeout=10) for fate in fates) == ["fail", "respond"]
