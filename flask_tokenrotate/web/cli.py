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


@tokenrotate.command("sweep")
@with_appcontext
def sweep() -> None:
    """Delete expired sessions and sign-in attempts; meant for cron, once a day."""
    try:
        for prune in current_state().prune:
            prune()
    except TokenRotateError as error:
        raise _Failure(error) from error
    click.echo("Expired sessions and sign-in attempts are deleted.")


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


@tokenrotate.command(
    "fake-provider",
    with_appcontext=False,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def fake_provider(options: tuple[str, ...]) -> None:
    """Run a strict authorization server to develop against; --help lists its options.

    It needs no account and no application.
    """
    from ..testing.provider.command import main

    main(options, prog="flask tokenrotate fake-provider")
