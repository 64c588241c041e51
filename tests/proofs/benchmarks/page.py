"""The page that the command writes, and its plots."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pygal

from .reasons import shortfalls
from .report import BOUND_COLUMNS, Report, Table, markdown, shown

PACKAGES = ("Flask", "SQLAlchemy", "psycopg", "redis", "gunicorn", "Flask-Session", "Flask-Dance", "Authlib")


def machine() -> dict[str, str]:
    """Return what the figures depend on: processors and versions."""
    facts = {"processors": f"{os.cpu_count()} × {_processor()}", "system": platform.platform(terse=True)}
    return {**facts, "Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def summary(reports: Sequence[Report]) -> str:
    """Return the results against their targets."""
    return markdown(BOUND_COLUMNS, [bound.row() for report in reports for bound in report.bounds])


def write_page(path: Path, reports: Sequence[Report], facts: Mapping[str, str]) -> None:
    """Write the page to ``path`` and its plots into the folder of its name beside it.

    ``facts`` are those of `machine`, when it was measured.
    """
    plots = path.with_suffix("")
    plots.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Performance",
        "This page is written by `python -m tests.proofs benchmarks --full --json "
        "docs/performance/figures.json --write docs/performance.md`. All contestants do the same work in one "
        "run and take turns; the results are medians of several rounds. "
        "Compare results within a table only: on another machine they differ.",
        "## Results against targets",
        summary(reports),
        "## What falls short, and why",
        shortfalls(reports),
    ]
    for report in reports:
        parts.append(report.markdown())
        for number, table in enumerate(report.tables):
            if table.plot is not None:
                image = plots / f"{report.name}-{number + 1}.svg"
                image.write_text(drawn(table))
                parts.append(f"![{table.title}: {table.columns[table.plot]}]({plots.name}/{image.name})")
    parts += ["## The machine and the versions", markdown(("", ""), [list(fact) for fact in facts.items()])]
    path.write_text("\n\n".join(parts) + "\n")


def drawn(table: Table) -> str:
    """Return the table's plot as SVG: a bar for each row."""
    assert table.plot is not None
    chart = pygal.HorizontalBar(
        title=f"{table.title}: {table.columns[table.plot]}",
        show_legend=False,
        js=[],
        width=900,
        height=90 + 45 * len(table.rows),
        print_values=True,
        value_formatter=shown,
        style=pygal.style.CleanStyle(font_family="sans-serif"),
    )
    chart.uuid = "plot"  # By default a random one, and every run would change every file.
    chart.add_xml_filter(_without_script)
    rows = table.rows[::-1]  # It draws from the bottom up.
    chart.x_labels = [str(row[0]) for row in rows]
    values = [row[table.plot] for row in rows]
    chart.add("", [value if isinstance(value, int | float) else None for value in values])
    return str(chart.render(disable_xml_declaration=True, is_unicode=True)) + "\n"


def _without_script(root: Any) -> Any:
    """Take away the script that pygal puts in: an image in a page runs none."""
    for parent in list(root.iter()):
        for child in list(parent):
            if str(child.tag).endswith("script"):
                parent.remove(child)
    return root
