"""Predictors of gluonts by import path, from whatever package.

The only module that imports gluonts; predictors of ours take their base classes from here.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from harness.core.words import did_you_mean, unknown
from harness.zero_shot.tasks import ZeroShotTask

with warnings.catch_warnings():
    # At import it asks for a faster JSON library, which nothing here would gain by.
    warnings.filterwarnings("ignore", "Using `json`-module for json-handling")
    from gluonts.model.forecast import Forecast, QuantileForecast
    from gluonts.model.predictor import Predictor, RepresentablePredictor

__all__ = [
    "Entry",
    "Forecast",
    "Predictor",
    "QuantileForecast",
    "RepresentablePredictor",
    "make",
]

Entry = Mapping[str, Any]
"""A series as gluonts has them: "item_id", "start" as a period, "target" [time]."""


def make(path: str, task: ZeroShotTask, options: Mapping[str, Any] | None = None) -> Predictor:
    """The predictor at an import path, "package.module:Class", for a task.

    Its constructor, or a function that returns a predictor, is given ``options``, and of these
    what it takes: ``prediction_length`` (the horizon), ``season_length`` and ``freq``.

    Raises:
        ValueError: nothing is there, or no predictor, or one that does not take the options.
    """
    maker = _at(path)
    takes = inspect.signature(maker).parameters
    known = {
        "prediction_length": task.horizon,
        "season_length": task.season,
        "freq": task.frequency,
    }
    given = {name: value for name, value in known.items() if name in takes} | dict(options or {})
    if not any(taken.kind is taken.VAR_KEYWORD for taken in takes.values()):
        for name in given.keys() - takes.keys():
            raise ValueError(f"{path}: {unknown('option', name, takes)}")
    try:
        predictor = maker(**given)
    except (AssertionError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be made with {given}: {said}") from error
    if not isinstance(predictor, Predictor):
        kind = type(predictor).__name__
        raise ValueError(f"{path} makes a {kind}, which is no predictor of gluonts")  # noqa: TRY004 - what a user can cause is a ValueError
    return predictor


def _at(path: str) -> Any:  # noqa: ANN401 - a class or a function
    """What is at an import path."""
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ValueError(f"{path!r} is no import path; 'package.module:Class' is needed")
    try:
        home = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{path}: module {module!r} cannot be imported: {error}") from error
    if not callable(found := getattr(home, name, None)):
        near = did_you_mean(name, vars(home))
        raise ValueError(f"{path}: module {module!r} has no class or function {name!r}{near}")  # noqa: TRY004 - as above
    return found
