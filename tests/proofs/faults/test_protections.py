"""The fault table notices what each protection is for: each has a cell that is red without it.

``python -m tests.proofs faults`` plays all cells on all engines.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.sabotage import (
    DROP_UNSAVED,
    NEVER_READ_BACK,
    NEVER_RENEW,
    POST_ANY_TIME,
    REFUSE_LATE_WINNERS,
    turned_on,
)

from .bench import Bench, bench
from .cell import play
from .cells import Result
from .page import page
from .table import LIMITS, Expected, expected

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench on SQLite."""
    with bench("sqlite", tmp_path_factory.mktemp("faults")) as place:
        yield place


PROTECTIONS = {
    POST_ANY_TIME: ("replaying", "claim_committed", "stall"),
    NEVER_RENEW: ("replaying", "request_written", "slow"),
    REFUSE_LATE_WINNERS: ("careful", "answer_read", "stall"),
    DROP_UNSAVED: ("replaying", "answer_read", "database"),
    NEVER_READ_BACK: ("replaying", "before_claim", "cut_after"),
}
"""Each protection with a cell that is red without it."""


def result(place: Bench, provider: str, step: str, fault: str, user: str) -> Result:
    """Play one cell."""
    wanted = LIMITS[fault, step] if provider == "careful" else expected("sqlite", step, fault)
    return Result("sqlite", provider, step, fault, wanted, play(place, step, fault, user, provider))


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_the_cell_is_green_with_the_protection_and_red_without_it(place: Bench, protection: str) -> None:
    """The table notices what each protection is for."""
    provider, step, fault = PROTECTIONS[protection]
    assert result(place, provider, step, fault, f"with {protection}").faults == []
    with turned_on(place.folder, protection):
        assert result(place, provider, step, fault, f"without {protection}").faults != []


def test_the_page_marks_a_red_cell(place: Bench) -> None:
    """A cell that is not as expected has a cross in its row."""
    good = result(place, "replaying", "response_sent", "kill", "page")
    bad = Result("sqlite", "replaying", "response_sent", "kill", Expected("503", "503"), good.seen)
    assert "✘" not in page([good], rounds=1, engines=["sqlite"]).split("##")[2]
    assert "✘" in page([good, bad], rounds=1, engines=["sqlite"]).split("##")[1]
