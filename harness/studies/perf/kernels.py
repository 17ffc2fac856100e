"""Where the time of a training step goes: seconds in each kind of kernel."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from torch.profiler import ProfilerActivity, profile

from harness.studies.perf.race import Work

KINDS: dict[str, tuple[str, ...]] = {
    "matrix products": ("mm", "bmm", "addmm", "baddbmm", "convolution"),
    "softmax": ("softmax",),
    "GELU": ("gelu",),
    "dropout": ("dropout", "bernoulli", "random_", "ge"),
    "norms": ("layer_norm", "batch_norm", "var", "var_mean"),
    "copies": ("cat", "copy_", "stack"),
    "choosing": ("topk", "sort", "gather", "scatter", "index"),
    "optimiser": ("adam", "optimizer"),
    "loading": ("dataloader",),
}
"""Kinds of kernels by names in torch: a whole name, or if it has four letters or more, a part."""

REST = "all else"

BEFORE = 3
"""Rounds that do not count: until then memory is still being asked for."""


def spent_in(work: Work, rounds: int, device: str) -> dict[str, float]:
    """Seconds of a round in each kind of kernel, on the processor or the GPU.

    The profiler takes a little time of its own; what passes in Python between kernels is left out.
    """
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device == "cuda")]
    profiler, laps = profile(activities=activities, acc_events=True), 0

    def lap() -> None:
        nonlocal laps
        laps += 1
        if laps == BEFORE:
            profiler.start()
        elif laps == BEFORE + rounds:
            raise _Enough

    with suppress(_Enough):
        work(lap)
    profiler.stop()
    spent = Counter(dict.fromkeys([*KINDS, REST], 0.0))
    for event in profiler.key_averages():
        if event.device_type.name == "CPU":  # a GPU's kernels count with what asked for them
            busy = event.self_cpu_time_total if device == "cpu" else event.self_device_time_total
            spent[kind(event.key)] += busy / 1e6 / rounds
    return dict(spent)


def kind(kernel: str) -> str:
    """The kind of a kernel, such as "matrix products" of "aten::addmm"."""
    name = kernel.rpartition("::")[2].lower()
    for known, parts in KINDS.items():
        if any(part == name or (len(part) > 3 and part in name) for part in parts):
            return known
    return REST


class _Enough(Exception):  # noqa: N818 - it ends a work and is no error
    """As many rounds were seen as were asked for."""
