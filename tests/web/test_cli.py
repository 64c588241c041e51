"""``flask tokenrotate …``."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys

import pytest
import requests
from flask import Flask

from .conftest import MakeApp


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


@pytest.mark.parametrize("command", ["create-tables", "urls"])
def test_an_application_without_the_extension(command: str) -> None:
    """The group exists there too (it is an entry point) and says what is missing."""
    app = Flask("plain")
    from flask_tokenrotate.web.cli import tokenrotate

    app.cli.add_command(tokenrotate)
    result = app.test_cli_runner().invoke(args=["tokenrotate", command])
    assert result.exit_code == 1
    assert "rotate.init_app(app)" in result.output
