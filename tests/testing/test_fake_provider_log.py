"""What the FakeProvider tells: its log, /log and /control, and never a secret."""

from __future__ import annotations

import json
import logging
from dataclasses import FrozenInstanceError

import pytest
import requests

from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.testing import FakeProvider, ManualClock
from flask_tokenrotate.testing.provider import LogEntry

from .conftest import ClientApp


class TestLog:
    def test_an_entry_says_who_what_and_when_by_fingerprint(self, app: ClientApp, clock: ManualClock) -> None:
        """The refresh token is named as Secret.fingerprint names it, so that a test can match it."""
        token = app.provider.mint("bob")["refresh_token"]
        clock.advance(5)
        app.redeem(token)
        (entry,) = app.provider.log
        assert entry == LogEntry(
            at=clock.time(),
            endpoint="token",
            grant_type="refresh_token",
            presented=Secret(token).fingerprint(),
            family=entry.family,
            user="bob",
            outcome="rotated",
            status=200,
            delivered=True,
        )
        assert entry.family
        with pytest.raises(FrozenInstanceError):
            entry.status = 500  # type: ignore[misc]

    def test_a_family_is_named_the_same_from_sign_in_to_revocation(self, app: ClientApp) -> None:
        """Code, refresh and revocation of one sign-in can be put together."""
        tokens = app.exchange(app.callback()["code"]).json()
        tokens = app.redeem(tokens["refresh_token"]).json()
        app.revoke(tokens["refresh_token"])
        assert [entry.outcome for entry in app.provider.log] == ["issued", "rotated", "revoked"]
        assert len({entry.family for entry in app.provider.log}) == 1

    def test_presentations_count_what_was_looked_at(self, app: ClientApp) -> None:
        """Refused and reused count, turned away and rejected do not; a code is no refresh token."""
        app.exchange(app.callback()["code"])
        token = app.provider.mint()["refresh_token"]
        app.provider.fail_next = 1
        app.redeem(token)
        app.redeem(token, scope="unheard-of")
        app.post("/token", {"grant_type": "refresh_token", "refresh_token": token}, auth=None)
        assert app.provider.double_presentations() == {}
        app.redeem(token)
        app.redeem(token)
        app.redeem("unknown")
        presented = {Secret(token).fingerprint(): 3, Secret("unknown").fingerprint(): 1}
        assert app.provider.presentations() == presented
        assert app.provider.double_presentations() == {Secret(token).fingerprint(): 3}
        assert app.provider.redemptions() == 4

    def test_a_family_that_dies_of_reuse_counts_once(self, app: ClientApp) -> None:
        """However often the spent token comes back; a sign-out is no such death."""
        first, second, third = (app.provider.mint()["refresh_token"] for _ in range(3))
        for token in (first, first, first, second, second, third):
            app.redeem(token)
        app.revoke(third)
        assert app.provider.families_revoked == 2

    def test_the_log_can_be_cleared(self, app: ClientApp) -> None:
        """A test that signs in first counts from there."""
        token = app.provider.mint()["refresh_token"]
        app.redeem(token)
        app.redeem(token)
        app.provider.clear_log()
        assert (app.provider.log, app.provider.redemptions(), app.provider.families_revoked) == ([], 0, 0)

    def test_the_log_is_served_as_json(self, app: ClientApp) -> None:
        """Another process reads the same numbers."""
        token = app.provider.mint()["refresh_token"]
        app.redeem(token)
        app.redeem(token)
        response = app.get("/log")
        told = response.json()
        assert response.headers["Content-Type"] == "application/json"
        assert (told["redemptions"], told["families_revoked"]) == (2, 1)
        assert told["outcomes"] == {"rotated": 1, "reused": 1}
        assert told["double_presentations"] == {Secret(token).fingerprint(): 2}
        assert [entry["outcome"] for entry in told["entries"]] == ["rotated", "reused"]


