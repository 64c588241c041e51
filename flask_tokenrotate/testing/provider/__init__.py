"""A strict OAuth 2 authorization server for tests, demos and trying things out.

Start reading at `server.FakeProvider`; `rules` says what is allowed, `knobs` what can be made to fail.
"""

from .browser import sign_in
from .command import serve
from .gates import Gate
from .journal import LogEntry
from .server import FakeProvider

__all__ = ["FakeProvider", "Gate", "LogEntry", "serve", "sign_in"]
