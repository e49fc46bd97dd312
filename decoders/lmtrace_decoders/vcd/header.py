"""The header of a value change dump: scopes, variables, the unit of time.

Read as latin-1, because simulators write string parameters as they are; names may be UTF-8. Statements are
``$keyword … $end``; a variable's reference may carry its range (``data [7:0]``, ``data[7:0]``) or a single bit
(``data [3]``), and one vector may be dumped as one variable a bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from lmtrace.errors import CaptureError
from lmtrace.trouble import Troubles, declare
from lmtrace_decoders.interfaces.declared import Declared, check_scope
from lmtrace_decoders.interfaces.signals import Signal

NO_TIMESCALE = declare(
    "timescale-missing",
    "info",
    "The dump does not say its unit of time; 1 ns is assumed. Orders are right, durations may not be.",
)
HEADER_OPEN = declare(
    "header-not-ended",
    "error",
    "The header lacks $enddefinitions; what was declared up to there is used. Check how the dump was written.",
)
HEADER_TEXT = declare("header-not-understood", "info", "A header statement makes no sense and was passed over.")

UNITS = {"s": 12, "ms": 9, "us": 6, "ns": 3, "ps": 0, "fs": -3}
MOST_STATEMENT = 1 << 24
"""A statement longer than this is taken for one that never ends."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_STATEMENT = re.compile(rb"\s*(\S+)(?:\s+|\Z)")
_END = re.compile(rb"(?<!\S)\$end(?=\s|\Z)")
_VAR = re.compile(rb"\s*\$var\s+(\S+)\s+(\d{1,9})\s+(\S+)\s+(\S+(?:\s+\[[^\]\s]*\])?)\s+\$end(?=\s)")
"""A variable as nearly every simulator writes it; others take the way of every statement."""
_TIME = re.compile(r"(\d+)\s*([munpf]?s)")
_NOT_BITS = frozenset({"real", "realtime", "shortreal", "string", "event"})


@dataclass(slots=True)
class Header:
    """What a header declares.

    One tick is ``multiply / divide`` picoseconds. ``body`` is the offset of the first byte after the header.
    ``codes`` holds every identifier code, also those of variables that are no bits.
    """

    signals: list[Signal]
    codes: set[str]
    multiply: int
    divide: int
    body: int
    writer: str = ""


@dataclass(slots=True)
class _Parser:
    """Statements in, declarations out."""

    troubles: Troubles
    path: list[str] = field(default_factory=list)
    scope: str = ""
    codes: set[str] = field(default_factory=set)
    declared: Declared = field(default_factory=Declared)
    unit: tuple[int, int] | None = None
    writer: str = ""

    def statement(self, keyword: str, words: list[str], offset: int) -> None:
        """Take one statement that starts at byte ``offset``."""
        if keyword == "$var":
            self._var(words, offset)
        elif keyword == "$scope":
            self.path.append(_readable(words[1]).lstrip("\\") if len(words) > 1 else "")
            self.scope = ".".join(self.path)
            try:
                check_scope(self.path, self.scope)
            except CaptureError as error:
                raise CaptureError(f"byte {offset}: {error}") from None
        elif keyword == "$upscope":
            if self.path:
                self.path.pop()
            self.scope = ".".join(self.path)
        elif keyword == "$timescale":
            match = _TIME.fullmatch(" ".join(words))
            if match is None:
                raise CaptureError(
                    f"byte {offset}: the time scale is {' '.join(words)[:40]!r}; it is a number and one of "
                    + ", ".join(UNITS)
                )
            power = UNITS[match[2]]
            ticks = int(match[1][:20]) or 1
            self.unit = (ticks * 10 ** max(power, 0), 10 ** max(-power, 0))
        elif keyword == "$version":
            self.writer = _readable(" ".join(words))[:100]
        elif keyword not in ("$comment", "$date", "$attrbegin", "$attrend"):
            self.troubles.add(HEADER_TEXT, f"{keyword[:40]} at byte {offset}", offset=offset)

    def _var(self, words: list[str], offset: int) -> None:
        if len(words) < 4 or not words[1].isdecimal() or len(words[1]) > 9:
            self.troubles.add(HEADER_TEXT, f"$var {' '.join(words)[:60]} at byte {offset}", offset=offset)
            return
        kind, width, code = words[0], int(words[1]), words[2]
        self.variable(kind, width, code, words[3] if len(words) == 4 else " ".join(words[3:]))

    def variable(self, kind: str, width: int, code: str, reference: str) -> None:
        """Take one declared variable; ``reference`` is its name with what range was written after it."""
        self.codes.add(code)
        if kind not in _NOT_BITS and width:
            self.declared.add(self.scope, _readable(reference), width, code)

    def header(self, body: int) -> Header:
        """Return what was declared; a missing time scale is counted and taken as 1 ns."""
        unit = self.unit
        if unit is None:
            self.troubles.add(NO_TIMESCALE, "no $timescale in the header")
            unit = (1000, 1)
        return Header(self.declared.signals(), self.codes, *unit, body, self.writer)


