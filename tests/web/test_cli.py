"""``flask tokenrotate …``."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import requests
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from flask_tokenrotate import TokenRotate
from flask_tokenrotate.errors import StoreUnavailable
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.operations.reseal import Resealed
from flask_tokenrotate.storage.sealed.sealing import sealer_from

from .conftest import MakeApp, database_of


def test_create_tables(make_app: MakeApp, database: str) -> None:
    """It creates the tables on each engine, and again harmlessly."""
    app, _ = make_app(TOKENROTATE_DATABASE_URI=database)
    runner = app.test_cli_runner()
    for _ in range(2):
        result = runner.invoke(args=["tokenrotate", "create-tables"])
        assert result.exit_code == 0, result.output
    with app.app_context():
        assert app.extensions["tokenrotate"].grants.load("nothing") is None


def test_create_tables_without_a_server(make_app: MakeApp) -> None:
    """A database that is away is one line and exit code 1, not a traceback, and no password."""
    app, _ = make_app(TOKENROTATE_DATABASE_URI="postgresql://u:canary-password@127.0.0.1:1/none")
    result = app.test_cli_runner().invoke(args=["tokenrotate", "create-tables"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: The grant database")
    assert "canary-password" not in result.output


def test_new_key_is_a_key(make_app: MakeApp, app: Flask) -> None:
    """Each call prints another key that the setting takes."""
    runner = app.test_cli_runner()
    keys = [runner.invoke(args=["tokenrotate", "new-key"]).output.strip() for _ in range(2)]
    assert keys[0] != keys[1]
    assert {len(base64.urlsafe_b64decode(key)) for key in keys} == {32}
    make_app(TOKENROTATE_ENCRYPTION_KEYS=keys)


def test_urls(make_app: MakeApp) -> None:
    """It prints what to register at the provider."""
    app, _ = make_app(TOKENROTATE_BASE_URL="https://app.example.com")
    result = app.test_cli_runner().invoke(args=["tokenrotate", "urls"])
    assert result.output == "fake\thttps://app.example.com/auth/fake/callback\n"


def test_the_ledger_on_the_command_line(app: Flask, client: FlaskClient, sign_in: Any) -> None:
    """A rotation is printed without its tokens; the audit passes it, and finds a planted breach."""
    sign_in(client)
    grant_id = client.get("/me").json["grant"]
    with app.app_context():
        TokenRotate().expire(grant_id)
    assert client.get("/me").json["version"] == 1
    runner = app.test_cli_runner()
    told = runner.invoke(args=["tokenrotate", "history", grant_id])
    assert re.fullmatch(
        r"[\d-]+ [\d:.]+\+00:00  version 1: \S+ redeems version 0 \(first redemption\)"
        r" -> rotated \(HTTP 200\) \d\.\d{3} s later\n",
        told.output,
    )
    verified = runner.invoke(args=["tokenrotate", "verify"])
    assert (verified.exit_code, verified.output) == (
        0,
        "The ledger and the grants agree with the protocol.\n",
    )
    with database_of(app).connect() as connection:
        connection.exec_driver_sql("UPDATE tokenrotate_redemptions SET verdict = 'busy'")
    verified = runner.invoke(args=["tokenrotate", "verify"])
    assert verified.exit_code == 1
    assert f"{grant_id}: the slot of claim" in verified.output
    pruned = runner.invoke(args=["tokenrotate", "prune-ledger", "--days", "30"])
    assert (pruned.exit_code, pruned.output) == (0, "0 redemptions older than 30 days were deleted.\n")


def test_rescue_on_the_command_line(app: Flask, client: FlaskClient, sign_in: Any) -> None:
    """The command saves what is in the instance folder; a file that no key decrypts makes the exit code 1."""
    sign_in(client)
    grant_id = client.get("/me").json["grant"]
    runner = app.test_cli_runner()
    state = app.extensions["tokenrotate"]
    with app.app_context():
        TokenRotate().expire(grant_id)

        def away(*_: Any, **__: Any) -> None:
            raise StoreUnavailable("the database is away")

        with patch.object(SqlGrantStore, "save", away):
            assert state.rotation.tokens.get(grant_id, here=True).token_version == 1
        assert state.grants.load(grant_id).token_version == 0
    folder = Path(app.instance_path, "tokenrotate-rescue")
    (file,) = folder.iterdir()
    saved = runner.invoke(args=["tokenrotate", "rescue"])
    assert (saved.exit_code, saved.output) == (0, "1 rescued token sets were saved.\n")
    assert state.grants.load(grant_id).token_version == 1
    assert list(folder.iterdir()) == []
    file.write_bytes(b"not encrypted")
    failed = runner.invoke(args=["tokenrotate", "rescue"])
    assert failed.exit_code == 1
    assert str(file) in failed.output
    assert file.exists()


def test_a_grant_without_redemptions_has_no_history(app: Flask) -> None:
    """An id that the ledger does not know is an error, not an empty story."""
    result = app.test_cli_runner().invoke(args=["tokenrotate", "history", "unknown"])
    assert result.exit_code == 1
    assert "'unknown'" in result.output


def test_fake_provider_runs_without_an_application() -> None:
    """The command needs no application, serves on the port, and ends on SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flask", "tokenrotate", "fake-provider", "--port", str(port)]
    env = {name: value for name, value in os.environ.items() if name != "FLASK_APP"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert str(port) in ready
        metadata = f"http://127.0.0.1:{port}/.well-known/oauth-authorization-server"
        assert requests.get(metadata, timeout=5).json()["issuer"] == f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stdout is not None
        process.stdout.close()


KEYS = [base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2)]


