"""The commands ``flask tokenrotate …``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import AppGroup

from ..errors import TokenRotateError
from .state import current_app_object, current_state
from .urls import callback_path

if TYPE_CHECKING:
    from ..maintenance import Maintenance


class _Commands(AppGroup):
    """The group of the commands. It shows our errors without a traceback; the exit code is then 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TokenRotateError as error:
            raise click.ClickException(str(error)) from error


def _maintenance_of_grants() -> Maintenance:
    """Return the operations on the grants; a `ClickException` if they are in a store of the application."""
    state = current_state()
    if state.joined_grants is None:
        raise click.ClickException(
            "The grants are in the store that was passed as TokenRotate(store=…). This command works on the "
            "extension's own database only."
        )
    return state.maintenance


tokenrotate = _Commands("tokenrotate", help="Keep OAuth 2 tokens fresh (Flask-TokenRotate).")


@tokenrotate.command("create-tables")
def create_tables() -> None:
    """Create the extension's tables in its database; tables that exist are not changed."""
    current_state().maintenance.create_tables()
    click.echo("The tables of Flask-TokenRotate exist.")


@tokenrotate.command("sweep")
def sweep() -> None:
    """Delete expired sessions and sign-in attempts. Run it once a day, from cron."""
    for prune in current_state().prune:
        prune()
    click.echo("Expired sessions and sign-in attempts are deleted.")


@tokenrotate.command("new-key", with_appcontext=False)
def print_new_key() -> None:
    """Print a new key for TOKENROTATE_ENCRYPTION_KEYS."""
    from ..maintenance import new_key

    click.echo(new_key())


@tokenrotate.command("rotate-keys")
def rotate_keys() -> None:
    """Encrypt all stored tokens with the first key, while the application runs.

    Give all workers both keys first, the new one in front, then run this. If it is stopped, run it again. A
    row that no key decrypts is printed and not changed; the exit code is then 1.
    """
    maintenance = _maintenance_of_grants()
    # The second pass finds rows that another worker encrypted with its own key in the meantime.
    first, second = maintenance.reseal(), maintenance.reseal()
    click.echo(f"{first.resealed} resealed, {first.skipped} skipped, {len(second.unreadable)} unreadable.")
    for each in second.unreadable:
        click.echo(f"grant {each.grant_id}: no configured key decrypts it; encrypted with {each.sealed_with}")
    if second.resealed:
        raise click.ClickException(
            f"{second.resealed} more were encrypted with another key in the meantime: a worker still has "
            "that key in front. Restart all workers with the new key first, then run this again."
        )
    if second.unreadable:
        raise click.ClickException("Add the missing key to TOKENROTATE_ENCRYPTION_KEYS and run this again.")
    click.echo(
        "Remove the other keys when the sign-ins in progress have ended (TOKENROTATE_ATTEMPT_SECONDS)."
    )


@tokenrotate.command("doctor")
def doctor() -> None:
    """Check keys, database, providers, sessions and URLs; the exit code is 1 when a check fails."""
    from .doctor import examine

    findings = list(examine(current_app_object(), current_state()))
    for finding in findings:
        click.echo(f"{finding.level:4}  {finding.check}: {finding.message}")
        if finding.cure:
            click.echo(f"      {finding.cure}")
    if any(finding.level == "fail" for finding in findings):
        raise click.exceptions.Exit(1)


@tokenrotate.command("urls")
@click.option("--base-url", help="Public origin, such as https://app.example.com.")
def urls(base_url: str | None) -> None:
    """Print the redirect_uri to register at each provider."""
    state = current_state()
    origin = (base_url or state.settings.base_url or "http://127.0.0.1:5000").rstrip("/")
    with current_app.test_request_context():
        for name in state.provider_names():
            click.echo(f"{name}\t{origin}{callback_path(name)}")


@tokenrotate.command("history")
@click.argument("grant_id", metavar="GRANT")
def history(grant_id: str) -> None:
    """Print each redemption of a grant with its outcome, oldest first. Times are in UTC."""
    redemptions = _maintenance_of_grants().history(grant_id)
    if not redemptions:
        raise click.ClickException(f"The ledger has no redemption of a grant {grant_id!r}.")
    for redemption in redemptions:
        click.echo(str(redemption))


@tokenrotate.command("verify")
def verify() -> None:
    """Audit the whole ledger; print each breach of the protocol. The exit code is 1 if there is one."""
    breaches = _maintenance_of_grants().breaches()
    for breach in breaches:
        click.echo(f"{breach.grant_id}: {breach.what}")
    if breaches:
        raise click.ClickException(f"The ledger shows {len(breaches)} breaches of the protocol.")
    click.echo("The ledger and the grants agree with the protocol.")


@tokenrotate.command("rescue")
def rescue() -> None:
    """Save the token sets that are in rescue files; the exit code is 1 if one could not be saved."""
    saved, errors = current_state().rotation.unsaved.save_rescued()
    click.echo(f"{saved} rescued token sets were saved.")
    for error in errors:
        click.echo(str(error), err=True)
    if errors:
        raise click.ClickException(f"{len(errors)} rescued token sets could not be saved.")


@tokenrotate.command("prune-ledger")
@click.option(
    "--days", type=click.FloatRange(min=0), default=90.0, show_default=True, help="Age of what is kept."
)
def prune_ledger(days: float) -> None:
    """Delete old redemptions from the ledger, except those that the stored tokens depend on."""
    pruned = _maintenance_of_grants().prune_ledger(days=days)
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
