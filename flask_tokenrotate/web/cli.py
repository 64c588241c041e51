"""``flask tokenrotate …``: thin commands over plain functions."""

from __future__ import annotations

import click
from flask.cli import AppGroup, with_appcontext

from ..errors import TokenRotateError
from .addresses import callback_url
from .state import current_state

tokenrotate = AppGroup("tokenrotate", help="Keep OAuth 2 tokens fresh (Flask-TokenRotate).")


class _Failure(click.ClickException):
    """One of our errors, shown without a traceback; the exit code is 1."""

    def __init__(self, error: TokenRotateError) -> None:
        super().__init__(str(error))


@tokenrotate.command("create-tables")
@with_appcontext
def create_tables() -> None:
    """Create the extension's tables in its database; harmless where they exist."""
    try:
        current_state().create_tables()
    except TokenRotateError as error:
        raise _Failure(error) from error
    click.echo("The tables of Flask-TokenRotate exist.")


@tokenrotate.command("new-key", with_appcontext=False)
def new_key() -> None:
    """Print a new key for TOKENROTATE_ENCRYPTION_KEYS."""
    from ..storage.sealing import new_key as make_key

    click.echo(make_key())


@tokenrotate.command("urls")
@click.option("--base-url", help="Public origin, such as https://app.example.com.")
@with_appcontext
def urls(base_url: str | None) -> None:
    """Print the redirect_uri to register at each provider."""
    from flask import current_app

    try:
        state = current_state()
        origin = base_url or state.settings.base_url or "http://127.0.0.1:5000"
        with current_app.test_request_context(base_url=origin):
            for name in state.provider_names():
                click.echo(f"{name}\t{callback_url(state, name)}")
    except TokenRotateError as error:
        raise _Failure(error) from error


@tokenrotate.command("fake-provider", with_appcontext=False)
@click.option("--port", type=int, default=9400, show_default=True, help="Port on 127.0.0.1.")
@click.option("--lifetime", type=float, default=3600.0, show_default=True, help="Access token, seconds.")
@click.option("--answer-seconds", type=float, default=0.0, help="How long the token endpoint thinks.")
@click.option("--grace-seconds", type=float, default=0.0, help="How long a spent refresh token works.")
def fake_provider(port: int, lifetime: float, answer_seconds: float, grace_seconds: float) -> None:
    """Run a strict authorization server to develop against; it needs no account and no application."""
    from ..testing.provider import serve

    serve(port, lifetime=lifetime, answer_seconds=answer_seconds, grace_seconds=grace_seconds)
