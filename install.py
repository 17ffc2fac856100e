"""Makes the environment or brings it up to date: what ``make setup`` does once there is a Python.

uv installs in a fraction of the time that pip takes. It is put into the environment itself, and
nothing global is changed. It does not read pip's settings, so they are handed to it; where one of
them has no counterpart, or where uv fails, pip installs.
"""

from __future__ import annotations

import ast
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

NEEDED = (Path("pyproject.toml"), Path("constraints.txt"))
LISTS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraint",
    "trusted-host": "--allow-insecure-host",
}
"""Settings of pip that are words with spaces between, each the value of an option of uv."""
SWITCHES = {"no-index": "--no-index", "no-cache-dir": "--no-cache", "pre": "--prerelease=allow"}
VARIABLES = {
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "cache-dir": None,
}
"""Settings that are environment variables of uv; None: uv has its own."""
WITHOUT_EFFECT = {
    "break-system-packages",
    "disable-pip-version-check",
    "no-color",
    "no-input",
    "no-python-version-warning",
    "no-warn-script-location",
    "prefer-binary",
    "progress-bar",
    "quiet",
    "require-virtualenv",
    "retries",
    "root-user-action",
    "verbose",
}
"""Settings that do not change what is installed, or from where."""


def main(environment: Path) -> None:
    """Install what ``pyproject.toml`` names at the versions of ``constraints.txt``, once.

    The stamp is written last, so that an installation that was interrupted is taken up again.
    """
    stamp, python = environment / ".installed", environment / "bin" / "python"
    with alone(environment):
        if stamp.exists() and all(
            stamp.stat().st_mtime >= path.stat().st_mtime for path in NEEDED
        ):
            return  # another make has done it meanwhile
        stamp.unlink(missing_ok=True)
        if not (python.exists() and succeeds(python, "-c", "import pip")):
            print(f"Making {environment} with Python {sys.version.split()[0]} ...")
            subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        print(f"Setting up {environment} from constraints.txt (once, a minute or more) ...")
        if not (by_uv(python) or by_pip(python, "--editable", ".[dev]")):
            raise SystemExit(1)
        stamp.touch()


@contextmanager
def alone(environment: Path) -> Iterator[None]:
    """Have the folder that the environment lies in for this process; the system drops the lock."""
    folder = os.open(environment.absolute().parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{environment} is being set up by another process: waiting for it ...")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def by_uv(python: Path) -> bool:
    """Install with uv; False where that is not possible."""
    listed = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings = settings_of(listed.stdout)
    if strange := settings.keys() - LISTS.keys() - SWITCHES.keys() - VARIABLES.keys():
        print(f"uv has nothing like pip's setting {min(strange)}: pip installs.")
        return False
    if not by_pip(python, "uv"):
        return False
    options, variables = for_uv(settings)
    return succeeds(
        python,
        *("-m", "uv", "pip", "install", "--quiet", "--python", str(python)),
        *("--constraint", "constraints.txt", *options, "--editable", ".[dev]"),
        **variables,
    )


def by_pip(python: Path, *what: str) -> bool:
    """Install with pip, which reads its own settings."""
    quietly = ("-m", "pip", "install", "-qq", "--disable-pip-version-check")
    return succeeds(python, *quietly, "--constraint", "constraints.txt", *what)


def succeeds(python: Path, *words: str, **variables: str) -> bool:
    """Run Python with these words and with these environment variables besides."""
    environment = {**os.environ, **variables}
    return subprocess.run([python, *words], env=environment, check=False).returncode == 0


def settings_of(listed: str) -> dict[str, str]:
    """What ``pip config list`` says of installing, each setting once, as pip resolves them.

    Those of the section ``install`` are stronger than those of ``global``, and environment
    variables stronger than both.
    """
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        place, _, value = line.partition("=")
        section, _, name = place.partition(".")
        if section in found and name not in WITHOUT_EFFECT:
            found[section][name] = str(ast.literal_eval(value))
    return found["global"] | found["install"] | found[":env:"]


def for_uv(settings: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The same settings as options of ``uv pip install``, and as environment variables.

    As with pip, the best version of a package is taken, whichever index has it.
    """
    options, variables = ["--index-strategy", "unsafe-best-match"], {}
    for name, value in settings.items():
        if name in LISTS:
            options += [part for word in value.split() for part in (LISTS[name], word)]
        elif name in SWITCHES and value.lower() in ("1", "true", "yes", "on"):
            options.append(SWITCHES[name])
        elif variable := VARIABLES.get(name):
            variables[variable] = value
    return options, variables


if __name__ == "__main__":
    main(Path(sys.argv[1]))
