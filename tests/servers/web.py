"""Serves an application in processes of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .processes import ROOT, ServerProcess, free_port

APPLICATION = "tests.servers.application:create_app()"
PLAIN_APPLICATION = "tests.servers.plain_application:create_app()"
_CONFIG = Path(__file__).with_name("gunicorn_config.py")


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
    port = port or free_port()
    command = [sys.executable, "-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}"]
    command += ["--chdir", str(ROOT), "--config", str(_CONFIG)]
    command += ["--worker-tmp-dir", str(folder), "--workers", str(workers), *options]
    for name, value in {"INSTANCE": str(folder), **environment}.items():
        command += ["--env", f"{name}={value}"]
    server = ServerProcess(None, command, folder / "gunicorn.log")
    server.wait_until(lambda: len(list(folder.glob("worker-*"))) == workers)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        # gunicorn's own way to stop takes seconds, and no test needs what it does in them.
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
