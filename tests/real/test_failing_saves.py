"""A token set that the database does not take: the request is served, and nothing is lost.

A locked SQLite file, a full or read-only disk and a place for rescue files that cannot be used, each with the
control that forgets what could not be saved.
"""

from __future__ import annotations

import logging
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine, event

from flask_tokenrotate import TokenRotate, current_token, require_fresh_token
from flask_tokenrotate.rotation.unsaved import UnsavedTokenSets
from flask_tokenrotate.storage.database import transactions
from flask_tokenrotate.testing import FakeProvider
from tests.conftest import available
from tests.servers import Unavailable

pytestmark = pytest.mark.long

Trouble = Callable[["Place"], AbstractContextManager[None]]


class Place:
    """An application on an SQLite file, and its provider."""

    def __init__(self, folder: Path, provider: FakeProvider) -> None:
        self.folder = folder
        self.provider = provider
        self.disk = folder / "disk"
        self.file = self.disk / "grants.sqlite3"
        self.engines: list[Engine] = []

    def app(self, rescue: str = "rescue") -> Flask:
        """Return a new application, as another process would have it."""
        engine = create_engine(f"sqlite:///{self.file}", connect_args={"timeout": 0.1})
        event.listen(engine, "connect", _write_ahead)
        self.engines.append(engine)
        app = Flask(__name__, instance_path=str(self.folder))
        app.testing = True
        app.config.update(SECRET_KEY="a-secret-key-for-the-tests", TOKENROTATE_RESCUE_DIR=rescue)
        app.config["TOKENROTATE_CACHE_SECONDS"] = 0
        rotate = TokenRotate(app, engine=engine)
        rotate.register("fake", **self.provider.registration())

        @app.get("/in")
        def sign_in() -> str:
            return rotate.adopt("fake", self.provider.mint(expires_in=-1), user_id="alice").id

        @app.get("/token")
        @require_fresh_token("fake")
        def token() -> str:
            return str(current_token.token_version)

        return app

    @property
    def rescued(self) -> list[Path]:
        """The rescue files."""
        return [path for path in (self.folder / "rescue").glob("*") if path.is_file()]


def _write_ahead(connection: Any, record: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place whose database is on a small disk of its own; nobody waits long for a lock."""
    monkeypatch.setattr(transactions, "KEEP_TRYING_SECONDS", 0.2)
    disk = tmp_path / "disk"
    disk.mkdir()
    available(lambda: _mount(disk))
    try:
        with FakeProvider() as provider:
            place = Place(tmp_path, provider)
            yield place
            for engine in place.engines:
                engine.dispose()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _mount(disk: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"a small disk cannot be mounted: {done.stderr.strip()}")


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Let somebody else write to the file all the time."""
    with closing(sqlite3.connect(place.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def full(place: Place) -> Iterator[None]:
    """Let the disk be full to its last byte."""
    with closing(sqlite3.connect(place.file, isolation_level=None)) as other:
        # What the log of writes has taken already could be used again.
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    filler = place.disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as rest:
        while True:
            rest.write(bytes(1024))
    yield
    filler.unlink()


@contextmanager
def read_only(place: Place) -> Iterator[None]:
    """Let the disk be mounted so that nothing on it can be changed."""
    # A disk with a file that is open for writing is busy; a redemption holds no connection, so all close.
    for engine in place.engines:
        engine.dispose()
    _remount(place.disk, "ro")
    yield
    _remount(place.disk, "rw")


def _remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


TROUBLES = {"locked": locked, "full": full, "read-only": read_only}


def rotate_in_trouble(place: Place, browser: FlaskClient, trouble: Trouble) -> str:
    """Let trouble begin between the provider's answer and the save; return what the request gets."""
    with place.provider.hold("processed") as gate, ThreadPoolExecutor() as threads:
        answer = threads.submit(browser.get, "/token")
        gate.wait_for(1)
        with trouble(place):
            gate.open()
            return str(answer.result().text)


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_the_request_is_served_and_the_token_set_saved_later(
    place: Place, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits in memory and in a rescue file, the log says why, and the next request saves it."""
    browser = place.app().test_client()
    browser.get("/in")
    with caplog.at_level(logging.ERROR, "flask_tokenrotate"):
        assert rotate_in_trouble(place, browser, trouble) == "1"
    assert "could not be saved yet" in caplog.text
    assert "StoreUnavailable" in caplog.text
    assert len(place.rescued) == 1
    assert browser.get("/token").text == "1"
    assert place.rescued == []
    assert place.provider.outcomes()["rotated"] == 1


def test_without_a_place_for_rescue_files_it_is_kept_in_memory(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """That is logged by name too, and the next request of this process saves it."""
    (place.folder / "no-folder").touch()
    browser = place.app(rescue="no-folder").test_client()
    browser.get("/in")
    assert rotate_in_trouble(place, browser, locked) == "1"
    assert "RescueFailed" in caplog.text
    assert browser.get("/token").text == "1"
    assert place.provider.outcomes()["rotated"] == 1


def test_the_command_saves_what_another_process_put_aside_and_only_once(place: Place) -> None:
    """`flask tokenrotate rescue` finds one token set, then none; nothing is redeemed again."""
    browser = place.app().test_client()
    browser.get("/in")
    rotate_in_trouble(place, browser, locked)
    runner = place.app().test_cli_runner()
    first, second = (runner.invoke(args=["tokenrotate", "rescue"]) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.output.split()[0] != second.output.split()[0]
    assert place.rescued == []
    assert browser.get("/token").text == "1"
    assert place.provider.outcomes()["rotated"] == 1


@pytest.mark.parametrize("trouble", [full, read_only])
def test_a_disk_that_has_the_rescue_files_as_well(
    place: Place, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither takes the token set; both errors are named, and it waits in memory."""
    browser = place.app(rescue="disk/rescue").test_client()
    browser.get("/in")
    assert rotate_in_trouble(place, browser, trouble) == "1"
    assert "StoreUnavailable" in caplog.text
    assert "RescueFailed" in caplog.text
    assert browser.get("/token").text == "1"
    assert place.provider.outcomes()["rotated"] == 1


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_what_is_forgotten_costs_the_session(
    place: Place, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the row still has the refresh token that is spent."""
    monkeypatch.setattr(UnsavedTokenSets, "_put_aside", lambda *_: None)
    monkeypatch.setattr(UnsavedTokenSets, "_keep", lambda *_: None)
    app = place.app()
    app.config["PROPAGATE_EXCEPTIONS"] = False
    browser = app.test_client()
    browser.get("/in")
    rotate_in_trouble(place, browser, trouble)
    # As another process sees it, once the claim is over.
    with closing(sqlite3.connect(place.file)) as other:
        other.execute("UPDATE tokenrotate_grants SET claim_deadline = claim_deadline - 60")
        other.commit()
    late = place.app().test_client()
    late.set_cookie("session", browser.get_cookie("session").value)
    assert late.get("/token", headers={"Accept": "application/json"}).status_code == 401
    assert place.provider.outcomes()["reused"] == 1
