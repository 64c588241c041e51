"""A worker that forks in the middle of a redemption: its flight lands once, and the child has none."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flask_tokenrotate.testing import FakeProvider
from tests.servers.rows import grant_row
from tests.servers.visitors import eventually
from tests.servers.web import APPLICATION, gunicorn, settings

from .place import Place

LONGER_THAN_A_READ = 1.5
"""Seconds; `holding.LONGEST_READ_SECONDS` is how long a greenlet of the parent may sleep in the child."""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--threads", "8"], id="threads"),
        pytest.param(["--worker-class", "gevent"], id="gevent", marks=pytest.mark.long),
    ],
)
def test_a_fork_in_the_middle_of_a_redemption(
    options: list[str], provider: FakeProvider, tmp_path: Path
) -> None:
    """The parent saves what it gets; the child redeems its own, and writes nothing to the parent's row.

    Under gevent the greenlet of the parent's redemption lives on in the child.
    """
    database = f"sqlite:///{tmp_path}/grants.sqlite3"
    environment = settings(database, {"fake": provider.registration()})
    with gunicorn(APPLICATION, tmp_path, *options, workers=1, **environment) as url:
        place = Place(url, tmp_path, database, provider)
        first, grant = place.visitor("fake", user="first")
        second, _ = place.visitor("fake", user="second")
        with ThreadPoolExecutor() as threads:
            with provider.hold("processed") as gate:
                waiting = threads.submit(first.get, "/token/fake")
                gate.wait_for(1)
                claimed = grant_row(database, grant)
                parent = second.get(f"/fork/fake?grant={grant}").json["pid"]
                # The second redemption is the child's own.
                gate.wait_for(2)
                time.sleep(LONGER_THAN_A_READ if "gevent" in options else 0)
                assert grant_row(database, grant) == claimed, (tmp_path / "gunicorn.log").read_text()
            answer = waiting.result()
        child = json.loads(eventually((tmp_path / "child").exists) and (tmp_path / "child").read_text())
        time.sleep(LONGER_THAN_A_READ if "gevent" in options else 0)
        (tmp_path / "end-of-the-child").touch()
    assert (answer.status, answer.json["version"], answer.json["pid"]) == (200, 1, parent)
    assert (child["parent_has_flight"], child["has_flight"], child["threads"]) == (True, False, 0)
    assert child["token"]["version"] == 1
    assert child["token"]["pid"] != parent
    row = grant_row(database, grant)
    assert (row.version, row.token_version, row.doubts, row.claim_holder) == (2, 1, 0, None)
    assert provider.outcomes() == {"rotated": 2}
