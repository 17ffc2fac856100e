"""Layers that add something: at the start of training those of the shared backbone add nothing."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from harness.model.backbones import Block

Module = TypeVar("Module", bound=nn.Module)


def with_branches(model: Module) -> Module:
    """The model itself, the branches of its layers as large as training makes them."""
    for block in model.modules():
        if isinstance(block, Block):
            nn.init.normal_(block.join.weight, std=0.2)
            nn.init.normal_(block.narrow.weight, std=0.2)
    return model
