"""A strict OAuth 2 authorization server for tests and demos.

Start reading at `server.FakeProvider`. `rules` has the rules, `knobs` the faults.
"""

from .browser import sign_in
from .command import serve
from .gates import Gate
from .journal import LogEntry
from .server import FakeProvider

__all__ = ["FakeProvider", "Gate", "LogEntry", "serve", "sign_in"]
