"""Serves an application in processes of its own, by each web server that applications are deployed on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .processes import ROOT, ServerProcess, Unavailable, find_binary, free_port
from .visitors import ask

APPLICATION = "tests.servers.application:create_app()"
PLAIN_APPLICATION = "tests.servers.plain_application:create_app()"
_CONFIG = Path(__file__).with_name("gunicorn_config.py")
_THREADS = "8"


@dataclass(frozen=True)
class Running:
    """A web server that serves: its address, and the process that was started."""

    url: str
    process: ServerProcess


@contextmanager
def gunicorn(
    application: str,
    folder: Path,
    *options: str,
    port: int = 0,
    workers: int = 2,
    **environment: str,
) -> Iterator[str]:
    """Serve ``application`` (``module:callable``) and yield its URL once every worker serves.

    ``folder`` takes the log (``gunicorn.log``) and the application's files; each server needs its own.
    ``environment`` is set for the server's processes. Raises `Unavailable` when it does not start.
    """
    with gunicorn_process(
        application, folder, *options, port=port, workers=workers, **environment
    ) as running:
        yield running.url


@contextmanager
def gunicorn_process(
    application: str,
    folder: Path,
    *options: str,
    port: int = 0,
    workers: int = 2,
    **environment: str,
) -> Iterator[Running]:
    """Serve as `gunicorn` does, and yield the server with its first process, to which signals are sent."""
    port = port or free_port()
    command = [sys.executable, "-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}"]
    command += ["--chdir", str(ROOT), "--config", str(_CONFIG)]
    command += ["--worker-tmp-dir", str(folder), "--workers", str(workers), *options]
    for name, value in {"INSTANCE": str(folder), **environment}.items():
        command += ["--env", f"{name}={value}"]
    for left_over in folder.glob("worker-*"):
        left_over.unlink()
    server = ServerProcess(None, command, folder / "gunicorn.log")
    server.wait_until(lambda: len(list(folder.glob("worker-*"))) == workers)
    try:
        yield Running(f"http://127.0.0.1:{port}", server)
    finally:
        # gunicorn's own way to stop takes seconds, and no test needs what it does in them.
        server.kill_group()


def _gunicorn(*options: str) -> Callable[[int], list[str]]:
    # A keep-alive connection is what is looked at here; the other tests switch it off.
    more = ["--config", str(_CONFIG), "--keep-alive", "5", "--workers", "2", *options]
    return lambda port: [
        sys.executable,
        *("-m", "gunicorn", "tests.servers.serving:wsgi", "--bind", f"127.0.0.1:{port}"),
        *more,
    ]


def _waitress(port: int) -> list[str]:
    _need("waitress")
    options = [f"--listen=127.0.0.1:{port}", f"--threads={_THREADS}"]
    return [sys.executable, "-m", "waitress", *options, "tests.servers.serving:wsgi"]


def _uvicorn(name: str) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        _need("uvicorn", "asgiref", "a2wsgi")
        options = ["--port", str(port), "--log-level", "warning", "--workers", "2"]
        return [sys.executable, "-m", "uvicorn", f"tests.servers.serving:{name}", *options]

    return command


def _uwsgi(*options: str) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        binary = find_binary("uwsgi", str(Path(sys.executable).parent))
        fixed = ["--http11-socket", f"127.0.0.1:{port}", "--master", "--processes", "2", "--die-on-term"]
        return [binary, *fixed, "--need-app", "--module", "tests.servers.serving:wsgi", *options]

    return command


def _need(*modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            raise Unavailable(f"{module} is not installed")


SERVERS: Mapping[str, Callable[[int], Sequence[str]]] = {
    "gunicorn-sync": _gunicorn("--worker-class", "sync"),
    "gunicorn-gthread": _gunicorn("--threads", _THREADS),
    "gunicorn-gevent": _gunicorn("--worker-class", "gevent"),
    "gunicorn-preload": _gunicorn("--threads", _THREADS, "--preload"),
    "waitress": _waitress,
    "uvicorn-asgiref": _uvicorn("asgiref_app"),
    "uvicorn-a2wsgi": _uvicorn("a2wsgi_app"),
    "uwsgi-threads": _uwsgi("--enable-threads"),
    "uwsgi": _uwsgi(),
}
"""Each server's command line, by its name, for a port. The application comes from `serving`."""


@contextmanager
def serving(name: str, folder: Path, **environment: str) -> Iterator[Running]:
    """Serve `application` by the server ``name`` of `SERVERS`; otherwise as `gunicorn_process`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {**os.environ, "INSTANCE": str(folder), "PYTHONPATH": str(ROOT), **environment}
    server = ServerProcess(None, SERVERS[name](port), folder / "server.log", environment=variables)
    server.wait_until(lambda: ask(f"{url}/process").status == 200)
    try:
        yield Running(url, server)
    finally:
        server.kill_group()


def settings(database: str, providers: Mapping[str, Any], **settings: object) -> dict[str, str]:
    """Return the environment of `application`; ``claim_seconds=2`` is TOKENROTATE_CLAIM_SECONDS."""
    return {
        "FLASK_SECRET_KEY": "a-secret-key-for-the-tests",
        "FLASK_TOKENROTATE_DATABASE_URI": database,
        "FLASK_TOKENROTATE_PROVIDERS": json.dumps(providers),
        **{f"FLASK_TOKENROTATE_{name.upper()}": str(value) for name, value in settings.items()},
    }


def plain_settings(token_endpoint: str, client_id: str, client_secret: str) -> dict[str, str]:
    """Return the environment of `plain_application`."""
    return {
        "TOKEN_ENDPOINT": token_endpoint,
        "CLIENT_ID": client_id,
        "CLIENT_SECRET": client_secret,
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
    }
