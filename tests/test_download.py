"""Downloads arrive whole, verified and once, whatever the server or another process does."""

from __future__ import annotations

import multiprocessing
import re
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests

from harness import data
from harness.bench.execute import Event
from harness.cli import options, verbs
from harness.data import Entry, load
from harness.data.download import fetch, fetch_each
from harness.data.series import value_hash

ROWS = 3000
FRAME = pd.DataFrame(
    {
        "date": pd.date_range("2020-01-01", periods=ROWS, freq="h"),
        "load": np.random.default_rng(0).normal(size=ROWS),
    }
)
CONTENT = FRAME.to_csv(index=False).encode()
TINY = Entry(
    name="tiny",
    stems=("tiny",),
    urls=(),
    megabytes=len(CONTENT) / 1e6,
    frequency="h",
    season=24,
    rows=ROWS,
    channels=1,
    hash=value_hash(
        ("load",),
        FRAME["date"].to_numpy("datetime64[us]").astype(np.int64),
        FRAME[["load"]].to_numpy(),
    ),
)


@dataclass
class Host:
    """A real HTTP server: what it answers, what it was asked for, and the faults to inject."""

    address: str = ""
    content: bytes = CONTENT
    asked: list[str | None] = field(default_factory=list)  # the Range of every request
    faults: list[str] = field(default_factory=list)  # one a request, from the first on
    can_resume: bool = True
    says_length: bool = True
    pace: float = 0.0  # seconds before an answer

    @property
    def url(self) -> str:
        return f"{self.address}/tiny.csv"