def read_header(name: str, blocks: Iterable[bytes], troubles: Troubles) -> Header:
    """Read blocks of a file up to the end of the header.

    Raises CaptureError, with the byte offset, for a header that never ends or declares nothing usable.
    """
    parser = _Parser(troubles)
    data, start, at = b"", 0, 0
    source = iter(blocks)
    more = True
    while True:
        match = _VAR.match(data, at)
        if match is not None:
            at = match.end()
            kind, width, code, reference = match.groups()
            parser.variable(
                kind.decode("latin-1"), int(width), code.decode("latin-1"),
                " ".join(reference.decode("latin-1").split()),
            )  # fmt: skip
            continue
        taken = _next(data, at, more)
        if taken is None:
            block = next(source, b"")
            if not block:
                more, block = False, b""
                if not data[at:].strip():
                    break
                if _next(data, at, more) is None:
                    break
            data, start, at = data[at:] + block, start + at, 0
            if not start and data.startswith(BYTE_ORDER_MARK):
                at = len(BYTE_ORDER_MARK)
            if len(data) > MOST_STATEMENT + (1 << 22):
                raise CaptureError(f"{name}: the header statement at byte {start} never ends")
            continue
        keyword, words, begin, at = taken
        if keyword == "$enddefinitions":
            return parser.header(start + at)
        if keyword[0] == "#" and parser.codes:
            troubles.add(
                HEADER_OPEN, f"no $enddefinitions before the first time at byte {start + begin}", offset=start + begin
            )
            return parser.header(start + begin)
        if keyword[0] != "$":
            raise CaptureError(
                f"{name}: byte {start + begin}: {keyword[:40]!r} in the header, where a $ keyword was expected"
            )
        try:
            parser.statement(keyword, words, start + begin)
        except CaptureError as error:
            raise CaptureError(f"{name}: {error}") from None
    raise CaptureError(
        f"{name}: the header has no $enddefinitions; the file ends at byte {start + len(data)}"
        + (" inside a statement" if data[at:].strip() else "")
        + "; it was cut, or it is no value change dump"
    )


def _next(data: bytes, at: int, more: bool) -> tuple[str, list[str], int, int] | None:
    """Return (keyword, words, where it begins, where the next begins), or None when ``data`` ends before that.

    A word that is no keyword is returned alone.
    """
    match = _STATEMENT.match(data, at)
    if match is None or (match.end(1) == len(data) and more):
        return None
    begin = match.start(1)
    keyword = match[1].decode("latin-1")
    if keyword[0] != "$":
        return keyword, [], begin, match.end(1)
    end = _END.search(data, match.end(1))
    if end is None or (end.end() == len(data) and more):
        return None
    words = data[match.end(1) : end.start()].split()
    return keyword, [word.decode("latin-1") for word in words], begin, end.end()


def _readable(text: str) -> str:
    """Return what was read as latin-1 as UTF-8, where it is that."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return text
