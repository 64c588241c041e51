"""One engine's bench: the application in three processes, its provider, and a database that can go away."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, func, select
from sqlalchemy.pool import NullPool

from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.schema import redemptions
from flask_tokenrotate.storage.database.tables import create_tables
from flask_tokenrotate.storage.operations.audit import Audit, Breach
from flask_tokenrotate.testing import FakeProvider
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.restarting import RestartingDatabase, restarting_database
from tests.servers.rows import claim_holder
from tests.servers.visitors import Visitor, eventually
from tests.servers.web import gunicorn, settings

from . import steps

WORKERS = 3
TIMING = {"connect": 0.8, "redeem": 1.0, "claim": 1.4, "settle": 0.8, "wait": 8, "backoff": 0.3, "cache": 0}
"""Seconds: claims that end soon, so that no test has to wait long for it."""

RESPONSE_SECONDS = 4.0
"""How long a holder waits for the response here, instead of 60 s."""

GRACE_SECONDS = 30.0
APPLICATION = "tests.proofs.faults.application:create_app()"


class Halter:
    """The test's side of `steps.Halts`: lets a worker of the application in ``folder`` halt, and go on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def halt_at(self, step: str, grant: str) -> None:
        """Halt the next worker that reaches ``step`` with ``grant``."""
        for name in (steps.HALTED, steps.GO):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / steps.HALT).write_text(f"{step} {grant}")

    def halted(self) -> int:
        """Wait until a worker has halted and return its process id."""
        file = self.folder / steps.HALTED
        return int(eventually(lambda: file.read_text() if file.exists() else ""))

    def go(self) -> None:
        """Let the halted worker go on."""
        (self.folder / steps.GO).touch()
        (self.folder / steps.HALT).unlink(missing_ok=True)


class Bench(Halter):
    """What a cell of the table needs; every method may be called from any thread."""

    def __init__(
        self, engine: str, folder: Path, database: RestartingDatabase, provider: FakeProvider
    ) -> None:
        super().__init__(folder)
        self.engine = engine
        self.database = database
        self.provider = provider
        self.proxy = None if engine == "sqlite" else CuttingProxy(database.uri)
        self.url = ""

    @property
    def uri(self) -> str:
        """What the application connects to."""
        return self.database.uri if self.proxy is None else self.proxy.uri

    def sign_in(self, user: str, provider: str) -> tuple[Visitor, str]:
        """Return a visitor whose access token has expired, and their grant at ``provider``."""
        visitor = Visitor(self.url)
        return visitor, visitor.sign_in(self.provider.mint(user=user, expires_in=-1), provider)

    def expire(self, grant: str) -> None:
        """Let the stored access token count as expired."""
        answer = Visitor(self.url).post(f"/expire/{grant}")
        assert answer.status == 200, answer

    def holder(self, grant: str) -> int:
        """Return the process that holds the claim of ``grant``."""
        holder = claim_holder(self.database.uri, grant)
        assert holder is not None, "nobody holds the claim"
        return holder

    # faults of what is around

    def cut_next_commit(self, moment: str) -> None:
        """Cut the connection at the next COMMIT, before or after the server has it.

        On PostgreSQL a claim or a save is one statement, which commits by itself.
        """
        if self.proxy is not None:
            self.proxy.arm("(?:COMMIT|WITH written)", "before" if moment == "before" else "after")
        else:
            (self.folder / (steps.CUT_BEFORE if moment == "before" else steps.CUT_AFTER)).touch()

    def forget_cuts(self) -> None:
        """Cut nothing any more. Raises AssertionError where the cut that was wanted did not come."""
        if self.proxy is not None:
            assert self.proxy.is_disarmed, "nothing was cut"
        for name in (steps.CUT_BEFORE, steps.CUT_AFTER):
            (self.folder / name).unlink(missing_ok=True)

    def forget_name(self) -> None:
        """Let the provider's host name be unknown, until `know_name`."""
        (self.folder / steps.NO_DNS).touch()

    def know_name(self) -> None:
        """Let the provider's host name be known."""
        (self.folder / steps.NO_DNS).unlink()

    # what became of it

    def outcomes(self, user: str) -> Counter[str]:
        """Return what the provider's log says of the user's refresh tokens."""
        entries = [entry for entry in self.provider.log if entry.user == user]
        return Counter(entry.outcome for entry in entries if entry.endpoint == "token")

    def presentations(self, user: str) -> Counter[str | None]:
        """Return how often the provider looked at each refresh token of the user."""
        looked_at = ("rotated", "repeated", "reused", "refused")
        return Counter(
            entry.presented
            for entry in self.provider.log
            if entry.user == user and entry.outcome in looked_at
        )

    def spent_slots(self, grant: str) -> int:
        """Return how many redemptions of the grant the ledger holds for spent."""
        query = select(func.count()).where(redemptions.c.grant_id == grant, redemptions.c.slot.is_not(None))
        with create_engine(self.database.uri, poolclass=NullPool).connect() as connection:
            return int(connection.execute(query).scalar_one())

    def breaches(self) -> list[Breach]:
        """Return what `flask tokenrotate verify` would name."""
        database = Database.from_uri(self.database.uri)
        try:
            return Audit(database).breaches()
        finally:
            database.engine().dispose()


def over(seconds: float) -> None:
    """Let a claim's time pass: the one thing for which there is no signal."""
    time.sleep(seconds)


@contextmanager
def bench(engine: str, folder: Path) -> Iterator[Bench]:
    """Set the bench of ``engine`` up in ``folder``. Raises `Unavailable`."""
    with contextlib.ExitStack() as stack:
        database = restarting_database(engine, folder)
        stack.callback(database.close)
        made = create_engine(database.uri)
        create_tables(made)
        made.dispose()
        provider = stack.enter_context(FakeProvider(grace_seconds=GRACE_SECONDS))
        place = Bench(engine, folder, database, provider)
        if place.proxy is not None:
            stack.callback(place.proxy.close)
        endpoint = provider.registration()["token_endpoint"].replace("127.0.0.1", steps.PROVIDER_HOST)
        profiles = {
            "replaying": provider.registration(grace_seconds=GRACE_SECONDS, token_endpoint=endpoint),
            "careful": provider.registration(on_unknown="reauthorize", token_endpoint=endpoint),
        }
        seconds = {f"{name}_seconds": value for name, value in TIMING.items()}
        environment = settings(place.uri, profiles, **seconds)
        server = gunicorn(APPLICATION, folder, "--preload", workers=WORKERS, **environment)
        place.url = stack.enter_context(server)
        yield place
