"""What all tests share: checked annotations, one thread, no deadlines, real data where it is."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from tempfile import gettempdir

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

# No test is to look for a data set on the network.
os.environ.setdefault("PATCHBENCH_OFFLINE", "1")

# Where tests are started in the background, as by a script with &, Ctrl-C is ignored, and programs
# that tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run, and no verdict that depends on how busy the machine is.
hypothesis.settings.register_profile("house", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("house")


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collections, some of which libraries call for."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--without`: try what works in an environment that lacks some packages."""
    parser.addoption(
        "--without",
        default="",
        metavar="A,B",
        help="packages that are not installed: files and tests that need one are skipped",
    )


def _lacks(config: pytest.Config, error: ImportError | None) -> bool:
    """Whether an import failed for want of a package that is meant to be missing."""
    missing = (error.name or "").partition(".")[0] if error else ""
    return bool(missing) and missing in config.getoption("--without").split(",")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> Generator[None, pytest.Module, pytest.Module]:
    """Skip a file that needs a package which is meant to be missing."""
    module = yield
    collect = module.collect

    def or_skip() -> object:
        try:
            return collect()
        except module.CollectError as error:
            cause = error.__cause__
            if isinstance(cause, ImportError) and _lacks(parent.config, cause):
                pytest.skip(f"needs {cause.name}", allow_module_level=True)
            raise

    module.collect = or_skip  # type: ignore[method-assign, assignment]  # of this one file
    return module


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Skip a test whose fixtures need a package which is meant to be missing."""
    return (yield from _or_skip(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Skip a test that comes to need a package which is meant to be missing."""
    return (yield from _or_skip(item))


def _or_skip(item: pytest.Item) -> Generator[None, None, None]:
    try:
        return (yield)
    except ImportError as error:
        if _lacks(item.config, error):
            pytest.skip(f"needs {error.name}")
        raise


@pytest.fixture
def kills_for_memory() -> Iterator[None]:
    """For a test that has the system kill a process for its memory; see :func:`kills_workers`."""
    yield from _locked(fcntl.LOCK_EX)


@pytest.fixture
def kills_workers() -> Iterator[None]:
    """For a test that kills workers: none elsewhere is killed for its memory meanwhile.

    The system counts such kills for the whole machine, and a bench goes by that count.
    """
    yield from _locked(fcntl.LOCK_SH)


def _locked(how: int) -> Iterator[None]:
    with Path(gettempdir(), f"patchbench-kills-{os.getuid()}").open("w") as file:
        fcntl.flock(file, how)
        yield


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
