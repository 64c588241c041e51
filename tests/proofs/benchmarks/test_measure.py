"""The benchmarks' arithmetic, and how a figure is compared with its target."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tests.servers.visitors import Answer

from .instructions import check
from .lab import Timed
from .measure import (
    median_difference,
    median_ratio,
    percentile,
    percentile_at_least,
    share_above,
    share_error,
)
from .report import Bound, Report, Table, shown
from .workloads.steady import Traffic, overlaps


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 5.0), (0.99, 10.0), (0.9, 9.0), (0.91, 10.0), (1.0, 10.0), (0.01, 1.0)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    values = [float(number) for number in (3, 1, 2, 10, 9, 8, 7, 6, 5, 4)]
    assert percentile(values, share) == expected


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_percentile_refuses_what_it_cannot_answer(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="a percentile needs"):
        percentile(values, share)


def test_share_above_does_not_count_the_limit_itself() -> None:
    assert share_above([1.0, 2.0, 3.0, 4.0], 2.0) == 0.5
    assert share_above([], 2.0) == 0.0


def test_rounds_are_compared_one_by_one() -> None:
    # A slow machine in the second round: the ratio of the medians would be 3, that of each round is 2.
    ours, theirs = [2.0, 20.0, 6.0], [1.0, 10.0, 2.0]
    assert median_ratio(ours, theirs) == 2.0
    assert median_difference(ours, theirs) == 4.0


def test_rounds_that_do_not_match_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="shorter"):
        median_ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("value", "direction", "holds"),
    [(10.0, "at most", True), (10.1, "at most", False), (10.0, "at least", True), (9.9, "at least", False)],
)
def test_a_bound_holds_at_its_limit(value: float, direction: str, holds: bool) -> None:
    bound = Bound(figure="it", value=value, limit=10.0, unit="ms", direction=direction)  # type: ignore[arg-type]
    assert bound.holds is holds
    assert bound.row()[2:] == [f"{direction} 10 ms", "pass" if holds else "**falls short**"]


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "—"), ("a", "a"), (0.0, "0"), (12.0, "12"), (0.1234, "0.123"), (1234.5, "1234")]
)
def test_cells_show_three_digits(cell: str | float | None, text: str) -> None:
    assert shown(cell) == text


def test_a_table_is_markdown() -> None:
    table = Table(title="t", columns=["", "ms"], rows=[["a", 1.5], ["b", None]])
    assert table.markdown().splitlines() == ["|  | ms |", "| --- | --- |", "| a | 1.5 |", "| b | — |"]


def test_a_high_percentile_of_few_values_may_be_lower() -> None:
    """The 99th percentile of 100 values hangs on two of them; that of a million does not."""
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.99) == 99.0
    assert percentile_at_least(values, 0.99) == 98.0
    assert percentile_at_least([1.0, 2.0], 0.99) == 2.0
    many = [float(value) for value in range(1, 1_000_001)]
    assert percentile_at_least(many, 0.99) == pytest.approx(990_000, rel=0.001)


def test_a_share_among_many_is_surer() -> None:
    assert share_error(0.5, 100) == pytest.approx(0.05)
    assert share_error(0.5, 10_000) == pytest.approx(0.005)


def figure(instructions: int, python: str = "3.11.7") -> dict[str, object]:
    return {"added_instructions_per_request": instructions, "versions": {"Python": python}}


def test_more_instructions_fail_above_a_tenth() -> None:
    assert check(figure(1000), figure(1100)) is None
    assert "more than 10 % more" in (check(figure(1000), figure(1101)) or "")


def test_much_fewer_instructions_ask_to_be_committed(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(figure(1000), figure(950)) is None
    assert capsys.readouterr().out == ""
    assert check(figure(1000), figure(900)) is None
    assert "--write" in capsys.readouterr().out


def test_instructions_of_other_versions_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(figure(1000), figure(5000, python="3.12.1")) is None
    assert "Not compared" in capsys.readouterr().out


def test_the_page_has_the_figures_and_its_plots(tmp_path: Path) -> None:
    pytest.importorskip("pygal")
    from .page import write_page

    table = Table(title="Times", columns=["", "ms"], rows=[["ours", 1234.5], ["theirs", None]], plot=1)
    bound = Bound(figure="p50", value=2.0, limit=1.0, unit="ms", against="theirs")
    report = Report(name="storm", title="Storm", tables=[table], bounds=[bound])
    write_page(tmp_path / "docs" / "performance.md", [report], {"Python": "3.11"})
    page = (tmp_path / "docs" / "performance.md").read_text()
    assert page.count("| p50 | 2 ms | at most 1 ms (theirs) | **falls short** |") == 2
    assert "- **p50**: " in page
    assert "| Python | 3.11 |" in page
    assert Report.of(asdict(report)) == report
    assert "](performance/storm-1.svg)" in page
    plot = (tmp_path / "docs" / "performance" / "storm-1.svg").read_text()
    assert "1234" in plot
    assert "<script" not in plot


def test_noise_is_taken_off_what_expiries_delay() -> None:
    # The median is 1, so slow is above 2: one request in ten is so far from any rotation, two of four at one.
    traffic = Traffic(at_expiry=[1.0, 1.0, 5.0, 120.0], elsewhere=[1.0] * 9 + [5.0], rotations=2, failed=0)
    assert traffic.delayed == pytest.approx(2 - 0.4)
    assert traffic.in_10_000(traffic.delayed) == pytest.approx(8000)
    assert traffic.noise == pytest.approx(2 * (4 * 0.1 * 0.9) ** 0.5)
    assert traffic.waited == 1


def test_nothing_is_delayed_where_expiries_are_as_noisy_as_the_rest() -> None:
    traffic = Traffic(at_expiry=[1.0] * 9 + [5.0], elsewhere=[1.0] * 8 + [5.0] * 2, rotations=1, failed=0)
    assert traffic.delayed == 0.0


@pytest.mark.parametrize(
    ("began", "seconds", "expected"),
    [(100.0, 0.01, True), (99.0, 1.0, True), (99.9, 0.01, True), (99.5, 0.01, False), (100.2, 0.01, False)],
)
def test_a_request_is_at_expiry_while_the_provider_works_and_right_after(
    began: float, seconds: float, expected: bool
) -> None:
    request = Timed(Answer(200), seconds=seconds, began=began)
    assert overlaps(request, [50.0, 100.0]) is expected
