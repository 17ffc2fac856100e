"""The rules of comparison as numbers, each written once: what a change of them would change.

A change of any of these, or of what the rooms ``model``, ``run`` and ``data`` compute, raises
:data:`PROTOCOL`.
"""

from __future__ import annotations

import math

PROTOCOL = 3
"""Version of the rules of comparison; a change of them makes every older row stale."""

SMALLEST_EFFECT = 0.5
"""Percent: a smaller change of MSE is of no practical interest."""


def most_patches(patches: int, look_back: int) -> int:
    """The most slots of a method that only aims at ``patches``: a quarter more, if they fit."""
    return min(math.ceil(1.25 * patches), look_back)
