"""One run, from capture files to a report: read, decode, judge, tell, and swap the whole into place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from lmtrace import bindings, config
from lmtrace.baseline import Baseline
from lmtrace.baseline import baseline as load_baseline
from lmtrace.bindings import Binding
from lmtrace.config import Config
from lmtrace.errors import ConfigError, UsageError
from lmtrace.inputs import STANDARD_INPUT, STANDARD_INPUT_NAME, Paths, as_given, expand, is_spooled, named, spooled
from lmtrace.limits import Options
from lmtrace.marks import mark_inferred
from lmtrace.run import Run, open_run
from lmtrace.stage import Format, Request, decoders, format_of, formats
from lmtrace.store import Capture, Store
from lmtrace.summary import Settings, write_summary
from lmtrace.tables import TABLES
from lmtrace.tlp_table import Payload, Seen, write_tlps
from lmtrace.trouble import Troubles
from lmtrace.units import parse_time

if TYPE_CHECKING:
    from lmtrace.replay import Waiver
    from lmtrace.rule import Rule

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0 when that is not known)."""


def check(
    paths: Paths, *, output: str | Path | None = None, binding: str | Path | Binding | None = None,
    config: str | Path | Config | None = None, select: str | None = None, ignore: str | None = None,
    profile: str | None = None, rules: str | Path | None = None, first: str | int | None = None,
    last: str | int | None = None, payload: Payload = "control", strict: bool = False, framing: str | None = None,
    columns: str | None = None, offset: str | None = None, baseline: str | Path | None = None,
    progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Judge captures, which together are one investigation, and return the run.

    Leaves tables, ``summary.json`` and reports in ``output``, by default ``<first capture>.lmtrace`` beside it.
    ``paths`` may hold patterns, folders and ``-``, standard input. ``framing`` and ``columns`` say where TLPs lie in
    packets and in the columns of a table, ``offset`` how much later than the first capture others begin, as
    ``"b.pcapng=1.5ms"``. ``select``, ``ignore`` and ``profile`` choose rules, ``rules`` is a folder of
    further rule files. ``first`` and ``last`` (``"5us"``, or picoseconds) bound what is judged; all of the capture is
    decoded. ``payload`` is what the table of TLPs keeps: ``"keep"`` for all, ``"control"`` for all but user data,
    ``"hash"`` for digests. ``strict`` makes a broken warning break the verdict. ``baseline`` is an earlier run, or its
    summary.json: what it found is waived. Raises LmtraceError for what the user can mend.
    """
    return carried_out(prepared(
        paths, output=output, binding=binding, config=config, select=select, ignore=ignore, profile=profile,
        rules=rules, first=first, last=last, payload=payload, strict=strict, framing=framing, columns=columns,
        offset=offset, baseline=baseline, progress=progress,
    ))  # fmt: skip


@dataclass(frozen=True, slots=True)
class _How:
    """How captures are read."""

    binding: Binding | None
    layouts: Mapping[str, str]
    payload: Payload
    progress: Progress | None
    offsets: Mapping[str, int] | None = None
    """When each capture begins after the first one, in ps; None where the user does not say it."""

    def __post_init__(self) -> None:
        """Raise UsageError for a policy of payload that there is not."""
        if self.payload not in get_args(Payload):
            raise UsageError(f"payload={self.payload!r}; there are: {', '.join(get_args(Payload))}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check is to do: the captures by name, how to read them, what to ask, where to put it."""

    files: Mapping[str, Path]
    target: Path
    how: _How
    rules: Sequence[Rule]
    limits: Options
    waivers: Sequence[Waiver]
    known: Baseline
    said: Settings


def prepared(
    paths: Paths, *, output: str | Path | None = None, binding: str | Path | Binding | None = None,
    config: str | Path | Config | None = None, select: str | None = None, ignore: str | None = None,
    profile: str | None = None, rules: str | Path | None = None, first: str | int | None = None,
    last: str | int | None = None, payload: Payload = "control", strict: bool = False, framing: str | None = None,
    columns: str | None = None, offset: str | None = None, baseline: str | Path | None = None,
    progress: Progress | None = None,
) -> Plan:  # fmt: skip
    """Return the plan of a check; the parameters are those of `check`. Raises LmtraceError as it does."""
    files = named(expand(paths))
    settings = _config(config, files)
    window = _window(first, last)
    waivers, expired = settings.waivers_on(date.today())
    known = Baseline() if baseline is None else load_baseline(baseline, next(iter(files)))
    said = Settings(
        strict=strict, select=select, ignore=ignore, profile=profile, first_ps=window[0],
        last_ps=window[1], config=settings.source, waivers=waivers, expired=expired, baseline=known,
        options=_said(
            config=config, binding=binding, rules=rules, framing=framing, columns=columns, offset=offset
        ),
    )  # fmt: skip
    return Plan(
        files, _target(files, output),
        _How(_binding(binding, settings), _layouts(framing, columns), payload, progress, _offsets(offset, files)),
        _chosen(settings, select, ignore, profile, None if rules is None else Path(rules)), _options(settings), waivers,
        known, said,
    )  # fmt: skip


def carried_out(plan: Plan) -> Run:
    """Do what a plan says and return the run."""
    with spooled(plan.files, plan.target) as places:
        return judged(plan, places)


def judged(plan: Plan, places: Mapping[str, Path]) -> Run:
    """Do what a plan says with captures at ``places`` and return the run."""
    with Store(plan.target) as store:
        seen = judge(store, plan, places)
        return _finish(store, seen, plan.said, plan.how.progress)


def judge(store: Store, plan: Plan, places: Mapping[str, Path]) -> Seen:
    """Read, decode and judge captures into a store; afterwards every table but ``troubles`` can be read."""
    from lmtrace.replay import replay

    seen = _decode(store, places, plan.how)
    _tell(plan.how.progress, "judging")
    replay(
        store, plan.rules, first_ps=plan.said.first_ps, last_ps=plan.said.last_ps, options=plan.limits,
        waivers=plan.waivers, known=plan.known.reasons,
    )  # fmt: skip
    store.finish_tables()
    return seen


def decode(
    paths: Paths, *, output: str | Path | None = None, binding: str | Path | Binding | None = None,
    config: str | Path | Config | None = None, payload: Payload = "control", framing: str | None = None,
    columns: str | None = None, progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Decode captures into tables and judge nothing; otherwise as `check`."""
    files = named(expand(paths))
    settings = _config(config, files)
    how = _How(_binding(binding, settings), _layouts(framing, columns), payload, progress)
    target = _target(files, output)
    with Store(target) as store, spooled(files, target) as places:
        seen = _decode(store, places, how)
        options = _said(config=config, binding=binding, framing=framing, columns=columns)
        return _finish(store, seen, Settings(judged=False, config=settings.source, options=options), progress)


def find_interfaces(path: str | Path, *, framing: str | None = None, columns: str | None = None) -> str:
    """Return a binding to start from, as TOML text that says what was found in a capture and how surely."""
    files = named(expand(path))
    if len(files) > 1:
        raise UsageError(f"{path} gives {len(files)} captures; name one")
    with spooled(files, Path.cwd() / STANDARD_INPUT_NAME) as places:
        (file,) = places.values()
        layouts = _layouts(framing, columns)
        (form,) = _forms(places, layouts, None).values()
        return form.find(Request(file, None, Troubles(file.name), None, layouts.get(form.layout), as_given(file)))


def _said(
    *, config: str | Path | Config | None, binding: str | Path | Binding | None, rules: str | Path | None = None,
    framing: str | None = None, columns: str | None = None, offset: str | None = None,
) -> dict[str, str]:  # fmt: skip
    """Return what the user said of reading and rules, by option: of files and folders their names."""
    places = {"config": config, "binding": binding, "rules": rules}
    found = {name: Path(one).absolute().name for name, one in places.items() if isinstance(one, str | Path)}
    words = {"framing": framing, "columns": columns, "offset": offset}
    return found | {name: text for name, text in words.items() if text is not None}


def _layouts(framing: str | None, columns: str | None) -> dict[str, str]:
    """Return what the user says of how TLPs lie in files, by the name of the option."""
    given = {"framing": framing, "columns": columns}
    return {name: text for name, text in given.items() if text is not None}


def _forms(files: Mapping[str, Path], layouts: Mapping[str, str], binding: Binding | None) -> dict[str, Format]:
    """Return the format of each capture. Raises UsageError for a layout that none of them takes."""
    wanted = {*layouts, "framing"} if binding and binding.framing else set(layouts)
    found = {
        name: format_of(file, wanted, "standard input" if is_spooled(file) else "") for name, file in files.items()
    }
    for option in layouts:
        if all(form.layout != option for form in found.values()):
            kinds = ", ".join(f"{name} is {form.name}" for name, form in found.items())
            taking = ", ".join(one.name for one in formats() if one.layout == option)
            raise UsageError(f"{kinds}; --{option} is for {taking}")
    return found


def _decode(store: Store, files: Mapping[str, Path], how: _How) -> Seen:
    """Read every capture and run every decoder; afterwards all tables but the judgement's can be read."""
    forms = _forms(files, how.layouts, how.binding)
    for name, file in files.items():
        store.captures.append(_read(store, name, file, forms[name], how))
    return _derive(store, how)


def _derive(store: Store, how: _How) -> Seen:
    """Run every decoder over what was read, and write the table of TLPs."""
    for stage in decoders():
        _tell(how.progress, f"decoding {stage.name}")
        stage.run(store)
        store.finish_tables()
    mark_inferred(store)
    _tell(how.progress, "writing tables")
    seen = write_tlps(store, how.payload)
    store.finish_tables()
    return seen


def _read(store: Store, name: str, file: Path, form: Format, how: _How) -> Capture:
    """Put the TLPs of one capture into the store."""
    troubles = Troubles(name)

    def told(done: int, total: int) -> None:
        _tell(how.progress, f"reading {name}", done, total)

    reader = form.open(Request(file, how.binding, troubles, told, how.layouts.get(form.layout), as_given(file)))
    capture = Capture(name, form.name, reader.links, troubles, first_tlp=store.tlp_count, unit=form.unit)
    for chunk in reader.chunks():
        store.append_tlps(chunk)
        if len(chunk.rows):
            capture.duration_ps = max(capture.duration_ps, int(chunk.rows["end_ps"].max()))
    capture.links = reader.links
    capture.zero_ps = getattr(reader, "zero_ps", None) if how.offsets is None else how.offsets[name]
    capture.end_tlp = store.tlp_count
    return capture


def _finish(store: Store, seen: Seen, settings: Settings, progress: Progress | None) -> Run:
    """Write what is left, the summary and the reports, and swap the folder in."""
    store.write("troubles", [row for one in store.captures for row in one.troubles.rows()])
    for name in TABLES:
        if not (store.folder / f"{name}.parquet").exists():
            store.writer(name)
    store.finish_tables()
    _tell(progress, "writing reports")
    write_summary(store, seen, settings)
    if settings.judged:
        from lmtrace.report import html, junit, markdown

        run = Run(store.folder)
        (store.folder / "report.html").write_text(html.render(run), encoding="utf-8", newline="\n")
        (store.folder / "junit.xml").write_text(junit.render(run), encoding="utf-8", newline="\n")
        (store.folder / "report.md").write_text(markdown.render(run), encoding="utf-8", newline="\n")
    store.commit()
    return open_run(store.target)


def _chosen(
    settings: Config, words: str | None, ignore: str | None, profile: str | None, folder: Path | None
) -> list[Rule]:
    from lmtrace.rule import rules, select

    pool = rules(folder)
    if profile is not None and profile in settings.profiles:
        pool, profile = select(pool, settings.profiles[profile]), None
    return select(pool, words, ignore, profile)


def _target(files: dict[str, Path], output: str | Path | None) -> Path:
    """Return the run's folder. Raises UsageError for a name that Parquet files cannot have."""
    first = next(iter(files.values()))
    if output is not None:
        target = Path(output)
    elif first == STANDARD_INPUT:
        target = Path(f"{STANDARD_INPUT_NAME}.lmtrace")
    else:
        target = first.with_name(first.name + ".lmtrace")
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


def _offsets(text: str | None, files: Mapping[str, Path]) -> dict[str, int] | None:
    """Return when each capture begins by what the user says; one that is not named begins with the first."""
    if text is None:
        return None
    found = dict.fromkeys(files, 0)
    for part in text.split(","):
        name, _, time = part.strip().rpartition("=")
        if name not in found:
            raise UsageError(f"--offset names {name or part!r}; the captures are {', '.join(files)}")
        try:
            found[name] = -parse_time(time[1:]) if time.startswith("-") else parse_time(time)
        except ValueError as error:
            raise UsageError(f"--offset: {error}") from None
    return found


def _tell(progress: Progress | None, what: str, done: int = 0, total: int = 0) -> None:
    if progress is not None:
        progress(what, done, total)
