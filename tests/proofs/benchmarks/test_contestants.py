"""Each contestant signs in, serves a fresh token, and gets a new one when it has expired."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import available
from tests.servers import Servers
from tests.servers.fake_provider import provider_process
from tests.servers.processes import ROOT
from tests.servers.visitors import Visitor

from .contestants import TITLES
from .lab import Lab
from .workloads import session_and_token

pytestmark = [pytest.mark.long, pytest.mark.engine]

EXTRA = {"flask_dance": "flask_dance", "authlib_client": "authlib"}
"""What only the extra ``bench`` installs."""


@pytest.fixture
def lab(servers: Servers, tmp_path: Path) -> Iterator[Lab]:
    available(lambda: servers.url("postgresql"))
    available(lambda: servers.url("redis"))
    with provider_process() as provider:
        yield Lab(
            contestants=tuple(TITLES),
            rounds=1,
            short=True,
            servers=servers,
            folder=tmp_path,
            provider=provider,
        )


@pytest.mark.parametrize("name", TITLES)
def test_serves_a_fresh_token(name: str, lab: Lab) -> None:
    if name in EXTRA:
        pytest.importorskip(EXTRA[name])
    answers = []
    with lab.serving([name]) as urls:
        for user, seconds in (("ada", 3600), ("bob", -1)):
            visitor = Visitor(urls[name])
            visitor.post("/sign-in", lab.tokens(f"{name}:{user}", expires_in=seconds))
            assert visitor.get("/plain").json["user"] == f"{name}:{user}"
            answers += [visitor.get("/token") for _ in range(2)]
    assert [answer.status for answer in answers] == [200] * 4
    tokens = [answer.json["token"] for answer in answers]
    assert tokens[0] == tokens[1] != tokens[2] == tokens[3]
    assert lab.provider.redemptions(f"{name}:ada") == 0
    assert lab.provider.redemptions(f"{name}:bob") == (0 if name == "floor" else 1)


def test_session_and_token_together_have_a_row_for_every_contestant(tmp_path: Path) -> None:
    """Ours has one for a hit and one for a miss, and each kind of session has one without the token.

    In a process of its own: the applications keep their connections open until it ends.
    """
    for package in EXTRA.values():
        pytest.importorskip(package)
    figures = tmp_path / "figures.json"
    command = ["benchmarks", "--workloads", "overhead", "--rounds", "1", "--json", str(figures)]
    subprocess.run([sys.executable, "-m", "tests.proofs", *command], cwd=ROOT, check=True)
    tables = json.loads(figures.read_text())["reports"][0]["tables"]
    rows = next(table["rows"] for table in tables if table["title"] == session_and_token.TITLE)
    ours = [session_and_token.OWN_SESSION, session_and_token.HIT, session_and_token.MISS]
    others = [title for name, title in TITLES.items() if name not in ("floor", "tokenrotate")]
    assert [row[0] for row in rows] == [session_and_token.FLASK_SESSION, *ours, *others]
