"""Refresh tokens at the FakeProvider: used once, reuse ends the family, and the knobs that change it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.testing import FakeProvider, ManualClock

from .conftest import ClientApp


def fingerprint(token: str) -> str:
    return Secret(token).fingerprint()


class TestOneUse:
    def test_a_redemption_brings_a_new_pair(self, app: ClientApp) -> None:
        """Both tokens are new, the scope is the old one, and the former access token lives on."""
        first = app.provider.mint("bob", scopes=["email"])
        response = app.redeem(first["refresh_token"])
        second = response.json()
        assert response.headers["Cache-Control"] == "no-store"
        assert second["scope"] == "email"
        assert second["refresh_token"] != first["refresh_token"]
        assert app.get("/api/me", second["access_token"]).json()["user"] == "bob"
        assert app.get("/api/me", first["access_token"]).status_code == 200
        assert app.redeem(second["refresh_token"]).status_code == 200

    def test_reuse_ends_the_whole_family(self, app: ClientApp) -> None:
        """The newest tokens die with the oldest (RFC 9700 section 4.14.2); other families do not."""
        first, other = app.provider.mint(), app.provider.mint()
        second = app.redeem(first["refresh_token"]).json()
        third = app.redeem(second["refresh_token"]).json()
        assert app.redeem(first["refresh_token"]).json() == {"error": "invalid_grant"}
        for tokens in (first, second, third):
            assert app.get("/api/me", tokens["access_token"]).status_code == 401
        assert app.redeem(third["refresh_token"]).json()["error"] == "invalid_grant"
        assert app.provider.families_revoked == 1
        assert app.redeem(other["refresh_token"]).status_code == 200

    def test_of_32_redemptions_at_once_one_wins_and_the_family_dies(self, app: ClientApp) -> None:
        """All 32 requests are inside the server before the first is processed."""
        token = app.provider.mint()["refresh_token"]
        with app.provider.hold("received") as gate, ThreadPoolExecutor(32) as pool:
            calls = [pool.submit(lambda: ClientApp(app.provider).redeem(token)) for _ in range(32)]
            gate.wait_for(32)
            gate.open()
            responses = [call.result(timeout=30) for call in calls]
        winners = [response.json() for response in responses if response.status_code == 200]
        assert len(winners) == 1
        assert app.provider.outcomes() == {"rotated": 1, "reused": 1, "refused": 30}
        assert app.provider.double_presentations() == {fingerprint(token): 32}
        assert app.provider.families_revoked == 1
        assert app.provider.live_tokens() == 0

    def test_look_up_and_spending_are_one_step(self) -> None:
        """Two requests that would both find the token unspent cannot: one is done before the other looks."""
        meeting = threading.Barrier(2)

        def now() -> float:
            # Asked for between finding a token unspent and marking it spent.
            with suppress(threading.BrokenBarrierError):
                meeting.wait(timeout=0.2)
            return 0.0

        with FakeProvider(now=now) as provider, ThreadPoolExecutor(2) as pool:
            token = provider.mint()["refresh_token"]
            meeting.reset()
            calls = [pool.submit(ClientApp(provider).redeem, token) for _ in range(2)]
            assert sorted(call.result(timeout=20).status_code for call in calls) == [200, 400]

    def test_a_scope_may_be_narrowed_but_not_widened(self, app: ClientApp) -> None:
        """A narrower scope holds for that access token; a wider one costs nothing (RFC 6749 section 6)."""
        tokens = app.provider.mint(scopes=["profile", "email"])
        tokens = app.redeem(tokens["refresh_token"], scope="email").json()
        assert tokens["scope"] == "email"
        assert app.redeem(tokens["refresh_token"], scope="email admin").json()["error"] == "invalid_scope"
        assert app.redeem(tokens["refresh_token"]).json()["scope"] == "profile email"

    def test_an_unknown_refresh_token_is_refused(self, app: ClientApp) -> None:
        """invalid_grant, and no family is harmed."""
        assert app.redeem("unknown").json() == {"error": "invalid_grant"}
        assert app.provider.families_revoked == 0


class TestRotationKnobs:
    def test_without_rotation_the_refresh_token_stays_and_is_left_out(self, app: ClientApp) -> None:
        """As at providers that do not rotate: it can be used again and again."""
        app.provider.rotation = False
        tokens = app.provider.mint()
        for _ in range(2):
            response = app.redeem(tokens["refresh_token"]).json()
            assert "refresh_token" not in response
            assert app.get("/api/me", response["access_token"]).status_code == 200
        assert app.provider.outcomes() == {"kept": 2}

    def test_without_rotation_a_sign_in_still_brings_a_refresh_token(self, app: ClientApp) -> None:
        """Only the responses to refreshes leave it out."""
        app.provider.rotation = False
        assert "refresh_token" in app.exchange(app.callback()["code"]).json()

    def test_inside_the_grace_the_old_token_brings_the_same_pair(
        self, app: ClientApp, clock: ManualClock
    ) -> None:
        """One tick before its end the response is the same again, with the time that is left of it."""
        app.provider.grace_seconds = 5
        token = app.provider.mint()["refresh_token"]
        first = app.redeem(token).json()
        clock.advance(4.5)
        again = app.redeem(token).json()
        assert again == {**first, "expires_in": 3595.5}
        assert app.redeem(first["refresh_token"]).status_code == 200
        assert app.provider.outcomes() == {"rotated": 2, "repeated": 1}

    def test_at_the_end_of_the_grace_reuse_is_reuse(self, app: ClientApp, clock: ManualClock) -> None:
        """At its last tick the family dies."""
        app.provider.grace_seconds = 5
        token = app.provider.mint()["refresh_token"]
        app.redeem(token)
        clock.advance(5)
        assert app.redeem(token).status_code == 400
        assert app.provider.live_tokens() == 0

    def test_grace_is_for_the_token_just_before_the_newest(self, app: ClientApp) -> None:
        """Once the successor was spent the response has arrived, and the old token is a thief's."""
        app.provider.grace_seconds = 5
        token = app.provider.mint()["refresh_token"]
        successor = app.redeem(token).json()["refresh_token"]
        app.redeem(successor)
        assert app.redeem(token).status_code == 400
        assert app.provider.families_revoked == 1

    def test_32_redemptions_inside_the_grace_share_one_successor(self, app: ClientApp) -> None:
        """Everybody gets the same pair, and it is alive."""
        app.provider.grace_seconds = 60
        token = app.provider.mint()["refresh_token"]
        with app.provider.hold("received") as gate, ThreadPoolExecutor(32) as pool:
            calls = [pool.submit(lambda: ClientApp(app.provider).redeem(token)) for _ in range(32)]
            gate.wait_for(32)
            gate.open()
            pairs = {call.result(timeout=30).json()["refresh_token"] for call in calls}
        assert len(pairs) == 1
        assert app.redeem(pairs.pop()).status_code == 200

    def test_a_rotation_can_end_the_old_access_token(self, app: ClientApp) -> None:
        """As at GitHub: calls under way with the old one break. Others' tokens are left alone."""
        app.provider.kill_old_access_token = True
        tokens, other = app.provider.mint(), app.provider.mint()
        new = app.redeem(tokens["refresh_token"]).json()
        assert app.get("/api/me", tokens["access_token"]).status_code == 401
        assert app.get("/api/me", new["access_token"]).status_code == 200
        assert app.get("/api/me", other["access_token"]).status_code == 200

    def test_the_lifetime_is_sent_and_kept(self, app: ClientApp, clock: ManualClock) -> None:
        """expires_in is the knob's value, and the token dies then."""
        app.provider.lifetime = 2
        response = app.redeem(app.provider.mint()["refresh_token"]).json()
        assert response["expires_in"] == 2
        clock.advance(2)
        assert app.get("/api/me", response["access_token"]).status_code == 401

    def test_responses_can_be_odd_on_purpose(self, app: ClientApp) -> None:
        """expires_in left out, and a scope that nobody asked for."""
        app.provider.turn(omit_expires_in=True, scope="profile admin")
        response = app.redeem(app.provider.mint()["refresh_token"]).json()
        assert "expires_in" not in response
        assert response["scope"] == "profile admin"
