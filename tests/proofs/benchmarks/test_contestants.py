"""Each contestant signs in, serves a fresh token, and gets a new one when it has expired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import available
from tests.servers import Servers
from tests.servers.fake_provider import provider_process
from tests.servers.visitors import Visitor

from .contestants import TITLES
from .lab import Lab

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
