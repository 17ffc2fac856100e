"""Published sets from the network into the cache: whole, verified and once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import requests

from harness.core.files import locked
from harness.core.source import form_of
from harness.data import copies
from harness.data.published import Entry

Progress = Callable[[int, int | None], None]

_PASSING = (408, 429, 500, 502, 503, 504)  # answers of a server that may change its mind


def fetch(
    entry: Entry,
    cache: Path,
    *,
    progress: Progress,
    urls: Sequence[str] | None = None,
    retries: int = 4,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Put a published set into ``cache`` and return its path, at once if a sound copy is there.

    It arrives in a partial file, is verified there, and only then gets its name. A partial file of
    an earlier try is continued. Two processes that want the same set do not download it twice.
    ``progress`` is called with the bytes here and the bytes in all, None if the server does not
    say. Each url gets ``retries`` tries, ``pause``, 2 ``pause``, 4 ``pause`` ... seconds apart; a
    silence of ``timeout`` seconds ends a try.

    Raises:
        ConnectionError: no url gave the set; the message has the reason for each.
        ValueError: the cache's memory of hashes is damaged.
    """
    cache.mkdir(parents=True, exist_ok=True)
    copies.remembered(entry.name, cache)  # if that is damaged, no copy is to blame
    with locked(cache / entry.stems[0]):
        there = copies.find(entry, [cache])
        if there is not None:
            if _is_sound(entry, there, form_of(there.name), cache):
                return there
            there.unlink()
        failures = []
        for url in entry.urls if urls is None else urls:
            form = form_of(url)
            part = cache / f".{entry.stems[0]}{form}.part"
            try:
                continued = part.exists()
                _receive(url, part, progress, retries, pause, timeout)
                if continued and not _is_sound(entry, part, form, cache):
                    part.unlink()  # the earlier try was of other content
                    _receive(url, part, progress, retries, pause, timeout)
                copies.read(entry, part, form, cache)
            except ValueError as error:
                part.unlink(missing_ok=True)
                failures.append(f"{url}: {error}")
            except OSError as error:
                failures.append(f"{url}: {error}")
            else:
                return part.replace(cache / f"{entry.stems[0]}{form}")
        raise ConnectionError(f"data set {entry.name!r} did not arrive\n" + "\n".join(failures))


def fetch_each(
    entries: Sequence[Entry],
    cache: Path,
    *,
    bar: Callable[[Entry], AbstractContextManager[Progress]],
    patience: float = 5.0,
) -> Iterator[tuple[Entry, Path | str]]:
    """:func:`fetch` one set after another; yield each with its path, or why it did not arrive.

    What goes wrong with one costs no other. A host is first asked for a sign of life, once, and
    has ``patience`` seconds to give it: without a network no set is waited for in vain. ``bar``
    opens what shows the progress of a set.
    """
    silent: dict[str, str] = {}  # by host: why nothing is asked of it, or nothing
    for entry in entries:
        for url in entry.urls:
            host = urlsplit(url).netloc
            if host not in silent:
                silent[host] = _why_silent(url, patience)
        urls = [url for url in entry.urls if not silent[urlsplit(url).netloc]]
        if not urls:
            hosts = dict.fromkeys(urlsplit(url).netloc for url in entry.urls)
            yield entry, "; ".join(f"{host} does not answer ({silent[host]})" for host in hosts)
            continue
        try:
            with bar(entry) as progress:
                path = fetch(entry, cache, progress=progress, urls=urls)
        except (OSError, ValueError) as error:
            yield entry, str(error)
        else:
            yield entry, path


def _why_silent(url: str, patience: float) -> str:
    """Why the host cannot be reached; nothing where it can, whatever it answers."""
    try:
        requests.head(url, timeout=patience, allow_redirects=False)
    except requests.RequestException as error:
        return type(error).__name__
    return ""


def _is_sound(entry: Entry, path: Path, form: str, cache: Path) -> bool:
    try:
        copies.read(entry, path, form, cache)
    except ValueError:
        return False
    return True


def _receive(
    url: str, part: Path, progress: Progress, retries: int, pause: float, timeout: float
) -> None:
    for attempt in range(1, retries + 1):
        try:
            _receive_rest(url, part, progress, timeout)
        except OSError as error:
            if attempt == retries or (
                isinstance(error, requests.HTTPError)
                and error.response.status_code not in _PASSING
            ):
                raise
            time.sleep(pause * 2 ** (attempt - 1))
        else:
            return


def _receive_rest(url: str, part: Path, progress: Progress, timeout: float) -> None:
    """Append what ``part`` lacks, or write it anew where the server cannot continue."""
    done = part.stat().st_size if part.exists() else 0
    # Unpacked on the way, a file would have another length than the one the server says.
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # it is as long as the whole, or longer
            return _receive_rest(url, part, progress, timeout)
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            done = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        try:
            with part.open("ab" if done else "wb") as file:
                for block in answer.iter_content(1 << 14):
                    file.write(block)
                    done += len(block)
                    progress(done, total)
        except requests.RequestException as error:
            raise ConnectionError(f"broke off after {done} of {total or '?'} bytes") from error