@pytest.fixture
def host() -> Iterator[Host]:
    """A server on this machine for the time of a test."""
    state = Host()
    pause = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            pause.wait(state.pace)
            asked = self.headers["Range"]
            state.asked.append(asked)
            fault = state.faults.pop(0) if state.faults else ""
            if fault.isdigit():
                self.send_error(int(fault))
                return
            start = int(asked.removeprefix("bytes=")[:-1]) if asked and state.can_resume else 0
            body = state.content[start:]
            if not body:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if state.says_length:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if fault == "silent":
                pause.wait(2.0)
            half = fault == "drop"
            self.wfile.write(body[: len(body) // 2] if half else body)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    pause.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small set is in the catalogue for the time of a test, and no proxy in between."""
    monkeypatch.setitem(data.CATALOGUE, "tiny", TINY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def silent(done: int, total: int | None) -> None:
    """Report progress to nobody."""


def get(host: Host, cache: Path, **options: object) -> Path:
    """Fetch the small set from the server, in no time."""
    settings = {"progress": silent, "urls": [host.url], "pause": 0.01, "timeout": 5.0, **options}
    return fetch(data.entry("tiny"), cache, **settings)  # type: ignore[arg-type]  # hyperparameters of several types


def rest(host: Host) -> int:
    """From which byte on the last request asked."""
    return int((host.asked[-1] or "bytes=0-").removeprefix("bytes=")[:-1])


def is_clean(cache: Path) -> bool:
    """Nothing in the cache but whole sets and locks."""
    names = {path.name for path in cache.iterdir()}
    return names <= {"tiny.csv", ".tiny.lock", "hashes.json", ".hashes.json.lock"}


def test_a_download_is_verified_and_loads(host: Host, tmp_path: Path) -> None:
    """The file gets its name, the set loads from the cache, and nothing else is left."""
    cache = tmp_path / "new" / "cache"
    assert get(host, cache) == cache / "tiny.csv"
    assert load("tiny", [], cache=cache).hash == TINY.hash
    assert is_clean(cache)


def test_progress_counts_the_bytes(host: Host, tmp_path: Path) -> None:
    """Rising to the length of the file; the total is None if the server does not say it."""
    seen: list[tuple[int, int | None]] = []

    def progress(done: int, total: int | None) -> None:
        seen.append((done, total))

    get(host, tmp_path / "a", progress=progress)
    assert seen == sorted(seen)
    assert seen.pop() == (len(CONTENT), len(CONTENT))
    host.says_length = False
    get(host, tmp_path / "b", progress=progress)
    assert seen.pop() == (len(CONTENT), None)


def test_what_is_there_is_not_downloaded_again(host: Host, tmp_path: Path) -> None:
    """A sound copy costs no request; a damaged one is replaced, in whatever form it is."""
    path = get(host, tmp_path)
    assert get(host, tmp_path) == path
    assert len(host.asked) == 1
    path.rename(tmp_path / "tiny.csv.gz")
    assert get(host, tmp_path) == path
    assert len(host.asked) == 2
    assert is_clean(tmp_path)


def test_a_dropped_connection_is_taken_up_where_it_broke(host: Host, tmp_path: Path) -> None:
    """The second request asks only for the rest."""
    host.faults = ["drop"]
    assert get(host, tmp_path).read_bytes() == CONTENT
    assert host.asked[0] is None
    assert 0 < rest(host) <= len(CONTENT) // 2


def test_a_download_goes_on_after_the_process_gave_up(host: Host, tmp_path: Path) -> None:
    """What a failed call left is continued by the next one, and is never taken for the set."""
    host.faults = ["drop"]
    with pytest.raises(ConnectionError, match=rf"broke off after \d+ of {len(CONTENT)} bytes"):
        get(host, tmp_path, retries=1)
    assert data.missing(["tiny"], [tmp_path]) == [TINY]
    assert get(host, tmp_path, retries=1).read_bytes() == CONTENT
    assert 0 < rest(host) <= len(CONTENT) // 2


def test_a_server_that_cannot_resume_is_asked_for_all(host: Host, tmp_path: Path) -> None:
    """A whole answer to a request for the rest replaces the partial file."""
    host.faults, host.can_resume = ["drop"], False
    assert get(host, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more", b"x" * 100, CONTENT[:500] + b"y"])
def test_a_partial_file_of_other_content_is_started_anew(
    host: Host, tmp_path: Path, left: bytes
) -> None:
    """Too long, or of something else: what was left does no harm."""
    (tmp_path / ".tiny.csv.part").write_bytes(left)
    assert get(host, tmp_path, retries=1).read_bytes() == CONTENT
    assert is_clean(tmp_path)


@pytest.mark.parametrize("fault", ["500", "503", "429", "drop", "silent"])
def test_passing_faults_are_tried_again(host: Host, tmp_path: Path, fault: str) -> None:
    """Server errors, too many requests, drops and silence may pass."""
    host.faults = [fault]
    assert get(host, tmp_path, timeout=0.5).read_bytes() == CONTENT
    assert len(host.asked) == 2


def test_lasting_faults_end_with_their_reason(host: Host, tmp_path: Path) -> None:
    """After the last try the error names the set, the address and what it said."""
    host.faults = ["503"] * 3
    with pytest.raises(ConnectionError, match=r"'tiny' did not arrive(.|\n)*tiny\.csv.*503"):
        get(host, tmp_path, retries=3)
    assert len(host.asked) == 3


def test_a_404_is_not_tried_again(host: Host, tmp_path: Path) -> None:
    """What is not there will not be there in a second."""
    host.faults = ["404"] * 4
    with pytest.raises(ConnectionError, match="404"):
        get(host, tmp_path)
    assert len(host.asked) == 1
    assert is_clean(tmp_path)


def test_the_next_address_is_tried(host: Host, tmp_path: Path) -> None:
    """A mirror stands in for an upstream that is gone or has another content."""
    host.faults = ["404"]
    assert get(host, tmp_path, urls=[host.url, host.url]).read_bytes() == CONTENT


def test_wrong_content_is_refused_and_not_kept(host: Host, tmp_path: Path) -> None:
    """One digit off: the error has both hashes, and the cache stays empty."""
    host.content = CONTENT.replace(b"2020-01-02 00:00:00,", b"2020-01-02 00:00:00,1")
    with pytest.raises(ConnectionError, match=rf"value hash expected {TINY.hash}, got"):
        get(host, tmp_path)
    assert is_clean(tmp_path)
    assert data.missing(["tiny"], [tmp_path]) == [TINY]


def test_a_file_cut_short_at_the_source_is_refused(host: Host, tmp_path: Path) -> None:
    """Complete as an answer, incomplete as a set; and the same where no length was said."""
    host.content = CONTENT[: len(CONTENT) // 2]
    with pytest.raises(ConnectionError, match="expected 3000 rows x 1 channels, got 1"):
        get(host, tmp_path)
    host.content, host.faults, host.says_length = CONTENT, ["drop"], False
    with pytest.raises(ConnectionError, match="expected 3000 rows x 1 channels, got 1"):
        get(host, tmp_path)
    assert is_clean(tmp_path)


def test_an_error_page_is_not_a_data_set(host: Host, tmp_path: Path) -> None:
    """A friendly page with status 200 is refused for what it is."""
    host.content = b"<html><body>Please log in</body></html>"
    with pytest.raises(ConnectionError, match="has no column 'date'"):
        get(host, tmp_path)


def test_nobody_there_is_a_clear_error(tmp_path: Path) -> None:
    """A refused connection names the address."""
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9/tiny\.csv: "):
        fetch(
            TINY,
            tmp_path,
            progress=silent,
            urls=["http://127.0.0.1:9/tiny.csv"],
            retries=2,
            pause=0,
        )


def test_an_unverified_set_is_remembered_from_its_download_on(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first content is what later copies are held to."""
    monkeypatch.setitem(data.CATALOGUE, "tiny", replace(TINY, hash=None))
    path = get(host, tmp_path)
    path.write_bytes(CONTENT.replace(b"2020-01-02 00:00:00,", b"2020-01-02 00:00:00,1"))
    with pytest.raises(ValueError, match=str(TINY.hash)):
        load("tiny", [], cache=tmp_path)


def test_a_damaged_memory_costs_no_copy(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken hashes.json is said to be broken; the data set beside it is left alone."""
    monkeypatch.setitem(data.CATALOGUE, "tiny", replace(TINY, hash=None))
    path = get(host, tmp_path)
    (tmp_path / "hashes.json").write_text("{")
    with pytest.raises(ValueError, match=r"hashes\.json is damaged"):
        get(host, tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_repaired_set_is_downloaded_as_its_original(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repair is done on loading; one file serves both names."""
    monkeypatch.setitem(data.CATALOGUE, "clean", replace(TINY, name="clean", cleans="tiny"))
    assert (
        fetch(data.entry("clean"), tmp_path, progress=silent, urls=[host.url])
        == tmp_path / "tiny.csv"
    )
    assert load("clean", [], cache=tmp_path).hash == TINY.hash


# --- several sets --------------------------------------------------------------------------------


@contextmanager
def no_bar(entry: Entry) -> Iterator[Callable[[int, int | None], None]]:
    """Show progress to nobody."""
    yield silent


def of(name: str, *urls: str) -> Entry:
    """The small set under another name, file and address."""
    return replace(TINY, name=name, stems=(name,), urls=urls)


NOBODY = "http://127.0.0.1:9"


def test_what_goes_wrong_with_one_set_costs_no_other(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is fetched and verified; each that does not arrive says why."""
    entries = [of("a", f"{host.address}/a.csv"), of("b", f"{host.address}/b.csv")]
    for entry in entries:
        monkeypatch.setitem(data.CATALOGUE, entry.name, entry)
    host.faults = ["404"]
    (_, refused), (_, path) = fetch_each(entries, tmp_path, bar=no_bar)
    assert "'a' did not arrive" in str(refused)
    assert "404" in str(refused)
    assert path == tmp_path / "b.csv"
    assert load("b", [], cache=tmp_path).hash == TINY.hash


def test_without_a_network_a_host_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many sets it has; and nothing is waited for."""
    asked = []
    head = requests.head

    def counted(url: str, **settings: Any) -> requests.Response:  # noqa: ANN401 - those of requests
        asked.append(url)
        return head(url, **settings)

    monkeypatch.setattr(requests, "head", counted)
    entries = [of(name, f"{NOBODY}/{name}.csv") for name in ("a", "b", "c")]
    answers = [got for _, got in fetch_each(entries, tmp_path, bar=no_bar)]
    assert answers == ["127.0.0.1:9 does not answer (ConnectionError)"] * 3
    assert len(asked) == 1


def test_a_set_comes_from_the_host_that_answers(host: Host, tmp_path: Path) -> None:
    """One that is down is passed over, without a try."""
    entry = of("tiny", f"{NOBODY}/tiny.csv", host.url)
    assert [got for _, got in fetch_each([entry], tmp_path, bar=no_bar)] == [tmp_path / "tiny.csv"]


SUITE = """\
seeds = [1]
methods = ["uniform"]

[[tasks]]
datasets = ["tiny", "gone", "const"]
look_back = 96
horizons = [24]
patches = 12
"""


@pytest.fixture
def bench(
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """What a bench prints that has two sets to fetch, of which one is there, and does no run."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "small.toml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "SUITES", Path("suites"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PATCHBENCH_DATA", raising=False)
    monkeypatch.delenv("PATCHBENCH_OFFLINE")
    monkeypatch.setitem(data.CATALOGUE, "tiny", of("tiny", host.url))
    monkeypatch.setitem(data.CATALOGUE, "gone", of("gone", f"{NOBODY}/gone.csv"))

    def nothing(*_: object) -> Generator[Event]:
        yield from ()

    monkeypatch.setattr(verbs, "_events", nothing)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with pytest.raises(SystemExit):
            verbs.main()
        return "".join(capsys.readouterr())

    return run


WORDS = ("bench", "--suite", "small", "--results", "results")


def test_a_bench_fetches_what_is_missing_and_runs_without_the_rest(
    host: Host, tmp_path: Path, bench: Callable[..., str]
) -> None:
    """Verified, into the cache; what cannot be had is named once, with the reason."""
    pytest.importorskip("torch")  # in which methods are looked at
    out = bench(*WORDS)
    assert (tmp_path / "cache" / "patchbench" / "tiny.csv").read_bytes() == CONTENT
    assert "Fetching tiny (" in out
    assert "127.0.0.1:9 does not answer (ConnectionError)" in out
    assert out.count("gone (") == 1
    order = ["3 of 3 runs to do", "CPU-hours", "Fetching tiny", "not here: gone (", "Begun, "]
    assert [out.index(words) for words in order] == sorted(out.index(words) for words in order)
    table = out[out.rindex("without data") :].splitlines()[2].split()
    assert table == [
        "·",
        "·",
        "·",
        "·",
        "1",
        "·",
        "·",
        "2",
    ]  # two runs are left, which this test keeps
    asked = len(host.asked)
    assert "Fetching" not in bench(*WORDS, "--datasets", "tiny")
    assert len(host.asked) == asked


@pytest.mark.parametrize("words", [("--offline",), ("--plan",), ("--offline", "--plan")])
def test_offline_and_in_a_plan_nothing_is_fetched(
    host: Host, tmp_path: Path, bench: Callable[..., str], words: tuple[str, ...]
) -> None:
    """A plan says what would be; offline, each set is named once."""
    pytest.importorskip("torch")  # in which methods are looked at
    out = bench(*WORDS, *words)
    assert host.asked == []
    assert not list((tmp_path / "cache").rglob("*.csv"))
    assert (out.count("tiny ("), out.count("gone (")) == (1, 1)
    assert ("Fetched first" in out) == ("--offline" not in words)


def test_make_data_fetches_all_it_can(host: Host, bench: Callable[..., str]) -> None:
    """One that is gone stops no other."""
    out = bench("data", "--datasets", "gone,tiny")
    assert re.search(r"tiny: .*tiny\.csv", out)
    assert out.endswith("error: gone: 127.0.0.1:9 does not answer (ConnectionError)\n")


def _fetch_in_process(url: str, cache: Path, start: Callable[[], object]) -> None:
    start()
    fetch(TINY, cache, progress=silent, urls=[url], pause=0.01)


def test_two_processes_download_once(host: Host, tmp_path: Path) -> None:
    """Both get the whole set; the server is asked once, although it is slow."""
    host.pace = 0.3
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [
        context.Process(target=_fetch_in_process, args=(host.url, tmp_path, barrier.wait))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(host.asked) == 1
    assert load("tiny", [], cache=tmp_path).hash == TINY.hash
    assert is_clean(tmp_path)


@pytest.mark.parametrize(
    "name", [n for n, found in data.CATALOGUE.items() if found.name != "tiny"]
)
def test_every_address_is_one_that_can_be_fetched(name: str) -> None:
    """Over https, to a form that can be read."""
    for url in data.entry(name).urls:
        assert url.startswith("https://")
        assert url.endswith((".csv", ".csv.gz", ".txt.gz"))
