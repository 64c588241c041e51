"""Sessions that the application keeps in Redis, by Flask-Session."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from flask_tokenrotate.testing import FakeProvider
from tests.servers.visitors import Visitor, wave
from tests.servers.web import APPLICATION, gunicorn, settings

pytestmark = pytest.mark.engine


@pytest.fixture
def prefix(redis_url: str) -> Iterator[str]:
    """The beginning of this test's keys in Redis; they are deleted after it."""
    prefix = f"tokenrotate-test-{secrets.token_hex(4)}:"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{prefix}*"):
            client.delete(key)


def test_a_session_in_redis_serves_every_worker(
    provider: FakeProvider, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    """The sessions of Flask-Session are used as they are: grant ids in them, no token, nothing beside."""
    tokens = provider.mint(expires_in=-1)
    environment = settings(f"sqlite:///{tmp_path}/grants.sqlite3", {"fake": provider.registration()})
    environment |= {"REDIS": redis_url, "FLASK_SESSION_KEY_PREFIX": prefix}
    options = ["--threads", "8", "--worker-connections", "12"]  # one worker cannot take all of the wave
    with gunicorn(APPLICATION, tmp_path, *options, **environment) as url:
        visitor = Visitor(url)
        grant = visitor.sign_in(tokens)
        answers = wave([visitor], 32)
        with redis.Redis.from_url(redis_url) as client:
            sessions = [client.get(key) for key in client.scan_iter(f"{prefix}*")]
        assert visitor.post("/auth/fake/logout").status == 204
        assert visitor.get("/token/fake").status == 401
    assert [answer.status for answer in answers] == [200] * 32
    assert len({answer.json["pid"] for answer in answers}) > 1
    assert provider.redemptions() == 1
    assert [grant.encode() in session for session in sessions if session] == [True]
    assert not any(b"fake-access" in session or b"fake-refresh" in session for session in sessions if session)
    with closing(sqlite3.connect(tmp_path / "grants.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM tokenrotate_sessions").fetchone() == (0,)
