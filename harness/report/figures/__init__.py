"""Pictures of what was measured. The only package that knows matplotlib and seaborn.

Each figure is a function of tables or arrays. It is made without a screen and without global
state: importing this changes no setting of matplotlib, and saving the same figure twice gives the
same bytes. Figures are drawn in the light theme; :func:`save` writes the dark one beside it.

Of very many methods the first are drawn, which are the best ones, and the controls among the
others; of very many tasks the first. The figure then says how many are not in it.
"""

from harness.report.figures.forecasts import bands, profiles, sources
from harness.report.figures.ink import NothingToDrawError, files, remove, save
from harness.report.figures.plans import (
    agreement,
    agreement_of_methods,
    density,
    gallery,
    lengths,
    overlay,
)
from harness.report.figures.scores import (
    critical_difference,
    errors,
    forest,
    gap_closed,
    pareto,
    seed_spread,
)
from harness.report.figures.training import curves, hindsight, pretraining, tuning

__all__ = [
    "NothingToDrawError",
    "agreement",
    "agreement_of_methods",
    "bands",
    "critical_difference",
    "curves",
    "density",
    "errors",
    "files",
    "forest",
    "gallery",
    "gap_closed",
    "hindsight",
    "lengths",
    "overlay",
    "pareto",
    "pretraining",
    "profiles",
    "remove",
    "save",
    "seed_spread",
    "sources",
    "tuning",
]
