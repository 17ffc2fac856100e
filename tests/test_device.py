"""Name and peak memory of a device, on machines with and without ``/proc``."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.run import device

CPUINFO = "processor\t: 0\nmodel name\t: Slow and Steady 3000\nprocessor\t: 1\n"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of ``/proc``, which is not there yet."""
    place = tmp_path / "proc"
    monkeypatch.setattr(device, "_PROC", place)
    return place


def test_linux_names_the_processor_and_counts_the_peak(proc: Path) -> None:
    """From cpuinfo and status, as the kernel writes them."""
    (proc / "self").mkdir(parents=True)
    (proc / "cpuinfo").write_text(CPUINFO)
    (proc / "self/status").write_text("Name:\tpython\nVmHWM:\t  204800 kB\nVmRSS:\t  1024 kB\n")
    device.forget_peak("cpu")
    assert (proc / "self/clear_refs").read_text() == "5"
    assert device.device_name("cpu") == "CPU Slow and Steady 3000"
    assert device.peak_memory("cpu") == 200


def test_a_processor_without_a_model_name_has_another(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some kernels, as those of ARM, name no model: then what Python knows of the machine."""
    proc.mkdir()
    (proc / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd0c\n")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert device.device_name("cpu") == "CPU aarch64"


def test_a_machine_without_proc_has_a_name_and_a_peak(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peak is then that of the process since it began: it cannot be forgotten."""
    monkeypatch.setattr(platform, "processor", lambda: "riscv")
    device.forget_peak("cpu")
    assert not proc.exists()
    assert device.device_name("cpu") == "CPU riscv"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    assert device.peak_memory("cpu") == pytest.approx(most, rel=0.05)


@pytest.mark.parametrize("there", [True, False])
def test_a_mac_says_which_processor_it_has_and_counts_bytes(
    proc: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    """Sysctl knows the processor by name; without it, Python's word has to do."""

    def sysctl(command: tuple[str, ...], **_: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401 - options of several types
        if not there:
            raise FileNotFoundError(command[0])
        return subprocess.CompletedProcess(command, 0, "Apple M9\n", "")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", sysctl)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert device.device_name("cpu") == f"CPU {'Apple M9' if there else 'arm'}"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert device.peak_memory("cpu") == pytest.approx(most, rel=0.05)
