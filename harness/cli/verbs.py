"""The verbs: ``python -m harness VERB``, or ``make VERB``, which also sets Python up.

The only place that reads environment variables. Each verb imports what it needs when it runs, so
that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import display, options, progress
from harness.cli.options import RESULTS, ROOT

if TYPE_CHECKING:
    from harness.bench.estimate import Guess
    from harness.bench.events import Slot
    from harness.bench.execute import Event
    from harness.bench.survey import Folders, PlannedRun
    from harness.core.job import Record
    from harness.data import Entry
    from harness.report.tracking import Tracker

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compare dynamic patching methods for time-series forecasting: one shared forecaster,"
    " only the patcher changes.",
)


def main() -> None:
    """Run a verb; what the user can put right is said in one line, with exit code 2."""
    try:
        app()
    except (ValueError, OSError) as error:
        display.stop(str(error))


@app.command()
def bench(
    suite: options.SuiteName = "quickstart",
    datasets: options.DataSets = "",
    look_backs: options.LookBacks = "",
    horizons: options.Horizons = "",
    methods: options.Methods = "",
    seeds: options.Seeds = "",
    data: options.Data = None,
    results: options.Results = RESULTS,
    jobs: options.Workers = None,
    per_gpu: options.PerGpu = 1,
    device: options.Device = "auto",
    executor: options.Executor = "local",
    address: options.Address = "auto",
    cpus: options.Cpus = 1,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which a run has failed.")
    ] = None,
    tracking_uri: options.Tracking = None,
    *,
    force: options.Force = False,
    plan: options.Plan = False,
    by: options.By = "dataset",
    offline: options.Offline = False,
    wait: options.Wait = False,
) -> None:
    """Run what is missing of a suite, then show its leaderboard."""
    from harness.bench import execute, watch
    from harness.bench.survey import survey, to_run
    from harness.core.files import writing

    folders, found = options.folders_of(results, data), options.find_suite(suite)
    selected = options.plan_of(found, datasets, look_backs, horizons, methods, seeds, results)
    where = partial(options.room_of, executor, address, device, jobs, per_gpu, cpus)
    lines = options.grouping(by)
    asked = {"SUITE": suite, "METHODS": methods}
    if plan:
        planned = survey(selected, folders)
        room, _ = where()
        display.show_plan(
            planned, lines, _guesses(planned, folders, room, force=force), room, asked
        )
        display.explain(planned, folders, fetches=not offline)
        return
    with ExitStack() as held:
        # In one order, so that two benches cannot wait for each other.
        for name in sorted({found.name, *(job.suite for job in selected)}):
            held.enter_context(watch.alone(results, name, display.tell_wait if wait else None))
        planned = survey(selected, folders)
        if not force and (adopted := execute.adopt(planned, folders)):
            display.say(
                f"{len(adopted)} runs had finished but had no row: taken from {folders.runs}."
            )
        room, on_ray = where() if _pending(planned, force=force) else (([], "cpu"), None)
        guesses = _guesses(planned, folders, room, force=force)
        display.announce(planned, lines, guesses, room, asked, folders)
        refused: dict[str, list[str]] = {}
        if not offline and (absent := display.absent(planned)):
            refused = _fetch(absent, folders)
            planned = survey(selected, folders)
            guesses = _guesses(planned, folders, room, force=force)
        display.explain(planned, folders, [*refused])
        due = to_run(planned, force=force)
        finished: list[Record] = []
        try:
            if due:
                events = _events(found.name, due, folders, room, on_ray, timeout, tracking_uri)
                progress.follow(events, due, guesses, len(room[0]), finished)
        except KeyboardInterrupt:
            display.show_summary(planned, due, finished, folders)
            left = f"{len(due) - len(finished)} of {len(due)} runs are left"
            display.say(f"Interrupted: {left}; the same command goes on from here.")
            raise typer.Exit(INTERRUPTED) from None
        display.show_summary(planned, due, finished, folders)
        rows = {run.job.suite for run in planned if run.state == "done"}
        rows |= {record.suite for record in finished}
        with writing(results):
            for name in sorted(rows - {found.name}):  # pre-trainings are of another one
                _write_leaderboard(results / name)
            if found.name in rows:
                _show_leaderboard(results / found.name)
    raise typer.Exit(_exit_code(planned, finished))


@app.command()
def status(
    suite: options.SuiteName = "quickstart",
    datasets: options.DataSets = "",
    look_backs: options.LookBacks = "",
    horizons: options.Horizons = "",
    methods: options.Methods = "",
    seeds: options.Seeds = "",
    data: options.Data = None,
    results: options.Results = RESULTS,
    by: options.By = "dataset",
) -> None:
    """Say how much of a suite is done, and what is going on."""
    from harness.bench import watch
    from harness.bench.survey import survey

    folders, found = options.folders_of(results, data), options.find_suite(suite)
    going = watch.progress(results, found.name)
    selected = options.plan_of(found, datasets, look_backs, horizons, methods, seeds, results)
    planned = survey(selected, folders)
    running = {run.key for run in going.running} if going else set()
    display.show_runs(planned, options.grouping(by), running=running)
    display.explain(planned, folders)
    display.show_failures(planned)
    display.show_stale(planned)
    display.show_blocked(planned)
    display.show_progress(going, watch.holder(results, found.name))


@app.command()
def leaderboard(
    suite: options.SuiteName = "quickstart",
    results: options.Results = RESULTS,
    *,
    check: options.Check = False,
) -> None:
    """Write and show the leaderboard of a suite from its rows."""
    from harness.report import excerpts

    documents = excerpts.documents(ROOT)
    if check:
        if old := excerpts.stale(documents, results):
            names = ", ".join(os.path.relpath(path) for path in old)
            display.stop(
                f"stale: {names}. Bring up to date with make leaderboard SUITE=...", code=1
            )
        display.say("Every leaderboard and every excerpt of one is up to date.")
        return
    _show_leaderboard(results / options.name_of(suite))
    if results.resolve() == RESULTS.resolve():
        for document in documents:
            excerpts.update(document, results)


@app.command()
def export(
    suite: options.SuiteName = "zero_shot",
    form: options.Format = "fev",
    out: options.Out = None,
    results: options.Results = RESULTS,
) -> None:
    """Write the rows of a zero-shot suite in the form of another benchmark's results."""
    from harness.report.tables import MADE
    from harness.report.zero_shot.export import export

    folder = results / options.name_of(suite)
    for file in export(folder, form, out or folder / MADE / "export" / form):
        lacking = f", {file.missing} tasks missing" if file.missing else ""
        display.say(f"{file.path}: {file.rows} tasks{lacking}")


