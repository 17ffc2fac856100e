"""Names of methods, data sets and suites: each becomes a file's, so not every text is one."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Annotated

from pydantic import AfterValidator

from harness.core.words import shortened

LONGEST = 100
"""Characters of a name: what is added to it must still be a file's name."""
NAME_RULE = (
    f"a name is of letters a to z, digits, _, - and ., at most {LONGEST}, and begins with a letter"
    " or a digit"
)


@cache
def misnamed(name: str, reserved: Collection[str] = frozenset()) -> str:
    """Why ``name`` cannot be a name, or nothing."""
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST - 1}}}", name):
        return f"{shortened(name, LONGEST)!r} cannot be a name: {NAME_RULE}"
    if name.lower() in reserved:
        return (
            f"{name!r} is reserved, because the results have a file or folder of that name;"
            " choose another"
        )
    return ""


def _checked(reserved: frozenset[str] = frozenset()) -> AfterValidator:
    def check(name: str) -> str:
        if why := misnamed(name, reserved):
            raise ValueError(why)
        return name

    return AfterValidator(check)


NOT_METHODS = frozenset({"cells", "leaderboard"})
"""Tables that earlier versions laid among the rows, ``results/<suite>/<method>.csv``."""
NOT_SUITES = frozenset({"runs", "tuning", "mlflow-artifacts"})
"""Folders that lie among those of the suites, ``results/<suite>/``."""

# Checked wherever a dataclass is made of text: a suite's file, a row, a bundle.
MethodName = Annotated[str, _checked(NOT_METHODS)]
DataSetName = Annotated[str, _checked()]
SuiteName = Annotated[str, _checked(NOT_SUITES)]
