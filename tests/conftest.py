"""What all tests share: checked annotations, one thread, no deadlines, real data where it is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

# Shapes and types of every annotated function are checked in tests, and only there. As for mypy,
# a whole number will do where a float is asked for.
jaxtyping.install_import_hook(
    ["harness", "methods"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

# Tiny tensors are slower on many threads, and tests may run beside other work. Torch reads this
# when it is first imported, which is after this file.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where tests are started in the background, as by a script with &, Ctrl-C is ignored, and programs
# that tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run, and no verdict that depends on how busy the machine is.
hypothesis.settings.register_profile("house", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("house")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte, which only root can make."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    # Lazily: a writer of torch that failed may hold its file a little longer.
    subprocess.run(["umount", "--lazy", place], check=True)  # noqa: S607 - from PATH, as on every Linux


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets that PATCHBENCH_DATA names."""
    folder = os.environ.get("PATCHBENCH_DATA")
    if not folder:
        pytest.skip("PATCHBENCH_DATA is not set: no real data to test with")
    return Path(folder)