@app.command()
def validate(results: options.Results = RESULTS) -> None:
    """Hold every row to its suite, its budget and the code here; name all that is wrong."""
    from harness.bench import audit

    problems = audit.validate(results, options.SUITES)
    for problem in problems:
        display.say(str(problem))
    if problems:
        display.stop(f"{len(problems)} problems with the rows in {results}", code=1)
    display.say(f"Every row in {results} is of a run that its suite plans, as it stands.")


@app.command()
def rerun(
    key: Annotated[str, typer.Option("--key", help="The last column of the row.")],
    results: options.Results = RESULTS,
    data: options.Data = None,
    device: options.Device = "auto",
) -> None:
    """Do the run of a row again, and compare what it measures; the row stays as it is."""
    from harness.bench import audit
    from harness.bench.provenance import provenance
    from harness.core.job import job_of
    from harness.results.compare import measured_differences

    folders = options.folders_of(results, data)
    record = audit.find(key, results)
    slots, kind = options.slots_of(device, 1)
    with progress.progress_bars() as bars:
        repeated = audit.rerun(
            record,
            slot=slots[0],
            # Among the bundles is the artefact that it may start from.
            directories=(*folders.data, folders.cache, folders.runs),
            device=kind,
            provenance=provenance(ROOT),
            on_epoch=progress.tell_epoch(progress.bar(bars, str(job_of(record)))),
        )
    for what in ("device", "versions", "commit"):
        then, now = getattr(record, what), getattr(repeated, what)
        if then != now:
            display.say(f"Other {what}: {then} -> {now}", "yellow")
    found = measured_differences(record, repeated)
    for difference in found:
        display.say(str(difference), "red")
    if found:
        display.stop(f"{len(found)} columns of {key} are not what they were", code=1)
    error = next(
        f"{name} {value}"
        for name in ("mse", "mase", "valid_loss")
        if (value := getattr(repeated, name)) is not None
    )
    display.say(f"{key}: the same to the last digit, {error}.")


