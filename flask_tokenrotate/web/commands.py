"""``flask tokenrotate`` as a name: what is behind it is imported when somebody uses it."""

from __future__ import annotations

import click


class Commands(click.Group):
    """The group of `cli`, by the name of which it goes in a server that never runs a command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        return _group().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        return _group().get_command(ctx, cmd_name)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the line in the list of all groups."""
        return _group().get_short_help_str(limit)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the group is for."""
        _group().format_help_text(ctx, formatter)


def _group() -> click.Group:
    from .cli import tokenrotate

    return tokenrotate
