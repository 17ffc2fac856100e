"""The device a job runs on: what the machine calls it, what it can do, and the memory it took.

On Linux both are read from ``/proc``; elsewhere, as on macOS, they come from what Python knows.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

import torch

_PROC = Path("/proc")


def device_name(device: str) -> str:
    """What the machine calls the device, for the record: its GPU, or "CPU" and the processor."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU {_processor()}".strip()


def has_bfloat16(device: str) -> bool:
    """Whether the device has units for bfloat16; without them each product is emulated."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16"))


def refuse_emulation(precision: str, device: str) -> None:
    """Refuse a precision that this device would only slow down.

    Raises:
        ValueError: bfloat16 without units for it.
    """
    if precision == "bfloat16" and not has_bfloat16(device):
        raise ValueError(
            f"precision is 'bfloat16', for which {device_name(device)} has no units: emulated,"
            " training takes several times as long as in float32. Use 'float32' here"
        )


def forget_peak(device: str) -> None:
    """Start the count of peak memory anew: a worker runs one job after another."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        (_PROC / "self/clear_refs").write_text("5")
    except OSError:
        return  # not there, or not allowed: the peak is then that of the worker so far


def peak_memory(device: str) -> float:
    """Peak memory in MiB: allocated on a GPU, resident for the worker on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        lines = (_PROC / "self/status").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def _processor() -> str:
    try:
        lines = (_PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        # Python calls the processor of every recent Mac "arm", though their speeds differ.
        asked = ("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")
        try:
            done = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: S603 - our own words, no shell
        except (OSError, subprocess.CalledProcessError):
            pass  # then what Python calls it
        else:
            return done.stdout.strip()
    return platform.processor() or platform.machine()