@app.command()
def merge(
    source: Annotated[Path, typer.Option("--from", help="Folder of the other results.")],
    results: options.Results = RESULTS,
) -> None:
    """Take in the rows of another results folder that are not here; refuse what contradicts."""
    from harness.bench import merge

    merged = merge.merge(source, results)
    display.say(
        f"Taken from {source}: {merged.taken} rows and {merged.bundles} bundles; {merged.there}"
        " rows were here before. make leaderboard SUITE=... ranks them."
    )


@app.command()
def data(
    datasets: options.DataSets = "",
    suite: Annotated[str, typer.Option("--suite", help="Those of this suite.")] = "",
    directories: options.Data = None,
) -> None:
    """Download data sets; without --datasets or --suite, list all there are."""
    from harness.data import CATALOGUE, entry, missing

    folders = options.folders_of(RESULTS, directories)
    if not datasets and not suite:
        display.list_data(folders)
        return
    names = options.words(datasets) or options.find_suite(suite).datasets
    published = [name for name in names if name in CATALOGUE]
    for name in names:
        if name not in published and not suite:
            entry(name)  # says why there is nothing to download
    absent = missing(published, folders.data, cache=folders.cache)
    if refused := _fetch(absent, folders):
        said = (f"{', '.join(names)}: {why}" for why, names in refused.items())
        display.stop("\n".join(said), code=1)
    if not absent:
        display.say("Nothing to download: every data set is at hand.")


@app.command()
def check(
    method: Annotated[str, typer.Option("--method", help="A file of methods/.")],
) -> None:
    """Put a method through the promises that every method keeps."""
    from harness.model import registry
    from harness.studies import checks

    found = registry.find(method)
    for name, text in vars(registry.card(found)).items():
        display.say(f"{name:<9} {text}")
    promises = checks.check(found)
    display.say(checks.report(promises))
    raise typer.Exit(0 if all(promise.kept for promise in promises) else 1)


@app.command()
def methods() -> None:
    """List every method with its track and what it does."""
    from harness.data import user_cache
    from harness.model.declared import Declarations

    lines, broken = [], []
    with closing(Declarations(user_cache())) as known:
        for name in known.names:
            try:
                card = known.of(name).card
                lines.append((name, card.track, card.summary))
            except ValueError as error:
                lines.append((name, "cannot be used", ""))
                broken.append(str(error))
    display.show_table(("method", "track", "what it does"), lines)
    for why in broken:
        display.say(f"error: {why}", "red")
    raise typer.Exit(int(bool(broken)))


@app.command()
def tune(
    suite: options.SuiteName = "quickstart",
    methods: options.Methods = "",
    datasets: options.DataSets = "",
    look_backs: options.LookBacks = "",
    horizons: options.Horizons = "",
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Settings tried for each method and task; else the suite's."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            envvar="PATCHBENCH_STORAGE",
            help="Database of the trials, postgresql://...; else files in the results.",
        ),
    ] = None,
    data: options.Data = None,
    results: options.Results = RESULTS,
    jobs: options.Workers = None,
    device: options.Device = "auto",
    tracking_uri: options.Tracking = None,
) -> None:
    """Search hyperparameters, the same number of trials for each method, on validation data."""
    from harness.bench import execute, local, tune, watch
    from harness.bench.provenance import provenance

    slots, kind = options.slots_of(device, jobs)
    folders, found = options.folders_of(results, data), options.find_suite(suite)
    tuning = found.tuning
    selected = options.plan_of(found, datasets, look_backs, horizons, methods, "")
    with watch.alone(results, found.name):
        tracker = _tracker(results, found.name, tracking_uri, {job.method for job in selected})
        try:
            written = tune.tune(
                selected,
                partial(local.run_locally, slots=slots, modules=execute.MODULES),
                tuning=tuning if trials is None else replace(tuning, trials=trials),
                results=results,
                directories=(*folders.data, folders.cache),
                provenance=provenance(ROOT),
                storage=storage,
                device=kind,
                on_trial=display.tell_trial,
                track=None if tracker is None else tracker.study,
                warn=display.warn,
            )
        except KeyboardInterrupt:
            display.say("Interrupted: the same command goes on from here.")
            raise typer.Exit(INTERRUPTED) from None
    for path in written:
        display.say(f"Chosen: {path}")


