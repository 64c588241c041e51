"""One redemption for each expiry, and nobody waits who does not have to, whichever web server serves."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flask_tokenrotate.testing import FakeProvider
from tests.conftest import available
from tests.servers.rows import grant_row, set_remaining
from tests.servers.visitors import Visitor, at_once, eventually, wave
from tests.servers.web import PLAIN_APPLICATION, SERVERS, gunicorn, plain_settings, serving, settings

from .place import Place

SESSIONS = 4
REQUESTS = 12
AT_ONCE = 4
AHEAD = 200.0
"""Seconds that a token lives for which is fresh, but in the ahead window."""

SOON = 5.0
"""Seconds until a response is called late. None of those that are looked at takes a tenth of it."""

FROZEN = {"AWS_LAMBDA_FUNCTION_NAME": "shop"}
"""What says that a process gets no processor time between requests."""

WITHOUT_THREADS = ("uwsgi",)
WITH_THREADS = [name for name in SERVERS if name not in WITHOUT_THREADS]
UNUSUAL = ("gunicorn-preload", "uvicorn-asgiref", "uvicorn-a2wsgi", "uwsgi-threads", "uwsgi")


@contextmanager
def served(name: str, folder: Path, **environment: str) -> Iterator[Place]:
    """Serve the application by one server of `SERVERS`, with a strict provider."""
    database = f"sqlite:///{folder}/grants.sqlite3"
    with FakeProvider() as provider, ExitStack() as stack:
        variables = {**settings(database, {"fake": provider.registration()}), **environment}
        running = available(lambda: stack.enter_context(serving(name, folder, **variables)))
        yield Place(running.url, folder, database, provider)


def each_of(names: list[str]) -> list[object]:
    """Return parameters for the servers; the unusual ones are left to the long runs."""
    return [pytest.param(name, marks=pytest.mark.long if name in UNUSUAL else ()) for name in names]


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The application by the server that the test is parametrised with."""
    with served(request.param, tmp_path_factory.mktemp(request.param)) as place:
        yield place


def ahead(place: Place) -> tuple[Visitor, str]:
    """Return a visitor whose token is in the ahead window, and their grant."""
    visitor, grant = place.visitor("fake", expires_in=3600)
    set_remaining(place.database, grant, AHEAD)
    return visitor, grant


def get(connection: HTTPConnection, path: str, visitor: Visitor) -> int:
    """Send a request on the connection and return the status once the whole response is there."""
    connection.request("GET", path, headers={"Cookie": visitor.cookie})
    response = connection.getresponse()
    response.read()
    return response.status


def read_stream(place: Place, visitor: Visitor) -> bytes:
    """Return the body of an HTTP/1.0 response, which ends where its connection ends."""
    host, port = urlsplit(place.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=SOON) as connection:
        connection.sendall(f"GET /stream/fake HTTP/1.0\r\nCookie: {visitor.cookie}\r\n\r\n".encode())
        received = b""
        while more := connection.recv(4096):
            received += more
    return received.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("place", each_of(list(SERVERS)), indirect=True)
def test_a_storm_costs_one_redemption_for_each_session(place: Place, request: pytest.FixtureRequest) -> None:
    """Many requests of each session at once, in several processes: one redemption, and no error."""
    server = request.node.callspec.params["place"]
    place.provider.clear_log()
    place.provider.turn(response_seconds=0.1)
    visitors = [place.visitor("fake", user=f"user{number}")[0] for number in range(SESSIONS)]
    answers = wave(visitors, REQUESTS)
    place.provider.turn(response_seconds=0)
    assert Counter(answer.status for answer in answers) == {200: SESSIONS * REQUESTS}
    assert {answer.json["version"] for answer in answers} == {1}
    assert place.provider.redemptions() == SESSIONS
    assert place.provider.double_presentations() == {}
    if server == "gunicorn-sync":  # one that serves several at once may get all
        assert len({answer.json["pid"] for answer in answers}) > 1
    assert {answer.json["greenlets"] for answer in answers} == {server == "gunicorn-gevent"}
    found = [answer.json["rotation_threads"] for answer in answers if answer.json["origin"] == "rotated"]
    assert all(found) is (server not in WITHOUT_THREADS)


@pytest.mark.parametrize("place", each_of(WITH_THREADS), indirect=True)
def test_nobody_waits_for_a_rotation_ahead(place: Place) -> None:
    """While the provider holds its response: the connection, the stream and all workers go on."""
    place.provider.clear_log()
    (first, *_), (second, *_) = visitors = [ahead(place), ahead(place)]
    with (
        closing(HTTPConnection(urlsplit(place.url).netloc, timeout=SOON)) as connection,
        place.provider.hold("received") as gate,
    ):
        assert get(connection, "/token/fake", first) == 200
        gate.wait_for(1)
        assert get(connection, "/process", first) == 200
        assert get(connection, "/token/fake", first) == 200
        assert b"2\n" in read_stream(place, second)
        gate.wait_for(2)
        pages = at_once([lambda: first.get("/process").status] * AT_ONCE)
        assert pages == [200] * AT_ONCE
        assert place.provider.redemptions() == 0
    for _, grant in visitors:
        eventually(lambda grant=grant: grant_row(place.database, grant).token_version == 1)
    assert place.provider.outcomes() == {"rotated": 2}


@pytest.mark.parametrize(
    ("server", "environment"),
    [("gunicorn-gthread", FROZEN), pytest.param("uwsgi", {}, marks=pytest.mark.long)],
    ids=["frozen", "uwsgi"],
)
def test_where_threads_cannot_run_nothing_is_left_to_them(
    server: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """A rotation ahead comes after its response and before the next request, an awaited one inside it."""
    with ExitStack() as stack:
        place = stack.enter_context(served(server, tmp_path, **environment))
        expired, _ = place.visitor("fake")
        answer = expired.get("/token/fake")
        assert (answer.json["version"], answer.json["rotation_threads"]) == (1, 0)
        visitor, grant = ahead(place)
        connection = stack.enter_context(closing(HTTPConnection(urlsplit(place.url).netloc, timeout=1.0)))
        with place.provider.hold("received") as gate:
            assert get(connection, "/token/fake", visitor) == 200
            gate.wait_for(1)
            # The control of the test above: it would see a connection that waits.
            with pytest.raises(TimeoutError):
                get(connection, "/process", visitor)
        eventually(lambda: grant_row(place.database, grant).token_version == 1)
        assert place.provider.outcomes() == {"rotated": 2}


def test_the_same_storm_loses_sessions_without_the_extension(tmp_path: Path) -> None:
    """The control: where each request refreshes for itself, tokens come twice and families die."""
    with FakeProvider(response_seconds=0.1) as provider:
        client = provider.registration()
        environment = plain_settings(client["token_endpoint"], client["client_id"], client["client_secret"])
        with gunicorn(PLAIN_APPLICATION, tmp_path, "--threads", "8", "--preload", **environment) as url:
            visitors = [Visitor(url) for _ in range(SESSIONS)]
            for number, visitor in enumerate(visitors):
                visitor.sign_in(provider.mint(f"user{number}", expires_in=-1))
            answers = wave(visitors, REQUESTS)
        assert provider.double_presentations()
        assert provider.families_revoked > 0
        assert 401 in {answer.status for answer in answers}