class TestRotateKeys:
    """The command over `storage.operations.reseal`, whose own tests run on each engine."""

    @pytest.fixture
    def adopted(self, make_app: MakeApp) -> str:
        """A grant encrypted with the old key; its id."""
        app, rotate = make_app(TOKENROTATE_ENCRYPTION_KEYS=KEYS[0])
        with app.app_context():
            return rotate.adopt("fake", {"access_token": "canary-access"}, user_id="ada").id

    def run(self, make_app: MakeApp, *keys: str) -> Result:
        """Run the command in an application with ``keys``."""
        app, _ = make_app(TOKENROTATE_ENCRYPTION_KEYS=keys)
        return app.test_cli_runner().invoke(args=["tokenrotate", "rotate-keys"])

    def test_it_tells_what_it_did(self, make_app: MakeApp, adopted: str) -> None:
        """It counts the rows, and afterwards an application with only the new key decrypts them."""
        for counts in ("1 resealed, 0 skipped, 0 unreadable.", "0 resealed, 1 skipped, 0 unreadable."):
            result = self.run(make_app, KEYS[1], KEYS[0])
            assert result.exit_code == 0, result.output
            assert counts in result.output
        app, rotate = make_app(TOKENROTATE_ENCRYPTION_KEYS=KEYS[1])
        with app.app_context():
            assert rotate.grant(adopted) is not None

    def test_an_unreadable_row_is_named_and_fails_the_command(self, make_app: MakeApp, adopted: str) -> None:
        """The exit code is 1; grant and fingerprint are shown, neither token nor key."""
        fingerprint = sealer_from([KEYS[0]], None).fingerprints[0]
        result = self.run(make_app, KEYS[1])
        assert result.exit_code == 1
        expected = f"grant {adopted}: no configured key decrypts it; encrypted with {fingerprint}"
        assert expected in result.output
        assert not any(secret in result.output for secret in ("canary-access", *KEYS))

    def test_a_worker_with_the_old_key_in_front_is_noticed(self, make_app: MakeApp, adopted: str) -> None:
        """Rows that are encrypted with another key during the run fail the command, which says why."""
        app, _ = make_app(TOKENROTATE_ENCRYPTION_KEYS=[KEYS[1], KEYS[0]])
        state = app.extensions["tokenrotate"]
        maintenance = state.maintenance
        reseal_all, old = maintenance.reseal, make_app(TOKENROTATE_ENCRYPTION_KEYS=[KEYS[0], KEYS[1]])[0]

        def reseal_while_the_old_worker_is_at_it() -> Resealed:
            done = reseal_all()
            old.extensions["tokenrotate"].maintenance.reseal()
            return done

        maintenance.reseal = reseal_while_the_old_worker_is_at_it
        result = app.test_cli_runner().invoke(args=["tokenrotate", "rotate-keys"])
        assert result.exit_code == 1
        assert "Restart all workers with the new key" in result.output


@pytest.mark.parametrize(
    "command", ["create-tables", "urls", "rotate-keys", "history x", "verify", "rescue", "prune-ledger"]
)
def test_an_application_without_the_extension(command: str) -> None:
    """The group exists there too (it is an entry point) and says what is missing."""
    app = Flask("plain")
    from flask_tokenrotate.web.cli import tokenrotate

    app.cli.add_command(tokenrotate)
    result = app.test_cli_runner().invoke(args=["tokenrotate", *command.split()])
    assert result.exit_code == 1
    assert "rotate.init_app(app)" in result.output
