"""The application of the fault table: that of `tests.servers`, with steps at which a worker can be halted."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask

from flask_tokenrotate.rotation import breaker, holding
from flask_tokenrotate.storage.database import transactions, urls
from tests.servers import application

from .bench import RESPONSE_SECONDS
from .steps import CuttableConnection, Halts, install_dns


def create_app() -> Flask:
    """Return the application; see `tests.servers.application.create_app` for its environment."""
    folder = Path(os.environ["INSTANCE"])
    halts = Halts(folder)
    halts.install()
    install_dns(folder)
    CuttableConnection.folder = folder
    # Each cell lets a grant fail; this is not the test of what many failing ones bring about.
    breaker.FAILING_GRANTS = 1_000_000
    # A minute for each cell in which a provider hangs would be long.
    holding.RESPONSE_SECONDS = RESPONSE_SECONDS
    # A locked SQLite file must not delay a request for longer than a server that is away.
    transactions.KEEP_TRYING_SECONDS = 0.5
    sqlite = {"pysqlite": {"timeout": 0.2, "factory": CuttableConnection}}
    urls._CONNECT_DEFAULTS = {**urls._CONNECT_DEFAULTS, **sqlite}
    app = application.create_app()
    app.after_request(halts.before_response)
    app.extensions["after_response"] = halts.after_response
    app.add_url_rule("/expire/<grant>", "expire", expire, methods=["POST"])
    return app


def expire(grant: str) -> dict[str, str]:
    """Let the grant's access token count as expired, in all workers: they keep nothing in memory."""
    application.rotate.expire(grant)
    return {}
