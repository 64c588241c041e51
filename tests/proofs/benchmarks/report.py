"""What a workload returns: tables, results against targets, and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A figure that this extension must reach: at most or at least ``limit``."""

    figure: str
    value: float
    limit: float
    unit: str = ""
    direction: Literal["at most", "at least"] = "at most"
    against: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value is on the right side of the limit."""
        return self.value <= self.limit if self.direction == "at most" else self.value >= self.limit

    def row(self) -> list[str]:
        """Return the cells of the table of bounds."""
        unit = f" {self.unit}" if self.unit else ""
        limit = f"{self.direction} {shown(self.limit)}{unit}"
        limit += f" ({self.against})" if self.against else ""
        return [self.figure, shown(self.value) + unit, limit, "pass" if self.holds else "**falls short**"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of cells; ``plot``: the column that is drawn as bars, one for each row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    plot: int | None = None
    note: str = ""

    def markdown(self) -> str:
        """Return the table as markdown."""
        return markdown(self.columns, [[shown(cell) for cell in row] for row in self.rows])


@dataclass(kw_only=True, slots=True)
class Report:
    """What one workload measured."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Report:
        """Return the report whose fields were saved."""
        tables = [Table(**table) for table in facts["tables"]]
        bounds = [Bound(**bound) for bound in facts["bounds"]]
        return cls(**{**facts, "tables": tables, "bounds": bounds})

    def markdown(self) -> str:
        """Return the report as a section of a page."""
        parts = [f"## {self.title}"]
        for table in self.tables:
            parts += [f"**{table.title}**", table.markdown()]
            parts += [table.note] if table.note else []
        if self.bounds:
            parts.append(markdown(BOUND_COLUMNS, [bound.row() for bound in self.bounds]))
        return "\n\n".join([*parts, *self.notes])


BOUND_COLUMNS = ("figure", "measured", "target", "")


def shown(cell: str | float | None) -> str:
    """Return a cell as text: three digits are what such measurements are good for."""
    if cell is None:
        return "—"
    if isinstance(cell, str):
        return cell
    if cell == int(cell) or abs(cell) >= 100:
        return f"{cell:.0f}"
    return f"{cell:.3g}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [list(columns), ["---"] * len(columns), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
