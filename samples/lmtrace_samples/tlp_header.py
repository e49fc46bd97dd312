"""A wire TLP taken apart, for buses that carry its header in another form (PCIe Base 5.0, section 2.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from lmtrace.scenario import WireTlp
from lmtrace.spec.pcie import COMPLETIONS, CONFIG, FMT_TYPE, Direction, Kind

_PREFIX = 0b100
_MESSAGES = frozenset({Kind.Msg, Kind.MsgD})
_WINDOW = 4096
_PAGE = 14


class Tlp:
    """One TLP: its header as a big-endian 128-bit number (a 3-DW header ends in zeros) and its payload.

    Prefixes and a digest are dropped; ``payload`` is filled up to whole DWs. ``function`` is the ID of the
    function a downstream request is for, as far as ``with_functions`` found it.
    """

    __slots__ = ("direction", "function", "header", "kind", "link", "payload", "time_ps")

    def __init__(self, wire: WireTlp) -> None:
        data = wire.data
        start = 0
        while data[start] >> 5 == _PREFIX:
            start += 4
        self.link, self.direction, self.time_ps = wire.link, wire.direction, wire.time_ps
        self.kind = FMT_TYPE.get(data[start], Kind.UNKNOWN)
        fmt = data[start] >> 5
        body = start + (16 if fmt & 1 else 12)
        self.header = int.from_bytes(data[start:body], "big") << (0 if fmt & 1 else 32)
        self.payload = b""
        if fmt & 2:
            self.payload = data[body : body + 4 * self.length]
            self.payload += bytes(-len(self.payload) % 4)
        self.function = 0

    def bits(self, hi: int, lo: int) -> int:
        """Return bits ``hi:lo`` of the header; bit 127 is the first on the wire."""
        return self.header >> lo & ((1 << hi - lo + 1) - 1)

    @property
    def completion(self) -> bool:
        """Whether this is a completion."""
        return self.kind in COMPLETIONS

    @property
    def length(self) -> int:
        """The Length field as DWs, 1 to 1024."""
        return self.bits(105, 96) or 1024

    @property
    def tag(self) -> int:
        """The tag, ten bits."""
        middle = self.bits(47, 40) if self.completion else self.bits(79, 72)
        return self.bits(119, 119) << 9 | self.bits(115, 115) << 8 | middle

    @property
    def requester(self) -> int:
        """The requester ID."""
        return self.bits(63, 48) if self.completion else self.bits(95, 80)

    @property
    def attr(self) -> int:
        """ID-based ordering, relaxed ordering and no snoop, as three bits."""
        return self.bits(114, 114) << 2 | self.bits(109, 108)

    @property
    def tc(self) -> int:
        """The traffic class."""
        return self.bits(118, 116)

    @property
    def at(self) -> int:
        """The address type."""
        return self.bits(107, 106)

    @property
    def poisoned(self) -> int:
        """The EP bit."""
        return self.bits(110, 110)

    @property
    def address(self) -> int:
        """The DW address of a memory, I/O or atomic request."""
        return (self.bits(63, 0) if self.header >> 125 & 1 else self.bits(63, 32)) & ~3

    @property
    def enables(self) -> tuple[int, int]:
        """First and last DW byte enables of a request."""
        return self.bits(67, 64), self.bits(71, 68)

    @property
    def completer(self) -> int:
        """The completer ID of a completion, the target of a configuration request."""
        return self.bits(95, 80) if self.completion else self.bits(63, 48)

    @property
    def register(self) -> int:
        """The register number of a configuration request, in DWs."""
        return self.bits(43, 34)

    @property
    def status(self) -> int:
        """The status of a completion."""
        return self.bits(79, 77)

    @property
    def byte_count(self) -> int:
        """The bytes a completion's request still wants, those of this completion among them; 1 to 4096."""
        return self.bits(75, 64) or 4096

    @property
    def lower_address(self) -> int:
        """The low seven address bits of a completion's first byte."""
        return self.bits(38, 32)


def user_side(tlps: Iterator[WireTlp], config: bool) -> Iterator[Tlp]:
    """Yield the TLPs that reach a user interface: no messages, and configuration only with ``config``.

    Completions of configuration requests go the way of their requests.
    """
    hidden: set[tuple[str, int, int]] = set()
    for wire in tlps:
        tlp = Tlp(wire)
        if tlp.kind in _MESSAGES:
            continue
        if not config:
            key = tlp.link, tlp.requester, tlp.tag
            if tlp.kind in CONFIG:
                hidden.add(key)
                continue
            if tlp.direction is Direction.UPSTREAM and tlp.completion and key in hidden:
                hidden.remove(key)
                continue
            if tlp.direction is Direction.DOWNSTREAM and not tlp.completion:
                hidden.discard(key)
        yield tlp


def with_functions(tlps: Iterator[Tlp]) -> Iterator[Tlp]:
    """Yield the TLPs with ``function`` set on downstream memory requests.

    A read tells its function when it is answered, and its 16-KiB page then belongs to that function: no two
    functions share one. A page that nothing read belongs to the function of the nearest page below. TLPs wait
    in order for an answer, at most some thousands of them.
    """
    pages: dict[tuple[str, int], int] = {}
    asked: dict[tuple[str, int, int], int] = {}
    waiting: deque[Tlp] = deque()

    def owner(tlp: Tlp) -> int | None:
        return pages.get((tlp.link, tlp.address >> _PAGE))

    def guess(tlp: Tlp) -> int:
        below = [page for link, page in pages if link == tlp.link and page <= tlp.address >> _PAGE]
        return pages[tlp.link, max(below)] if below else 0

    for tlp in tlps:
        downstream = tlp.direction is Direction.DOWNSTREAM
        if tlp.completion and not downstream:
            page = asked.pop((tlp.link, tlp.requester, tlp.tag), None)
            if page is not None:
                pages[tlp.link, page] = tlp.completer
        elif downstream and tlp.kind is Kind.MRd:
            asked[tlp.link, tlp.requester, tlp.tag] = tlp.address >> _PAGE
        waiting.append(tlp)
        while waiting:
            first = waiting[0]
            if first.direction is Direction.DOWNSTREAM and not first.completion:
                found = owner(first)
                if found is None:
                    if len(waiting) < _WINDOW:
                        break
                    found = guess(first)
                first.function = found
            yield waiting.popleft()
    for first in waiting:
        if first.direction is Direction.DOWNSTREAM and not first.completion:
            found = owner(first)
            first.function = guess(first) if found is None else found
        yield first
