"""Tables of what was measured, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.run.device import device_name
from harness.studies.perf.setting import Stage


@dataclass(frozen=True)
class Table:
    """A section of the report."""

    title: str
    note: str
    header: tuple[str, ...]
    lines: Sequence[Sequence[str]]

    def __str__(self) -> str:
        grid = [self.header, ("---",) * len(self.header), *self.lines]
        text = "\n".join(f"| {' | '.join(line)} |" for line in grid)
        return f"## {self.title}\n\n{self.note}\n\n{text}\n"


def report(title: str, stage: Stage, tables: Sequence[Table]) -> str:
    """The tables as Markdown, after how they were measured; without a date."""
    return "\n".join(
        [
            _PREFACE.format(
                title=title,
                device=device_name(stage.device),
                torch=torch.__version__,
                series=stage.series.name,
                rounds=stage.rounds,
            ),
            *map(str, tables),
        ]
    )


_PREFACE = """# {title}

Written by `make perf` (`python -m harness perf`) on {device}, torch {torch}, data: {series}.

Everything ran in fresh processes of one thread each, which took turns, A B A B, for {rounds}
rounds after a warm-up. A ratio is the median over the rounds of the ratio in each, with the
smallest and the largest beside it; in processor time (on a GPU: device time), if not marked wall.
Ratios can be compared between machines; seconds cannot.
"""