class TestControl:
    def control(self, app: ClientApp, **wishes: object) -> requests.Response:
        return app.http.post(f"{app.provider.url}/control", json=wishes)

    def test_knobs_are_read_and_turned(self, app: ClientApp) -> None:
        """GET and POST return the values of all knobs."""
        assert app.get("/control").json() == app.provider.positions()
        told = self.control(app, response_seconds=0.5, fail_next=2, scope="a b").json()
        assert (told["response_seconds"], told["fail_next"], told["scope"]) == (0.5, 2, "a b")
        assert app.provider.fail_next == 2

    def test_access_tokens_are_ended_and_the_log_is_cleared(self, app: ClientApp) -> None:
        """For one user where a user is named."""
        alice, bob = app.provider.mint("alice"), app.provider.mint("bob")
        app.redeem("unknown")
        self.control(app, expire_access_tokens=True, user="alice", clear_log=True)
        assert app.get("/api/me", alice["access_token"]).status_code == 401
        assert app.get("/api/me", bob["access_token"]).status_code == 200
        assert app.provider.log == []

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            ('{"lifetime_secs": 1}', "no knob 'lifetime_secs'"),
            ('{"response_seconds": "soon", "expire_access_tokens": true}', "response_seconds"),
            ('{"expire_access_tokens": "yes"}', "expire_access_tokens"),
            ('{"expire_access_tokens": true, "user": 7}', "user"),
            ("[]", "JSON object"),
            ("{", "Expecting"),
            (b"\xff", "utf-8"),
        ],
    )
    def test_a_wish_that_cannot_be_met_changes_nothing(
        self, app: ClientApp, body: str | bytes, told: str
    ) -> None:
        """The response says what is wrong with it."""
        access_token = app.provider.mint()["access_token"]
        before = app.provider.positions()
        response = app.post("/control", body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400
        assert told in response.json()["error_description"]
        assert app.provider.positions() == before
        assert app.get("/api/me", access_token).status_code == 200

    def test_a_page_in_a_browser_cannot_turn_knobs(self, app: ClientApp) -> None:
        """Bodies that a page may send across origins without asking are refused."""
        body = json.dumps({"outage": True})
        for content_type in ("text/plain", "application/x-www-form-urlencoded", None):
            assert app.post("/control", body, headers={"Content-Type": content_type}).status_code == 415
        assert app.provider.outage is False


def test_no_secret_is_logged_shown_or_told(
    app: ClientApp, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whole life of a sign-in at DEBUG: no code, token, state, verifier or secret comes out anywhere."""
    caplog.set_level(logging.DEBUG)
    code = app.callback()["code"]
    first = app.exchange(code).json()
    second = app.redeem(first["refresh_token"]).json()
    app.redeem(first["refresh_token"])
    app.redeem(second["refresh_token"])
    app.exchange(code)
    app.get("/api/me", second["access_token"])
    app.revoke(second["refresh_token"])
    minted = app.provider.mint()
    output = capfd.readouterr()
    told = "\n".join(
        [
            caplog.text,
            output.out,
            output.err,
            app.get("/log").text,
            app.get("/control").text,
            repr(app.provider.log),
            repr(vars(app.provider)),
            repr(vars(app.provider.ledger)),
        ]
    )
    canaries = [
        tokens[kind] for tokens in (first, second, minted) for kind in ("access_token", "refresh_token")
    ]
    canaries += [code, "canary-state", app.verifier, "demo-client-secret", app.provider.ticket_key.reveal()]
    assert "Dispatching grant_type" in caplog.text  # the control: oauthlib was at DEBUG, and was heard
    assert [canary for canary in canaries if canary in told] == []


def test_a_restarted_provider_is_another_one() -> None:
    """State is in memory only: what one provider issued, another does not know."""
    with FakeProvider() as first:
        token = first.mint()["refresh_token"]
    with FakeProvider() as second:
        assert ClientApp(second).redeem(token).status_code == 400
