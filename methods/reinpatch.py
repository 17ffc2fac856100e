"""ReinPatch: a policy over the boundaries of exactly K patches, learned by GRPG."""

from __future__ import annotations

from torch import Tensor

from harness import Patches, Rows, from_chosen
from methods._policy import PolicyPatcher, draw_in_order, log_prob_in_order


class ReinPatch(PolicyPatcher):
    """Draws K - 1 boundaries without replacement, G times a row, and rewards the better draws.

    Source: ReinPatch and GRPG (Wu et al., arXiv 2603.26097), of which the abstract could be read.

    Fidelity: re-implementation. From the abstract: boundary placement as a discrete decision
    learned jointly with the forecaster by policy gradients, no relaxation, the compression
    enforced strictly, a patcher that can be carried to other data. Our design where it is silent:
    the distribution (Plackett-Luce by Gumbel top-k, its log-probability in the order drawn), the
    leave-one-out advantage, the network, and the evaluation: how its authors cut in evaluation is
    not known, so validation data choose among a draw, the largest logits and boundaries spread
    evenly. The default estimate is unbiased for the expected forecast loss, and so it is with
    ``rollout_share`` (an idea of NAT, Sang et al., arXiv 2603.06619, read through its abstract:
    there tokens of one sequence are chosen, here rows of a batch) and with ``baseline``;
    ``discount`` and ``entropy_credit`` change the objective. None of the four is in the abstract
    of ReinPatch.
    A straw man? We cannot know: the network is one convolution over nine steps (a second, dilated
    layer was tried and is worse), each batch is one update, and there is no pre-training on other
    data, which the abstract also reports. Of the learned methods here it comes nearest to the
    oracle on `ordinal`.
    """

    def draw(self, logits: Tensor, rows: Rows, draws: int) -> Patches:
        row, _, steps = logits.shape
        uniform = rows.uniform(draws * steps).view(row, draws, steps).transpose(0, 1)
        order = draw_in_order(logits[:, 0], self.task.patches - 1, uniform)
        return from_chosen(
            order.flatten(0, 1),
            self.task.look_back,
            log_prob=log_prob_in_order(logits[:, 0], order).flatten(),
        )