@app.command()
def hindsight(
    suite: options.SuiteName = "quickstart",
    datasets: options.DataSets = "",
    look_backs: options.LookBacks = "",
    horizons: options.Horizons = "",
    plans: Annotated[int, typer.Option(min=1, help="Random plans to choose from.")] = 64,
    windows: Annotated[int, typer.Option(min=1, help="Test windows of a task, at most.")] = 1000,
    data: options.Data = None,
    results: options.Results = RESULTS,
    device: options.Device = "auto",
) -> None:
    """Show what the best of many random plans would gain, chosen with hindsight: never ranked."""
    from harness.bench.survey import survey
    from harness.studies import hindsight

    folders, of = options.folders_of(results, data), options.find_suite(suite)
    methods = f"{hindsight.RANDOM},{hindsight.UNIFORM}"
    jobs = options.plan_of(of, datasets, look_backs, horizons, methods, "", results)
    planned = survey(jobs, folders)
    found, left_out = hindsight.find(
        [(run.job, run.record) for run in planned if run.record and run.state == "done"],
        of.name,
        folders.runs,
    )
    for why in left_out:
        display.say(f"Left out: {why}.", "yellow")
    _, kind = options.slots_of(device, None)
    path = results / of.name / "hindsight" / "curve.csv"
    with progress.progress_bars() as bars:
        for backbones in found:
            measured = hindsight.measure(
                backbones,
                directories=(*folders.data, folders.cache),
                plans=plans,
                sample=windows,
                device=kind,
                progress=progress.bar(bars, str(backbones.task)),
            )
            table = hindsight.write(path, measured)
    display.show_hindsight(table, path)


@app.command()
def perf(
    results: options.Results = RESULTS,
    data: options.Data = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each side, taking turns.")] = 9,
    *,
    patchers: options.Patchers = False,
    peers: options.Peers = "",
    device: options.Device = "auto",
) -> None:
    """Measure speed against a loop like the official PatchTST loop, and what patchers cost."""
    from harness.studies import perf

    folders = options.folders_of(results, data)
    perf.main(
        results,
        (*folders.data, folders.cache),
        device=device,
        rounds=rounds,
        only_patchers=patchers,
        peers=[perf.find(Path(peer)) for peer in options.words(peers)],
    )


@app.command()
def simulate(
    results: options.Results = RESULTS,
    tables: Annotated[int, typer.Option(min=1, help="Made-up leaderboards for a number.")] = 4000,
) -> None:
    """Measure on made-up leaderboards how often a verdict is wrong, and how often it is missed."""
    from harness.studies import simulation

    display.say(f"Written: {simulation.main(results, tables)}")


@app.command()
def chaos(
    jobs: Annotated[int, typer.Option(min=4, help="Runs of the bench that is killed.")] = 200,
    kills: Annotated[int, typer.Option(min=1, help="Kills of it and of its workers.")] = 20,
) -> None:
    """Kill a bench at many random moments and see that nothing is lost; show what a run costs."""
    from harness.studies import chaos, scale

    bench = (sys.executable, "-m", "harness", "bench")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        report = chaos.chaos(place / "chaos", bench, jobs=jobs, kills=kills, seed=1)
        display.say(str(report))
        display.say(str(scale.schedule(place / "nothing", 10_000)))
        rows, seconds = scale.read(scale.write_suite(place / "many"))
        display.say(f"{rows:,} rows are read in {seconds:.1f} s.")
    raise typer.Exit(int(report.lost))


@app.command()
def track(
    suite: options.SuiteName = "quickstart",
    results: options.Results = RESULTS,
    tracking_uri: options.Tracking = None,
) -> None:
    """Log in MLflow the runs and searches of a suite that are not there yet."""
    from harness.bench import watch
    from harness.report import tracking

    name = options.name_of(suite)
    if not results.is_dir():
        raise ValueError(f"there is no folder {results}")
    with watch.alone(results, name):
        tracker = _opened_tracker(results, name, tracking_uri, ())
        with progress.progress_bars() as bars:
            done = tracking.fill(
                results,
                name,
                tracking_uri,
                cards=tracker.cards,
                progress=progress.bar(bars, name),
            )
    for why in done.refused:
        display.warn(f"left out: {why}")
    display.say(f"Runs and searches of {name!r}: {done.logged} logged, {done.there} there before.")


