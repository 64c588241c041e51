"""``flask tokenrotate …``: thin commands over plain functions."""

from __future__ import annotations

import click
from flask.cli import AppGroup, with_appcontext

from ..errors import TokenRotateError
from .addresses import callback_path
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
        current_state().maintenance.create_tables()
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
def print_new_key() -> None:
    """Print a new key for TOKENROTATE_ENCRYPTION_KEYS."""
    from ..maintenance import new_key

    click.echo(new_key())


@tokenrotate.command("rotate-keys")
@with_appcontext
def rotate_keys() -> None:
    """Encrypt all stored tokens with the first key, while the application runs.

    Give all workers both keys first, the new one in front, then run this; if it is stopped, run it again. A
    row that no key decrypts is named and left alone; the exit code is then 1.
    """
    try:
        # The second pass finds rows that another worker sealed with its own key in the meantime.
        first, second = current_state().maintenance.reseal(), current_state().maintenance.reseal()
    except TokenRotateError as error:
        raise _Failure(error) from error
    click.echo(f"{first.resealed} resealed, {first.skipped} skipped, {len(second.unreadable)} unreadable.")
    for each in second.unreadable:
        click.echo(f"grant {each.grant_id}: no configured key opens it; sealed with {each.sealed_with}")
    if second.resealed:
        raise click.ClickException(
            f"{second.resealed} more were sealed with another key meanwhile: a worker still has it in front. "
            "Restart all workers with the new key first, then run this again."
        )
    if second.unreadable:
        raise click.ClickException("Add the missing key to TOKENROTATE_ENCRYPTION_KEYS and run this again.")
    click.echo("The other keys may go once the sign-ins under way are over (TOKENROTATE_ATTEMPT_SECONDS).")


@tokenrotate.command("doctor")
@with_appcontext
def doctor() -> None:
    """Check keys, database, providers, sessions and addresses; exit code 1 when one of them fails."""
    from flask import current_app

    from .doctor import examine

    try:
        findings = list(examine(current_app._get_current_object(), current_state()))  # type: ignore[attr-defined]
    except TokenRotateError as error:
        raise _Failure(error) from error
    for finding in findings:
        click.echo(f"{finding.level:4}  {finding.check}: {finding.message}")
        if finding.cure:
            click.echo(f"      {finding.cure}")
    if any(finding.level == "fail" for finding in findings):
        raise click.exceptions.Exit(1)


@tokenrotate.command("urls")
@click.option("--base-url", help="Public origin, such as https://app.example.com.")
@with_appcontext
def urls(base_url: str | None) -> None:
    """Print the redirect_uri to register at each provider."""
    from flask import current_app

    try:
        state = current_state()
        origin = (base_url or state.settings.base_url or "http://127.0.0.1:5000").rstrip("/")
        with current_app.test_request_context():
            for name in state.provider_names():
                click.echo(f"{name}\t{origin}{callback_path(name)}")
    except TokenRotateError as error:
        raise _Failure(error) from error


@tokenrotate.command("history")
@click.argument("grant_id", metavar="GRANT")
@with_appcontext
def history(grant_id: str) -> None:
    """Print what became of each redemption of a grant, oldest first. Times are UTC."""
    try:
        redemptions = current_state().maintenance.history(grant_id)
    except TokenRotateError as error:
        raise _Failure(error) from error
    if not redemptions:
        raise click.ClickException(f"The ledger has no redemption of a grant {grant_id!r}.")
    for redemption in redemptions:
        click.echo(str(redemption))


@tokenrotate.command("verify")
@with_appcontext
def verify() -> None:
    """Audit the whole ledger; print each breach of the protocol and exit with 1 if there is one."""
    try:
        breaches = current_state().maintenance.breaches()
    except TokenRotateError as error:
        raise _Failure(error) from error
    for breach in breaches:
        click.echo(f"{breach.grant_id}: {breach.what}")
    if breaches:
        raise click.ClickException(f"The ledger shows {len(breaches)} breaches of the protocol.")
    click.echo("The ledger and the grants agree with the protocol.")


@tokenrotate.command("rescue")
@with_appcontext
def rescue() -> None:
    """Save the token sets that wait in rescue files; exit with 1 if one could not be."""
    try:
        saved, errors = current_state().rotation.unsaved.save_rescued()
    except TokenRotateError as error:
        raise _Failure(error) from error
    click.echo(f"{saved} rescued token sets were saved.")
    for failed in errors:
        click.echo(str(failed), err=True)
    if errors:
        raise click.ClickException(f"{len(errors)} rescued token sets could not be saved.")


@tokenrotate.command("prune-ledger")
@click.option(
    "--days", type=click.FloatRange(min=0), default=90.0, show_default=True, help="Age of what is kept."
)
@with_appcontext
def prune_ledger(days: float) -> None:
    """Delete old redemptions from the ledger; what the stored tokens depend on stays."""
    try:
        pruned = current_state().maintenance.prune_ledger(days=days)
    except TokenRotateError as error:
        raise _Failure(error) from error
    click.echo(f"{pruned} redemptions older than {days:g} days were deleted.")


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
