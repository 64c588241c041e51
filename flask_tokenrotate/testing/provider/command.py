"""The FakeProvider as a program: ``python -m flask_tokenrotate.testing.provider --port 9000``."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from typing import Any

import click

from .knobs import KNOBS, Knob
from .server import FakeProvider

_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def serve(port: int, *, host: str = "127.0.0.1", quiet: bool = False, **knobs: Any) -> None:
    """Run a FakeProvider until SIGINT or SIGTERM; call it from the main thread.

    ``port`` 0 chooses a free port. Unless ``quiet``, the URL is printed when the server listens. ``knobs``
    are those of `Knobs`. Raises `ValueError` for a knob or a host that cannot work, and `OSError` if the port
    is in use.
    """
    provider = FakeProvider(host=host, port=port, **knobs)
    # Blocked before any thread starts, so that each inherits it and the signal waits for sigwait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        with provider:
            if not quiet:
                click.echo(
                    f"FakeProvider listens on {provider.url} (see {provider.url}/log). Ctrl-C stops it."
                )
            signal.sigwait(_STOP_SIGNALS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(
    arguments: Sequence[str] | None = None, *, prog: str = "python -m flask_tokenrotate.testing.provider"
) -> None:
    """Run `serve` with options of the command line, one for each knob."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Runs a strict OAuth 2 authorization server for demos and tests, on loopback only.",
    )
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; 0 chooses a free port")
    parser.add_argument("--quiet", action="store_true", help="do not print the URL")
    for name, knob in KNOBS.items():
        _add_option(parser, name, knob)
    try:
        serve(**vars(parser.parse_args(arguments)))
    except (ValueError, OSError) as mistake:
        parser.exit(2, f"{parser.prog}: {mistake}\n")


def _add_option(parser: argparse.ArgumentParser, name: str, knob: Knob[Any]) -> None:
    option, default = f"--{name.replace('_', '-')}", knob.default
    shown = f"{knob.help_text} (default: {default})"
    if isinstance(default, bool):
        parser.add_argument(
            option, action=argparse.BooleanOptionalAction, default=default, help=knob.help_text
        )
    else:
        parser.add_argument(
            option, type=str if default is None else type(default), default=default, help=shown
        )
