"""Stages: what a reader gives, what a decoder takes and gives. These types are the contract between packs.

A *reader* turns a capture file into chunks of TLP rows. A *decoder* takes tables by name and gives tables by name;
those names are all the wiring there is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lmtrace.bindings import Binding, Given
from lmtrace.errors import CaptureError, LmtraceError
from lmtrace.plugins import load_packs
from lmtrace.trouble import Troubles

if TYPE_CHECKING:
    from lmtrace.store import Store

TLP_ROW = np.dtype([
    ("time_ps", "<i8"), ("end_ps", "<i8"), ("source_offset", "<i8"), ("address", "<u8"), ("payload_start", "<i8"),
    ("request", "<i8"), ("owner", "<i4"), ("payload_bytes", "<i4"), ("length_dw", "<u2"), ("requester_id", "<u2"),
    ("completer_id", "<u2"), ("tag", "<u2"), ("byte_count", "<u2"), ("lower_address", "<u2"), ("function", "<u2"),
    ("link", "<u2"), ("kind", "u1"), ("direction", "u1"), ("header_dw", "u1"), ("tc", "u1"), ("attr", "u1"),
    ("first_be", "u1"), ("last_be", "u1"), ("status", "u1"), ("message_code", "u1"), ("flags", "u1"),
    ("bar", "u1"), ("role", "u1"), ("header_flags", "<u4"), ("pairing", "<u4"), ("configuration", "<i4"),
])  # fmt: skip
"""One TLP in memory.

``kind`` is `lmtrace.spec.pcie.Kind`, ``direction`` its Direction, ``link`` the index in the reader's ``links``.
``address`` holds the byte offset of a configuration request, whose target is ``completer_id``. ``length_dw`` is 1 to
1024, 0 without data. ``byte_count`` is 1 to 4096. ``header_dw`` 0 means not known. ``function`` is the function number
that a downstream request was delivered to, where the bus says so, else FFFFh; ``bar`` likewise, else FFh.
``payload_start`` and ``payload_bytes`` point into the payload bytes of the chunk (of the store once appended).
``request`` is the row number of the request that a completion answers, -1 while unknown.
``role`` is the index in `lmtrace.tables.ROLES`, FFh while unknown; ``owner`` is the index of a text of the store, -1
for none. ``header_flags`` and ``pairing`` are `lmtrace.spec.tlp_checks`; ``configuration`` is the number of a state of
configuration of the store, 0 while nothing is known of its function.
"""

PDU_ROW = np.dtype({
    "names": [
        "time_ps", "end_ps", "source_offset", "first_packet", "payload_start", "connection", "payload_bytes", "size",
        "data_bytes", "link", "kind", "direction", "header_digest", "data_digest", "flags", "role",
    ],
    "formats": [
        "<i8", "<i8", "<i8", "<i8", "<i8", "<i8", "<i4", "<u4", "<u4", "<u2", "u1", "u1", "u1", "u1", "u1", "u1",
    ],
    "offsets": [0, 8, 16, 24, 32, 40, 52, 56, 60, 70, 72, 73, 79, 80, 81, 83],
    "itemsize": TLP_ROW.itemsize,
})  # fmt: skip
"""One PDU of a capture of NVMe over fabrics in memory: it takes the place of a row of TLP_ROW and is numbered with
them, so that everything that keeps, counts and orders rows serves both. Fields of the same name lie at the same place.

``kind`` is the index in `lmtrace.spec.fabrics.PDU_KINDS`, ``connection`` counts the connections of the capture.
``time_ps`` and ``first_packet`` are those of the packet with the first byte, ``end_ps`` and ``source_offset`` those of
the one with the last. ``size`` counts the bytes on the wire, ``data_bytes`` those of data. The payload is the header,
and the data where they were kept. The digests are `Digest`, the flags `PduFlag`.
"""


@dataclass(frozen=True, slots=True)
class FunctionState:
    """What configuration says of one function at one time; None where that is not known.

    ``permitted`` and ``forbidden`` are `lmtrace.spec.tlp_checks.Control`; sizes are bytes.
    """

    permitted: int = 0
    forbidden: int = 0
    max_payload: int | None = None
    max_read_request: int | None = None
    read_completion_boundary: int | None = None


class Digest:
    """What was found of a digest."""

    NONE, GOOD, BAD = 0, 1, 2


class PduFlag:
    """Bits of ``flags`` of a PDU."""

    FIRST = 1
    """The first of its direction, on a connection whose beginning the capture shows."""
    HOLES = 2
    """Some of its data were not recorded."""
    UNSEEN = 4
    """Something that the other side had sent before it was not recorded."""


NO_FUNCTION = 0xFFFF
NO_BAR = 0xFF
NO_ROLE = 0xFF


class Flag:
    """Bits of ``flags``."""

    POISONED = 1
    UNKNOWN_BITS = 2
    """x or z inside bytes that matter."""
    CUT = 4
    """Payload shorter than the header says, by whole dwords: snap length, or the end of the file."""
    BE_ASSUMED = 8
    """Byte enables were not on the bus and are assumed to be all ones."""
    SIDE_BAND = 16
    """An interrupt sent by the core from side-band pins; only address and data are real."""
    TAG_ASSUMED = 32
    """The tag on this bus may not be the wire tag."""
    REQUESTER_ASSUMED = 64
    """The requester id was filled in by the core and is inferred here."""
    STRUCTURE = 128
    """Its data are a structure that a command moves, as Identify data, and no user data."""


@dataclass(slots=True)
class TlpChunk:
    """Some TLPs in the order of the capture: rows of TLP_ROW and the bytes their payloads lie in."""

    rows: np.ndarray
    payload: np.ndarray


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a capture: its name, how it was bound (a line for people), and the facts given about it."""

    name: str
    text: str
    confidence: float = 1.0
    given: Given = field(default_factory=Given)