@app.command()
def ui(
    suite: Annotated[str, typer.Option("--suite", help="This one alone.")] = "",
    results: options.Results = RESULTS,
    port: Annotated[int, typer.Option(help="On 127.0.0.1.")] = 5000,
    tracking_uri: options.Tracking = None,
) -> None:
    """Open the tracked runs in MLflow's own pages."""
    from harness.report import serving, tracking

    if tracking_uri is None and (names := tracking.suites_of_bundles(results)):
        _opened_tracker(results, names[0], None, ())
    # A desktop has a window for it; on a terminal without one a browser might take that over.
    is_desktop = sys.platform in {"darwin", "win32"} or bool(
        {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    )
    serving.serve(
        results,
        port,
        tracking_uri,
        suite=options.name_of(suite) if suite else "",
        tell=partial(display.tell_pages, is_open=is_desktop and sys.stdout.isatty()),
        # Of a make that is killed outright nothing else would tell.
        parent=os.getppid() if "MAKELEVEL" in os.environ else None,
    )


# --- how a verb works ----------------------------------------------------------------------------


def _pending(planned: Sequence[PlannedRun], *, force: bool) -> list[PlannedRun]:
    """What is to do, now or once its data set is at hand."""
    from harness.bench.survey import to_run

    return to_run(planned, force=force, fetched=True)


def _guesses(
    planned: Sequence[PlannedRun],
    folders: Folders,
    room: tuple[list[Slot], str],
    *,
    force: bool,
) -> dict[str, Guess]:
    """What each run that is to do may take, by its key."""
    from harness.bench.estimate import estimate

    pending = _pending(planned, force=force)
    guesses = estimate(pending, (folders.results, RESULTS), device=room[1])
    return {run.key: guess for run, guess in zip(pending, guesses, strict=True)}


def _fetch(absent: Sequence[Entry], folders: Folders) -> dict[str, list[str]]:
    """Download what can be; return why something cannot, each reason with the sets it is of."""
    from harness.data import fetch_each

    refused: dict[str, list[str]] = {}
    files = {entry.stems: entry for entry in absent}  # one serves a set and what is made of it
    for entry, got in fetch_each([*files.values()], folders.cache, bar=progress.download_bar):
        if isinstance(got, str):
            refused.setdefault(got, []).append(entry.name)
        else:
            display.say(f"{entry.name}: {got}")
    return refused


def _events(
    suite: str,
    due: Sequence[PlannedRun],
    folders: Folders,
    room: tuple[list[Slot], str],
    on_ray: Callable[..., Any] | None,
    timeout: float | None,
    tracking_uri: str | None,
) -> Generator[Event]:
    from harness.bench import execute, local
    from harness.bench.provenance import provenance
    from harness.cli import first_look

    slots, kind = room
    origin = provenance(ROOT)
    work = partial(execute.run_planned, device=kind, provenance=origin)
    directories = (*folders.data, folders.cache)
    if on_ray is None:
        work = partial(work, directories=directories, runs=folders.runs)
        executor = partial(local.run_locally, slots=slots, modules=execute.MODULES)
    else:
        executor = partial(
            on_ray,
            runs=folders.runs,
            directories=directories,
            needs=partial(_lent, folders=folders, directories=directories),
        )
    executor = partial(
        executor,
        work=work,
        timeout=timeout,
        key=lambda run: run.key,
        after=lambda run: run.needs,
        flaw=execute.flaw,
    )
    track = _tracking(due, folders, tracking_uri)
    events = execute.execute(due, executor, folders, origin, suite=suite, device=kind, track=track)
    return first_look.looking(events, due)


def _lent(run: PlannedRun, folders: Folders, directories: Sequence[Path]) -> list[Path]:
    """What a node has to have for a run: its data file, and the bundle that it starts from."""
    from harness.data import file_of, find_panel

    files = [find_panel(file, directories) for file in run.files]
    if not run.files and run.job.stage not in ("pretrain", "zero_shot"):
        files = [file_of(run.job.task.dataset, directories, run.job.source)]
    bundle = folders.runs / run.needs if run.needs else None
    return [path for path in (*files, bundle) if path is not None]


def _tracking(
    due: Sequence[PlannedRun], folders: Folders, uri: str | None
) -> Callable[[Path], object] | None:
    """What logs a bundle in the experiment of its suite; None where nothing can be tracked."""
    suites = {run.key: run.job.suite for run in due}
    trackers = {
        suite: _tracker(
            folders.results, suite, uri, {run.job.method for run in due if run.job.suite == suite}
        )
        for suite in sorted(set(suites.values()))
    }
    known = {suite: tracker for suite, tracker in trackers.items() if tracker is not None}
    if len(known) < len(trackers):
        return None
    return lambda bundle: known[suites[bundle.name]].record(bundle)


def _tracker(
    results: Path, suite: str, uri: str | None, methods: Collection[str]
) -> Tracker | None:
    # Before the workers start: two processes that create one MLflow store at a time both fail.
    try:
        return _opened_tracker(results, suite, uri, methods)
    except Exception as error:  # noqa: BLE001 - results do not depend on it
        display.warn(f"Nothing is tracked: {error}")
        return None


def _opened_tracker(
    results: Path, suite: str, uri: str | None, methods: Collection[str]
) -> Tracker:
    """A tracker; a local store that had to be made is filled from the bundles, under a bar."""
    from harness.report import store, tracking

    cards = _cards({*methods, *(path.stem for path in results.glob("*/*.csv"))})
    with progress.progress_bars() as bars:
        bar = progress.bar(bars, "bundles to MLflow")
        tracker = tracking.open_tracker(results, suite, uri, cards=cards, progress=bar)
    if tracker.flaw:
        display.warn(
            f"{results / store.STORE} {tracker.flaw}: put aside as {store.STORE}{store.ASIDE}, and"
            " filled anew from the bundles."
        )
    return tracker


def _exit_code(planned: Sequence[PlannedRun], finished: Sequence[Record]) -> int:
    from harness.bench.survey import blocked

    failed = any(record.status == "failed" for record in finished)
    held = bool(blocked(planned, finished))
    broken = any(run.state == "broken" for run in planned)
    nothing = not finished and not any(run.state == "done" for run in planned)
    return int(failed or held or broken or nothing)


def _write_leaderboard(folder: Path) -> list[Path]:
    """Write the tables, the figures and the page of a suite; the leaderboard's path is first."""
    from harness.report import kinds

    # A selection leaves holes; they are named on the page.
    return kinds.write(folder, **_words_for_page(folder))


def _show_leaderboard(folder: Path) -> None:
    """Write what there is to see of a suite; print the leaderboard, name the page."""
    from harness.report.page import PAGE

    text, *made = _write_leaderboard(folder)
    display.say(text.read_text(encoding="utf-8"))
    for page in (path for path in made if path.name == PAGE):
        display.say(f"Page: {page}")
    elsewhere = f" RESULTS={folder.parent}" if folder.parent.resolve() != RESULTS.resolve() else ""
    display.say(f"Runs and learning curves in MLflow: make ui SUITE={folder.name}{elsewhere}")


def _words_for_page(folder: Path) -> dict[str, Any]:
    """What the suite and its methods say of themselves, as far as they are in this checkout."""
    is_suite = (options.SUITES / f"{folder.name}.toml").exists()
    return {
        "about": options.find_suite(folder.name).description if is_suite else "",
        "cards": _cards(_with_rows(folder)),
    }


def _with_rows(folder: Path) -> set[str]:
    """The methods that have rows in the folder of a suite."""
    from harness.results.table import row_files

    return {path.stem for path in row_files(folder)}


def _cards(methods: Collection[str]) -> dict[str, dict[str, str]]:
    """What methods say of themselves, of those that are in this checkout and can be loaded."""
    from harness.data import user_cache
    from harness.model.declared import Declarations

    cards = {}
    with closing(Declarations(user_cache())) as known:
        for name in set(methods) & set(known.names):
            with suppress(ValueError):  # it cannot be loaded: its rows are shown all the same
                cards[name] = vars(known.of(name).card)
    return cards
