"""Scaled dot-product attention of packed queries, keys and values, written for short rows."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional


def attention(
    packed: Float[Tensor, "row patch three head feature"],
    mask: Bool[Tensor, "row 1 1 patch"] | None,
) -> Float[Tensor, "row patch width"]:
    """Each token's mean of the values of its row, by the softmax of query times key.

    Torch's fused kernel on every device but a CPU, for which it is written out: with some tens of
    tokens and narrow heads the fused kernel takes half of a training step (docs/decisions). Where
    ``mask`` is False a token is not attended to.
    """
    if packed.device.type != "cpu":
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        of_heads = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return of_heads.transpose(1, 2).flatten(2)
    # In mixed precision, too, all products are in the precision that comes in.
    with torch.autocast("cpu", enabled=False):
        mixed: Tensor = _Attention.apply(packed, mask)  # type: ignore[no-untyped-call]  # torch has no types for it
    return mixed


class _Attention(torch.autograd.Function):
    """Batched products with tokens last in memory, and the gradient written out.

    Automatic differentiation would copy each gradient into another order; written out, the step
    needs one copy of the packed gradient.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, packed: Tensor, mask: Tensor | None) -> Tensor:
        row, patch, three, heads, feature = packed.shape
        apart = packed.reshape(row, patch, -1).transpose(1, 2).contiguous()
        apart = apart.view(row, three, heads, feature, patch).transpose(0, 1)
        query, key, value = apart.reshape(three, row * heads, feature, patch)
        scale = feature**-0.5
        if mask is None:
            scores = torch.bmm(query.transpose(1, 2) * scale, key)
        else:
            # Added within the product: a pass of its own over all scores takes a third more.
            shut = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
            shut = shut.masked_fill(~mask, -math.inf).expand(-1, heads, -1, -1)
            shut = shut.reshape(row * heads, 1, patch)
            scores = torch.baddbmm(shut, query.transpose(1, 2), key, alpha=scale)
        share = softmax_(scores.float()).to(value.dtype)
        ctx.save_for_backward(query, key, value, share)
        mixed = torch.bmm(value, share.transpose(1, 2))
        return mixed.view(row, heads * feature, patch).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        query, key, value, share = ctx.saved_tensors  # type: ignore[attr-defined]  # torch gives it after save_for_backward
        (grad,) = grads
        row = len(grad)
        batch, feature, patch = query.shape
        heads = batch // row
        grad = grad.transpose(1, 2).reshape(batch, feature, patch)
        of_packed = grad.new_empty(3, batch, feature, patch)
        torch.bmm(grad, share, out=of_packed[2])
        of_scores = softmax_backward_(torch.bmm(grad.transpose(1, 2), value), share)
        of_scores *= feature**-0.5
        torch.bmm(key, of_scores.transpose(1, 2), out=of_packed[0])
        torch.bmm(query, of_scores, out=of_packed[1])
        of_packed = of_packed.view(3, row, heads, feature, patch)
        return of_packed.permute(1, 4, 0, 2, 3).contiguous(), None


def softmax_(scores: Float[Tensor, "batch query key"]) -> Float[Tensor, "batch query key"]:
    """Softmax over the keys; ``scores`` are overwritten.

    Torch's kernel handles rows that are shorter than a vector of the processor number by number:
    for 12 keys this takes a third of its time.
    """
    if scores.shape[-1] >= _VECTOR:
        return scores.softmax(dim=-1)
    share = scores.sub_(scores.amax(dim=-1, keepdim=True)).exp_()
    return share.div_(share.sum(dim=-1, keepdim=True))


def softmax_backward_(
    grad: Float[Tensor, "batch query key"], share: Float[Tensor, "batch query key"]
) -> Float[Tensor, "batch query key"]:
    """The gradient of scores from that of their softmax, ``share``; ``grad`` is overwritten."""
    if grad.shape[-1] >= _VECTOR:
        return torch._softmax_backward_data(grad, share, -1, grad.dtype)  # noqa: SLF001 - the only name of torch's kernel
    return grad.sub_((grad * share).sum(dim=-1, keepdim=True)).mul_(share)


_VECTOR = 16
