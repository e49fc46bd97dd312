"""One run, from capture files to a report: read, decode, judge, tell, and swap the whole into place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import date
from pathlib import Path

from lmtrace import bindings, config
from lmtrace.bindings import Binding
from lmtrace.config import Config
from lmtrace.errors import ConfigError, UsageError
from lmtrace.replay import replay
from lmtrace.rule import Rule, rules, select
from lmtrace.run import Run, open_run
from lmtrace.session import Options
from lmtrace.stage import Request, decoders, format_of
from lmtrace.store import Capture, Store
from lmtrace.summary import Settings, write_summary
from lmtrace.tables import TABLES
from lmtrace.tlp_table import Payload, Seen, write_tlps
from lmtrace.trouble import Troubles
from lmtrace.units import parse_time

Paths = str | Path | Sequence[str | Path]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0 when that is not known)."""


def check(
    paths: Paths, *, output: str | Path | None = None, binding: str | Path | Binding | None = None,
    config: str | Path | Config | None = None, select: str | None = None, ignore: str | None = None,
    profile: str | None = None, rules: str | Path | None = None, first: str | int | None = None,
    last: str | int | None = None, payload: Payload = "control", strict: bool = False,
    progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Judge captures, which together are one investigation, and return the run.

    Leaves tables, ``summary.json`` and reports in ``output``, by default ``<first capture>.lmtrace`` beside it.
    ``select``, ``ignore`` and ``profile`` choose rules, ``rules`` is a folder of further rule files. ``first`` and
    ``last`` (``"5us"``, or picoseconds) bound what is judged; all of the capture is decoded. ``strict`` makes a
    broken warning break the verdict. Raises LmtraceError for what the user can mend.
    """
    files = _files(paths)
    settings = _config(config, files)
    chosen = _chosen(settings, select, ignore, profile, None if rules is None else Path(rules))
    window = _window(first, last)
    limits = _options(settings)
    waivers, expired = settings.waivers_on(date.today())
    with Store(_target(files, output)) as store:
        seen = _decode(store, files, _binding(binding, settings), payload, progress)
        _tell(progress, "judging")
        replay(store, chosen, first_ps=window[0], last_ps=window[1], options=limits, waivers=waivers)
        said = Settings(
            strict=strict, select=select, ignore=ignore, profile=profile, first_ps=window[0],
            last_ps=window[1], config=settings.source, waivers=waivers, expired=expired,
        )  # fmt: skip
        return _finish(store, seen, said, progress)


def decode(
    paths: Paths, *, output: str | Path | None = None, binding: str | Path | Binding | None = None,
    config: str | Path | Config | None = None, payload: Payload = "control",
    progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Decode captures into tables and judge nothing; otherwise as `check`."""
    files = _files(paths)
    settings = _config(config, files)
    with Store(_target(files, output)) as store:
        seen = _decode(store, files, _binding(binding, settings), payload, progress)
        return _finish(store, seen, Settings(judged=False, config=settings.source), progress)


def find_interfaces(path: str | Path) -> str:
    """Return a binding to start from, as TOML text that says what was found in a capture and how surely."""
    (file,) = _files(path).values()
    return format_of(file).find(Request(file, None, Troubles(file.name)))


def _decode(
    store: Store, files: dict[str, Path], binding: Binding | None, payload: Payload, progress: Progress | None
) -> Seen:
    """Read every capture and run every decoder; afterwards all tables but the judgement's can be read."""
    for name, file in files.items():
        store.captures.append(_read(store, name, file, binding, progress))
    for stage in decoders():
        _tell(progress, f"decoding {stage.name}")
        stage.run(store)
        store.finish_tables()
    _tell(progress, "writing tables")
    seen = write_tlps(store, payload)
    store.finish_tables()
    return seen


def _read(store: Store, name: str, file: Path, binding: Binding | None, progress: Progress | None) -> Capture:
    """Put the TLPs of one capture into the store."""
    troubles = Troubles(name)

    def told(done: int, total: int) -> None:
        _tell(progress, f"reading {name}", done, total)

    form = format_of(file)
    reader = form.open(Request(file, binding, troubles, told))
    capture = Capture(name, form.name, reader.links, troubles, first_tlp=store.tlp_count)
    for chunk in reader.chunks():
        store.append_tlps(chunk)
        if len(chunk.rows):
            capture.duration_ps = max(capture.duration_ps, int(chunk.rows["end_ps"].max()))
    capture.links = reader.links
    capture.end_tlp = store.tlp_count
    return capture


def _finish(store: Store, seen: Seen, settings: Settings, progress: Progress | None) -> Run:
    """Write what is left, the summary and the reports, and swap the folder in."""
    from lmtrace.report import html, markdown

    store.write("troubles", [row for one in store.captures for row in one.troubles.rows()])
    for name in TABLES:
        if not (store.folder / f"{name}.parquet").exists():
            store.writer(name)
    store.finish_tables()
    _tell(progress, "writing reports")
    write_summary(store, seen, settings)
    if settings.judged:
        run = Run(store.folder)
        (store.folder / "report.html").write_text(html.render(run), encoding="utf-8", newline="\n")
        (store.folder / "report.md").write_text(markdown.render(run), encoding="utf-8", newline="\n")
    store.commit()
    return open_run(store.target)


def _chosen(
    settings: Config, words: str | None, ignore: str | None, profile: str | None, folder: Path | None
) -> list[Rule]:
    pool = rules(folder)
    if profile is not None and profile in settings.profiles:
        pool, profile = select(pool, settings.profiles[profile]), None
    return select(pool, words, ignore, profile)


def _files(paths: Paths) -> dict[str, Path]:
    """Return the captures by the name they have in the tables: the file's, with folders where that is not enough."""
    files = [Path(one) for one in ([paths] if isinstance(paths, str | Path) else paths)]
    if not files:
        raise UsageError("no capture was named")
    for file in files:
        if file.is_dir():
            hint = "; open it with lmtrace report or log" if file.suffix == ".lmtrace" else ""
            raise UsageError(f"{file} is a folder, not a capture{hint}")
        if not file.is_file():
            raise UsageError(f"{file} does not exist")
    places = [file.resolve() for file in files]
    if len(set(places)) < len(places):
        raise UsageError("the same capture was named twice")
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    text = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    return dict(zip(text, files, strict=True))


def _target(files: dict[str, Path], output: str | Path | None) -> Path:
    """Return the run's folder. Raises UsageError for a name that Parquet files cannot have."""
    first = next(iter(files.values()))
    target = first.with_name(first.name + ".lmtrace") if output is None else Path(output)
    try:
        str(target).encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"the folder {target} has a name that is not UTF-8; name another place with -o") from None
    return target