@dataclass(frozen=True, slots=True)
class Request:
    """What a reader may need besides the file."""

    path: Path
    binding: Binding | None
    troubles: Troubles
    progress: Callable[[int, int], None] | None = None
    """Called with (bytes read, bytes in all) from time to time."""
    layout: str | None = None
    """How the user says that TLPs lie in the file; its words are the format's (``Format.layout``)."""
    given: str | None = None
    """How the user named the file, ``-`` for standard input."""

    @property
    def words(self) -> str:
        """The file as it stands in a command that a user can copy."""
        return shlex.quote(str(self.path) if self.given is None else self.given)


class Reader(Protocol):
    """An opened capture."""

    format: str

    @property
    def links(self) -> list[Link]:
        """The links; their texts may become fuller until the last chunk was given."""

    def chunks(self) -> Iterator[TlpChunk]:
        """Yield the TLPs in the order of the capture, in one pass, with bounded memory."""


HEAD_BYTES = 1 << 20
"""Bytes from the start of a capture that a format is recognised by."""

CONTAINER, CONTENT = 1, 2
"""How surely a format knows a file: by its envelope, which other formats may share, or by what lies in it."""


NO_BINDING = "need no binding"
"""What `Format.find` says where a capture is read without one and no fact of it could be given."""


@dataclass(frozen=True, slots=True)
class Format:
    """A registered reader: its name, how to recognise a file, how to open one, how to find interfaces in one."""

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], int]
    """How surely a file that begins with these bytes is one: 0 not, ``CONTAINER`` by its envelope alone, ``CONTENT``
    by what lies in it. Among several formats that claim a file the surest reads it."""
    open: Callable[[Request], Reader]
    find: Callable[[Request], str]
    """Return a binding to start from, as TOML text with the confidence of each link in comments."""
    layout: str = ""
    """The option of the command line that says how TLPs lie in such a file, as ``framing``; empty for none."""
    dissect: Callable[[Path, Sequence[int]], list[tuple[int, str]]] | None = None
    """Return (number, full dissection) of some packets; None where rows are no packets of a network."""
    unit: str = "TLP"
    """What its rows are: ``TLP``, or ``PDU`` of PDU_ROW."""
    common: bool = False
    """Whether files of any other content have these suffixes too: such files must be named one by one."""
    grows: bool = True
    """Whether what has been written so far can be read while the rest is still being written."""


Decode = Callable[["Store"], None]


@dataclass(frozen=True, slots=True)
class Decoder:
    """A registered decoder: the tables it takes, those it gives, and the function that does it."""

    name: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    run: Decode


_formats: dict[str, Format] = {}
_decoders: dict[str, Decoder] = {}


def register_format(entry: Format) -> None:
    """Register a capture format."""
    _formats[entry.name] = entry


def decoder(name: str, *, takes: tuple[str, ...], gives: tuple[str, ...]) -> Callable[[Decode], Decode]:
    """Register a function as a decoder from the tables ``takes`` to the tables ``gives``."""

    def add(run: Decode) -> Decode:
        _decoders[name] = Decoder(name, takes, gives, run)
        return run

    return add


def format_of(path: Path, layouts: Collection[str] = (), said: str = "") -> Format:
    """Return the format of a capture by its first bytes, looking through gzip and Zstandard.

    ``layouts`` names the options that the user gave about files, as ``framing``; a format that takes one of them goes
    before those that do not. ``said`` is how messages name the capture.

    Raises CaptureError when the file cannot be read or no format knows it.
    """
    from lmtrace.compressed import head

    load_packs("lmtrace.decoders")
    said = said or path.name
    damage: list[str] = []
    first = head(path, HEAD_BYTES, lambda at, reason, doubt: damage.append(reason))
    if not first and damage:
        raise CaptureError(f"nothing of {said} can be unpacked: {damage[0]}; copy the capture again")
    if not first:
        raise CaptureError(f"{said} is empty")
    claims = [(int(entry.matches(first)), entry) for entry in formats()]
    claims = [claim for claim in claims if claim[0]]
    if not claims:
        known = ", ".join(sorted({suffix for one in _formats.values() for suffix in one.suffixes}))
        raise CaptureError(f"{said} is no capture lmtrace can read; it reads {known}, plain, .gz or .zst")
    taking = [claim for claim in claims if claim[1].layout in layouts]
    return max(taking or claims, key=lambda claim: claim[0])[1]


def formats() -> list[Format]:
    """Return the registered formats, in order of name."""
    load_packs("lmtrace.decoders")
    return sorted(_formats.values(), key=lambda one: one.name)


def capture_suffixes() -> list[str]:
    """Return the suffixes of captures, also compressed, that a folder is searched for."""
    plain = sorted({suffix for one in formats() if not one.common for suffix in one.suffixes})
    return [suffix + packed for suffix in plain for packed in ("", ".gz", ".zst")]


def decoders() -> list[Decoder]:
    """Return the decoders so that each comes after those that give what it takes.

    Raises LmtraceError when a decoder takes what nothing gives.
    """
    load_packs("lmtrace.decoders")
    ready, ordered, waiting = {"tlps"}, [], sorted(_decoders.values(), key=lambda one: one.name)
    while waiting:
        runnable = [one for one in waiting if set(one.takes) <= ready]
        if not runnable:
            names = ", ".join(f"{one.name} (takes {', '.join(set(one.takes) - ready)})" for one in waiting)
            raise LmtraceError(f"nothing gives what these decoders take: {names}")
        for one in runnable:
            ordered.append(one)
            ready.update(one.gives)
            waiting.remove(one)
    return ordered
