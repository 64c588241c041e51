"""One redemption for each expiry, whichever way gunicorn makes requests run side by side."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flask_tokenrotate.testing import FakeProvider
from tests.servers.visitors import Visitor, wave
from tests.servers.web import APPLICATION, PLAIN_APPLICATION, gunicorn, plain_settings, settings

SESSIONS = 4
REQUESTS = 12
OPTIONS = {
    "sync": ["--worker-class", "sync"],
    "gthread": ["--threads", "8"],
    "gevent": ["--worker-class", "gevent"],
}


def sign_in_everybody(url: str, provider: FakeProvider) -> list[Visitor]:
    """Return visitors whose access tokens have expired."""
    visitors = [Visitor(url) for _ in range(SESSIONS)]
    for number, visitor in enumerate(visitors):
        visitor.sign_in(provider.mint(f"user{number}", expires_in=-1))
    return visitors


@pytest.mark.parametrize("worker_class", OPTIONS)
def test_a_storm_costs_one_redemption_for_each_session(
    worker_class: str, provider: FakeProvider, tmp_path: Path
) -> None:
    """Many requests of each session at once, in several processes: one redemption, and no error."""
    environment = settings(f"sqlite:///{tmp_path}/grants.sqlite3", {"fake": provider.registration()})
    with gunicorn(APPLICATION, tmp_path, *OPTIONS[worker_class], **environment) as url:
        visitors = sign_in_everybody(url, provider)
        answers = wave(visitors, REQUESTS)
    assert Counter(answer.status for answer in answers) == {200: SESSIONS * REQUESTS}
    assert {answer.json["version"] for answer in answers} == {1}
    assert provider.redemptions() == SESSIONS
    assert provider.double_presentations() == {}
    assert len({answer.json["pid"] for answer in answers}) > 1
    assert {answer.json["greenlets"] for answer in answers} == {worker_class == "gevent"}
    assert {answer.json["threads"] for answer in answers} == {worker_class != "sync"}


def test_the_same_storm_loses_sessions_without_the_extension(provider: FakeProvider, tmp_path: Path) -> None:
    """The control: where each request refreshes for itself, tokens come twice and families die."""
    client = provider.registration()
    environment = plain_settings(client["token_endpoint"], client["client_id"], client["client_secret"])
    with gunicorn(PLAIN_APPLICATION, tmp_path, "--threads", "8", "--preload", **environment) as url:
        answers = wave(sign_in_everybody(url, provider), REQUESTS)
    assert provider.double_presentations()
    assert provider.families_revoked > 0
    assert 401 in {answer.status for answer in answers}