def _config(given: str | Path | Config | None, files: dict[str, Path]) -> Config:
    if isinstance(given, Config):
        return given
    if given is not None:
        return config.load(Path(given))
    return config.load_nearest(next(iter(files.values())).parent, Path.cwd())


def _binding(given: str | Path | Binding | None, settings: Config) -> Binding | None:
    if given is None:
        return settings.binding
    return given if isinstance(given, Binding) else bindings.load(Path(given))


def _options(settings: Config) -> Options:
    """Return the observation limits that the configuration sets, and the default ones."""
    known = {one.name.removesuffix("_ps"): one.name for one in fields(Options)}
    values: dict[str, int] = {}
    for key, value in settings.options.items():
        if key not in known:
            raise ConfigError(f"{settings.source}: no option {key!r}; there are: {', '.join(known)}")
        try:
            values[known[key]] = parse_time(str(value))
        except ValueError as error:
            raise ConfigError(f"{settings.source}: options.{key}: {error}") from None
    return Options(**values)


def _window(first: str | int | None, last: str | int | None) -> tuple[int | None, int | None]:
    try:
        start, end = (parse_time(one) if isinstance(one, str) else one for one in (first, last))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if start is not None and end is not None and end < start:
        raise UsageError(f"nothing lies between {first} and {last}: the end is before the start")
    return start, end


def _tell(progress: Progress | None, what: str, done: int = 0, total: int = 0) -> None:
    if progress is not None:
        progress(what, done, total)
