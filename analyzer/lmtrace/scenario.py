"""What a scenario is: an executable model that plays traffic, and the writers that put it into a capture.

Scenario packs are found through the entry point group ``lmtrace.scenarios``; each names a package, which is walked.
A scenario plays bytes on the wire and nothing else: no table, event or rule of lmtrace is known to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from lmtrace.errors import UsageError
from lmtrace.plugins import load_packs
from lmtrace.spec.pcie import Direction


@dataclass(frozen=True, slots=True)
class WireTlp:
    """One TLP as it crosses a link: header big-endian, payload in memory order, no sequence number, no LCRC."""

    time_ps: int
    link: str
    direction: Direction
    data: bytes


@dataclass(frozen=True, slots=True)
class WireFrame:
    """One Ethernet frame as it crosses a network, without its check sequence."""

    time_ps: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break a rule: who breaks it, which rule says so, and what happens, in a sentence."""

    name: str
    rule: str
    party: str
    text: str
    also: tuple[str, ...] = ()
    """Further rules that the same act breaks: any of them finds it."""
    info: bool = False
    """Whether the specification leaves so much open that saying so as an information is all that can be asked."""
    shared: bool = False
    """Whether the other party has to break a rule too, so that this can happen."""

    @property
    def rules(self) -> tuple[str, ...]:
        """Every rule that may say so, the nearest first."""
        return (self.rule, *self.also)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may ask of a scenario.

    ``commands`` scales the I/O; ``fault`` is one of the scenario's, ``random`` for one that the seed draws, or None.
    """

    seed: int = 1
    commands: int | None = None
    fault: str | None = None


RANDOM = "random"
"""The fault of which a scenario draws another one for each seed."""

Play = Callable[[Options], Mapping[str, Iterator[WireTlp]]]
PlayFrames = Callable[[Options], Mapping[str, Iterator[WireFrame]]]
Draw = Callable[[Options], Fault]
"""Says which fault ``random`` is. Raises UsageError where there is nothing to break."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named model run. ``play`` returns the captures by name; one capture has the name ``""``.

    ``draw`` is None for a scenario without random faults.
    """

    name: str
    text: str
    play: Play
    faults: tuple[Fault, ...] = ()
    draw: Draw | None = None

    def fault(self, options: Options) -> Fault | None:
        """Return the fault that options ask for. Raises UsageError for one that this scenario does not have."""
        if options.fault is None:
            return None
        if options.fault == RANDOM and self.draw is not None:
            return self.draw(options)
        for one in self.faults:
            if one.name == options.fault:
                return one
        names = [*(one.name for one in self.faults), *([RANDOM] if self.draw else [])]
        raise UsageError(f"scenario {self.name} has no fault {options.fault!r}{_nearest(options.fault, names)}")


@dataclass(frozen=True, slots=True)
class NetworkScenario:
    """A named model run of NVMe over fabrics; otherwise as `Scenario`."""

    name: str
    text: str
    play: PlayFrames
    faults: tuple[Fault, ...] = ()

    def fault(self, options: Options) -> Fault | None:
        """Return the fault that options ask for. Raises UsageError for one that this scenario does not have."""
        if options.fault is None:
            return None
        for one in self.faults:
            if one.name == options.fault:
                return one
        names = [one.name for one in self.faults]
        raise UsageError(f"scenario {self.name} has no fault {options.fault!r}{_nearest(options.fault, names)}")


def _nearest(name: str, names: Sequence[str]) -> str:
    """Return what to add to a message on a name that is none: the nearest ones, or all where these are few."""
    if not names:
        return "; it has none"
    if len(names) <= FEW:
        return f"; there are: {', '.join(names)}"
    near = get_close_matches(name, names, 3, 0.5)
    return f"{'; nearest: ' + ', '.join(near) if near else ''}; lmtrace synth --list shows all {len(names)}"


FEW = 6
"""So many names are listed in a message."""

BUS = "tlp-stream"
"""Bus convention of a waveform unless told."""

Writer = Callable[[Iterator[WireTlp], Path, str, int], None]
"""Writes TLPs to a file: the TLPs in time order, the file, the bus convention (or the framing of packets, empty for the
file's own), the seed of the idle signals."""


FrameWriter = Callable[[Iterator[WireFrame], Path], None]
"""Writes frames to a file, in time order."""


@dataclass(slots=True)
class _Register:
    scenarios: dict[str, Scenario] = field(default_factory=dict)
    networks: dict[str, NetworkScenario] = field(default_factory=dict)
    frame_writers: dict[str, FrameWriter] = field(default_factory=dict)
    writers: dict[str, tuple[Writer, str]] = field(default_factory=dict)


_register = _Register()


def scenario(name: str, faults: tuple[Fault, ...] = (), draw: Draw | None = None) -> Callable[[Play], Play]:
    """Register a function as the scenario ``name``; the first line of its docstring says what it plays."""

    def add(play: Play) -> Play:
        text = (play.__doc__ or "").strip().splitlines()[0]
        _register.scenarios[name] = Scenario(name, text, play, faults, draw)
        return play

    return add


def network_scenario(name: str, faults: tuple[Fault, ...] = ()) -> Callable[[PlayFrames], PlayFrames]:
    """Register a function as the scenario ``name`` of a network; otherwise as `scenario`."""

    def add(play: PlayFrames) -> PlayFrames:
        text = (play.__doc__ or "").strip().splitlines()[0]
        _register.networks[name] = NetworkScenario(name, text, play, faults)
        return play

    return add


def frame_writer(suffix: str) -> Callable[[FrameWriter], FrameWriter]:
    """Register a function as the writer of network captures that end in ``suffix``."""

    def add(write: FrameWriter) -> FrameWriter:
        _register.frame_writers[suffix] = write
        return write

    return add


def writer(suffix: str, shape: str = "bus") -> Callable[[Writer], Writer]:
    """Register a function as the writer of captures that end in ``suffix``, as ``.vcd`` or ``.vcd.gz``.

    ``shape`` names the option that chooses among the ways to write one, ``bus`` or ``framing``.
    """

    def add(write: Writer) -> Writer:
        _register.writers[suffix] = write, shape
        return write

    return add


def scenarios() -> dict[str, Scenario]:
    """Return every scenario by name, in order of name."""
    load_packs("lmtrace.scenarios")
    return dict(sorted(_register.scenarios.items()))


def named(name: str) -> Scenario:
    """Return a scenario. Raises UsageError for a name that none has."""
    known = scenarios()
    if name not in known:
        raise UsageError(f"no scenario {name!r}{_nearest(name, sorted({**known, **networks()}))}")
    return known[name]


def networks() -> dict[str, NetworkScenario]:
    """Return every scenario of a network by name, in order of name."""
    load_packs("lmtrace.scenarios")
    return dict(sorted(_register.networks.items()))


def synth(
    name: str, output: Path, *, fault: str | None = None, seed: int = 1, commands: int | None = None,
    bus: str | None = None, framing: str | None = None,
) -> list[Path]:  # fmt: skip
    """Play a scenario into a capture file and return the files written.

    A scenario of several captures writes ``<stem>.<capture><suffix>`` for each. ``bus`` is the bus convention of a
    waveform (tlp-stream unless told), ``framing`` that of a capture of packets. Raises UsageError for an unknown
    scenario, fault, suffix, bus or framing, for what the file has none of, and for a folder that does not exist.
    """
    options = Options(seed, commands, fault)
    if not output.parent.is_dir():
        raise UsageError(f"cannot write {output}: there is no folder {output.parent}")
    network = networks().get(name)
    if network is not None:
        if bus is not None or framing is not None:
            raise UsageError(f"{name} is a scenario of a network: it has neither a bus nor a framing of TLPs")
        network.fault(options)
        return _synth_frames(network, output, options)
    chosen = named(name)
    chosen.fault(options)
    suffix = max((one for one in _register.writers if output.name.endswith(one)), key=len, default="")
    if not suffix:
        raise UsageError(f"cannot write {output.name}: a capture ends in {', '.join(sorted(_register.writers))}")
    (write, shape), stem = _register.writers[suffix], output.name.removesuffix(suffix)
    if framing is not None and shape != "framing":
        raise UsageError(f"{output.name} holds no packets; a framing is for {_taking('framing')}")
    if bus is not None and shape != "bus":
        raise UsageError(f"{output.name} holds no waveform; a bus is for {_taking('bus')}")
    files: list[Path] = []
    for capture, tlps in chosen.play(options).items():
        file = output.with_name(f"{stem}.{capture}{suffix}") if capture else output
        write(tlps, file, bus or BUS if shape == "bus" else framing or "", seed)
        files.append(file)
    return files


def _taking(shape: str) -> str:
    """Return the suffixes of files whose writer takes an option, in words."""
    return ", ".join(sorted(suffix for suffix, (_, each) in _register.writers.items() if each == shape))


def _synth_frames(chosen: NetworkScenario, output: Path, options: Options) -> list[Path]:
    """Play a scenario of a network into capture files."""
    suffix = max((one for one in _register.frame_writers if output.name.endswith(one)), key=len, default="")
    if not suffix:
        kinds = ", ".join(sorted(_register.frame_writers))
        raise UsageError(f"cannot write {output.name}: a capture of a network ends in {kinds}")
    stem, files = output.name.removesuffix(suffix), []
    for capture, frames in chosen.play(options).items():
        file = output.with_name(f"{stem}.{capture}{suffix}") if capture else output
        _register.frame_writers[suffix](frames, file)
        files.append(file)
    return files
