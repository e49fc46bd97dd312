"""Where the controllers are: found before attribution, in one pass over the TLPs that also pairs completions.

In this order: configuration writes, register traffic, doorbell patterns (marked inferred), and given facts where the
capture shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from lmtrace.bindings import Given
from lmtrace.spec.nvme import CAP, DOORBELL_BASE, Property
from lmtrace.spec.pcie import COMPLETIONS, CONFIG, Direction, Kind
from lmtrace.spec.tlp_checks import Pairing
from lmtrace.stage import NO_FUNCTION, Flag
from lmtrace.store import Capture, Store
from lmtrace_decoders.nvme.config_space import ConfigSpaces
from lmtrace_decoders.nvme.config_states import ConfigStates
from lmtrace_decoders.nvme.losses import ORPHAN, SKEWED, UNANSWERED
from lmtrace_decoders.nvme.pairing import CLASS, COMPLETION, REQUEST, OpenRequests, pair
from lmtrace_decoders.nvme.pairing_checks import TIMEOUT_PS

MOST_LOOKS = 4096
"""Accesses to one page of a BAR that are looked at one by one."""
MOST_PAGES = 1 << 14
LONG_TRIPS, LEAST_TRIP = 8, 1_000_000
"""How many times the longest time so far (ps, and the least assumed) an answer may take whose request is not seen."""
PAGE = 4096
SKEW_ROWS, MOST_SKEW_PS, LEAST_SKEWED = 64, 5_000_000, 3
"""Where the request of an answer is looked for behind it, and how many such answers tell that directions are skewed."""
LINE_PS = 1_000_000_000
"""How long the state of an interrupt line is believed: a reset of the link, which takes longer, deasserts it."""
WAVEFORMS = ("vcd", "fst")
"""Formats that show every clock, so that no TLP of a link can be missing."""
_READ_ONLY = (Property.CAP, Property.CAP + 4, Property.VS)


@dataclass(slots=True)
class Page:
    """One page of a link's memory space that the host accessed: its first writes and what reads returned."""

    link: int
    number: int
    looks: int = 0
    writes: dict[int, int] = field(default_factory=dict)
    """The last value written at each offset."""
    high: bool = False
    """A multiple of 16 bytes took the address of a message, which no doorbell takes."""
    big: bool = False
    """A value above 16 bits was written somewhere."""
    lowest: int = PAGE
    reads: dict[int, int] = field(default_factory=dict)
    asked: bool = False
    """The host read from it."""
    completer: int | None = None
    function: int = NO_FUNCTION
    enabled_at: int | None = None
    fetcher: int | None = None
    fetcher_assumed: bool = False

    @property
    def base(self) -> int:
        """Address of the page."""
        return self.number * PAGE

    @property
    def asq(self) -> int | None:
        """The admin submission queue that was written here."""
        low = self.writes.get(Property.ASQ)
        return None if low is None else (low | self.writes.get(Property.ASQ + 4, 0) << 32) & ~0xFFF

    @property
    def properties(self) -> bool:
        """Whether the accesses are those of controller properties."""
        if any(offset in self.writes for offset in _READ_ONLY):
            return False
        sizes, queues = self.writes.get(Property.AQA), (Property.ASQ, Property.ACQ)
        # An MSI-X table that is cleared has zeroes in these places, one in use the numbers of interrupts.
        setup = sizes or any(self.writes.get(one, 0) & ~0xFFF and not self.writes[one] & 0xFFF for one in queues)
        if Property.CC in self.writes and setup:
            return True
        version = self.reads.get(Property.VS)
        plausible = version is not None and 1 <= version >> 16 <= 3 and (version >> 8 & 0xFF) < 10
        return plausible and (0 in self.reads or Property.CSTS in self.reads or Property.CC in self.writes)

    @property
    def vectors(self) -> bool:
        """Whether the writes are those of an MSI-X table: message addresses, or nothing but masks."""
        masks = bool(self.writes) and all(at % 16 == 12 and value <= 1 for at, value in self.writes.items())
        return (self.high or masks) and not self.properties

    @property
    def doorbells(self) -> bool:
        """Whether the writes may be doorbells."""
        return bool(self.writes) and not self.big and not self.asked


@dataclass(slots=True)
class Facts:
    """What was found about one function."""

    link: int
    function: int
    space: int
    bar0: int
    learnt: str
    confidence: float = 1.0
    elsewhere: tuple[int, ...] = ()
    """Other places BAR0 had in the capture."""
    stride: int = 0
    stride_known: bool = False
    msix: tuple[int, int | None] | None = None
    """Address and entries of the MSI-X table."""
    msix_learnt: str = "seen"
    pending: tuple[int, int] | None = None
    """Address and bytes of the MSI-X Pending Bit Array."""
    is_virtual: bool | None = None
    primary: int | None = None
    vf_number: int | None = None
    controller: int | None = None
    """CNTLID as given."""


class Discovery:
    """Gathers facts chunk by chunk; `facts` then says which controllers there are."""

    def __init__(self, capture: Capture) -> None:
        self.links = capture.links
        self.config = ConfigSpaces()
        self.states = ConfigStates()
        self.requesters: dict[tuple[int, int], int] = {}
        self.renumbered: dict[tuple[int, int], int] = {}
        """By link and id, the other id of a function that was given another bus number."""
        self._opens = OpenRequests()
        self._last_ps = 0
        self._line: dict[tuple[int, int], tuple[int, int]] = {}
        """The last message about each interrupt line of each link: its code and time."""
        self._tags: set[int] = set()
        self._trips: dict[int, int] = {}
        """The longest time (ps) that an answer took, of each link and direction of requests."""
        self._began: dict[int, int] = {}
        self._skewed: dict[int, int] = {}
        """Answers to the host before their requests, by link."""
        self._pages: dict[tuple[int, int], Page] = {}
        self._config_reads: dict[int, tuple[int, int, int, int]] = {}
        self._reads: dict[int, tuple[Page, int]] = {}

    def run(self, store: Store, capture: Capture) -> None:
        """Walk the capture once and write ``request`` into its rows."""
        # What is missing of a waveform was not on the bus, unless the file shows that it lacks something.
        sure = capture.format in WAVEFORMS and not capture.troubles.losses
        for first, rows in store.tlp_chunks(capture):
            for row, at, time in pair(self._opens, first, rows, sure):
                capture.troubles.add(
                    UNANSWERED, f"read with tag {int(rows['tag'][row]):02X}h", time_ps=time,
                    offset=int(rows["source_offset"][row]) if at < first else int(rows["source_offset"][at - first]),
                    link=capture.links[int(rows["link"][row])].name, until_ps=int(rows["time_ps"][row]),
                )  # fmt: skip
            self._lines(rows)
            self._last_ps = max(self._last_ps, int(rows["time_ps"].max(initial=0)))
            store.update_tlps(first, rows)
            self._orphans(capture, first, rows)
            self._look(store, first, rows)
            self.states.follow(store, first, rows)
        self._unanswered(store)
        for link, tag, time in self._opens.overtaken():
            longest = max(self._trips.get(link << 1 | Direction.UPSTREAM, 0), LEAST_TRIP)
            capture.troubles.add(
                UNANSWERED, f"read with tag {tag:02X}h", time_ps=time, link=capture.links[link].name,
                until_ps=time + LONG_TRIPS * longest,
            )  # fmt: skip

    def _lines(self, rows: np.ndarray) -> None:
        """Note on messages about interrupt lines that the line is as they say by a message shortly before."""
        code = rows["message_code"]
        at = np.flatnonzero((rows["kind"] == Kind.Msg) & (code >= 0x20) & (code < 0x28) & (rows["direction"] == 1))
        for link in np.unique(rows["link"][at]).tolist():
            for pin in range(4):
                mine = at[(rows["link"][at] == link) & (code[at] & 3 == pin)]
                if not len(mine):
                    continue
                before, when = self._line.get((link, pin), (0, 0))
                codes = np.concatenate([[before], code[mine].astype(np.int64)])
                times = np.concatenate([[when], rows["time_ps"][mine]])
                same = mine[(np.diff(codes) == 0) & (np.diff(times) <= LINE_PS)]
                rows["pairing"][same] |= np.uint32(Pairing.UNCHANGED)
                self._line[link, pin] = int(codes[-1]), int(times[-1])

    def _unanswered(self, store: Store) -> None:
        """Note on requests that nothing answered them although the capture goes on for longer than a timeout."""
        for tlp in self._opens.waiting(self._last_ps - TIMEOUT_PS):
            row = store.tlps(tlp, tlp + 1)
            if row["pairing"][0]:
                row["pairing"] |= np.uint32(Pairing.UNANSWERED)
                store.update_tlps(tlp, row)

    def _orphans(self, capture: Capture, first: int, rows: np.ndarray) -> None:
        """Count completions without a request: one was lost, unless it was sent before the capture began.

        Of those the tag was not used in the capture yet, and no answer takes many times as long as the longest so far.
        Where tags are assumed nothing is said.
        """
        sure = rows["flags"] & (Flag.TAG_ASSUMED | Flag.REQUESTER_ASSUMED) == 0
        group = CLASS[np.minimum(rows["kind"], len(CLASS) - 1)]
        way = np.where(group == COMPLETION, 1 - rows["direction"].astype(np.int64), rows["direction"])
        keys = (rows["link"].astype(np.int64) << 33 | way << 32) | (
            rows["requester_id"].astype(np.int64) << 16 | rows["tag"]
        )
        ways = keys >> 32
        for one, index in zip(*(part.tolist() for part in np.unique(rows["link"], return_index=True)), strict=True):
            self._began.setdefault(one, int(rows["time_ps"][index]))
        paired = np.flatnonzero(sure & (group == COMPLETION) & (rows["request"] >= first))
        took = rows["time_ps"][paired] - rows["time_ps"][rows["request"][paired] - first]
        for one in np.unique(ways[paired]).tolist():
            self._trips[one] = max(self._trips.get(one, 0), int(took[ways[paired] == one].max()))
        orphans = np.flatnonzero(sure & (group == COMPLETION) & (rows["request"] < 0))
        if len(orphans):
            self._skew(capture, rows, orphans, np.where(group == REQUEST, keys, -1), keys)
            asked = np.flatnonzero(group == REQUEST)
            first_use: dict[int, int] = {}
            unique, index = np.unique(keys[asked], return_index=True)
            first_use.update(zip(unique.tolist(), asked[index].tolist(), strict=True))
            for at in orphans.tolist():
                key = int(keys[at])
                row = rows[at]
                since = int(row["time_ps"]) - self._began[int(row["link"])]
                old = since > LONG_TRIPS * max(self._trips.get(key >> 32, since), LEAST_TRIP)
                if key in self._tags or first_use.get(key, at) < at or old:
                    began = int(row["time_ps"]) - min(self._trips.get(key >> 32, 0), since)
                    capture.troubles.add(
                        ORPHAN, f"completion with tag {int(row['tag']):02X}h", time_ps=began,
                        offset=int(row["source_offset"]), link=capture.links[int(row["link"])].name,
                        until_ps=int(row["time_ps"]),
                    )  # fmt: skip
        self._tags.update(np.unique(keys[group == REQUEST]).tolist())

    def _skew(
        self, capture: Capture, rows: np.ndarray, orphans: np.ndarray, requests: np.ndarray, keys: np.ndarray
    ) -> None:  # fmt: skip
        """Find answers to the host that are recorded before their requests: over and over, and not lost ones."""
        for at in orphans[rows["direction"][orphans] == Direction.UPSTREAM].tolist():
            link, time = int(rows["link"][at]), int(rows["time_ps"][at])
            behind = slice(at + 1, at + SKEW_ROWS)
            later = (requests[behind] == keys[at]) & (rows["time_ps"][behind] - time <= MOST_SKEW_PS)
            if self._skewed.get(link, 0) >= LEAST_SKEWED or not later.any():
                continue
            self._skewed[link] = self._skewed.get(link, 0) + 1
            if self._skewed[link] == LEAST_SKEWED:
                capture.troubles.add(
                    SKEWED, f"completion with tag {int(rows['tag'][at]):02X}h", time_ps=self._began[link],
                    offset=int(rows["source_offset"][at]), link=capture.links[link].name,
                )  # fmt: skip

    def _look(self, store: Store, first: int, rows: np.ndarray) -> None:
        kind, up = rows["kind"], rows["direction"] == Direction.UPSTREAM
        memory = (kind == Kind.MRd) | (kind == Kind.MWr)
        ids = rows["link"].astype(np.int64) << 16 | rows["requester_id"]
        for one in np.unique(ids[up & (memory | (kind == Kind.DMWr))]).tolist():
            self.requesters.setdefault((one >> 16, one & 0xFFFF), len(self.requesters))
        config = np.isin(kind, list(CONFIG))
        host = memory & ~up
        answers = up & np.isin(kind, list(COMPLETIONS)) & (rows["request"] >= 0)
        if not (config | host | answers).any():
            self._watch(first, rows, up)
            return
        pages = rows["link"].astype(np.int64) << 52 | (rows["address"] >> np.uint64(12)).astype(np.int64)
        wanted = config | answers
        places = np.flatnonzero(host)
        places = places[np.argsort(pages[places], kind="stable")]
        for mine in np.split(places, np.flatnonzero(np.diff(pages[places])) + 1):
            if len(mine):
                one = int(pages[mine[0]])
                page = self._page(one >> 52, one & (1 << 52) - 1)
                if page is not None and page.looks < MOST_LOOKS:
                    mine = mine[: MOST_LOOKS - page.looks]
                    page.looks += len(mine)
                    wanted[mine] = True
        for index in np.flatnonzero(wanted).tolist():
            row = rows[index]
            if config[index]:
                self._configuration(store, first + index, row)
            elif answers[index]:
                self._answer(store, row)
            else:
                self._access(store, first + index, row)
        self._watch(first, rows, up)

    def _page(self, link: int, number: int) -> Page | None:
        """Return a page's accesses; None for one that is new when there are too many already."""
        page = self._pages.get((link, number))
        if page is None and len(self._pages) < MOST_PAGES:
            page = self._pages[link, number] = Page(link, number)
        return page

    def _configuration(self, store: Store, tlp: int, row: np.void) -> None:
        link, target, offset = int(row["link"]), int(row["completer_id"]), int(row["address"])
        enables = int(row["first_be"])
        if row["kind"] in (Kind.CfgWr0, Kind.CfgWr1):
            if row["payload_bytes"] < 4:
                return
            self.config.of(link, target).write(offset, enables, store.payload(row))
        else:
            self._config_reads[tlp] = (link, target, offset, enables)

    def _answer(self, store: Store, row: np.void) -> None:
        request = int(row["request"])
        read = self._config_reads.pop(request, None)
        if read is not None:
            link, target, offset, enables = read
            if row["status"] == 0 and row["payload_bytes"] >= 4:
                self.config.of(link, target).read(offset, enables, store.payload(row))
            return
        access = self._reads.pop(request, None)
        if access is None:
            return
        page, offset = access
        page.completer = int(row["completer_id"])
        if row["status"] == 0:
            data = store.payload(row)
            for at in range(0, min(len(data) & ~3, 8), 4):
                page.reads.setdefault(offset + at, int.from_bytes(data[at : at + 4], "little"))

    def _access(self, store: Store, tlp: int, row: np.void) -> None:
        address = int(row["address"])
        page, offset = self._page(int(row["link"]), address >> 12), address & 0xFFF
        if page is None:
            return
        page.function = min(page.function, int(row["function"]))
        if row["kind"] == Kind.MRd:
            page.asked = True
            if len(self._reads) < 1 << 16:
                self._reads[tlp] = (page, offset)
            return
        data = store.payload(row)
        page.lowest = min(page.lowest, offset)
        for at in range(0, min(len(data) & ~3, 16), 4):
            value = int.from_bytes(data[at : at + 4], "little")
            place = offset + at
            if value > 0xFFFF:
                page.big = True
                if place % 16 == 0 and not value & 3:
                    page.high = True
            page.writes[place] = value
            if place == Property.CC and value & 1 and page.enabled_at is None:
                page.enabled_at = tlp

    def _watch(self, first: int, rows: np.ndarray, up: np.ndarray) -> None:
        """Find who fetches from the admin queues that were set up."""
        for page in self._pages.values():
            if page.enabled_at is None or page.fetcher is not None or page.asq is None:
                continue
            asq = np.uint64(page.asq)
            hit = up & (rows["kind"] == Kind.MRd) & (rows["address"] == asq) & (rows["link"] == page.link)
            hit &= np.arange(first, first + len(rows)) > page.enabled_at
            if page.completer is not None and (hit & (rows["requester_id"] == page.completer)).any():
                page.fetcher = page.completer
            elif hit.any():
                at = int(np.argmax(hit))
                page.fetcher = int(rows["requester_id"][at])
                page.fetcher_assumed = bool(rows["flags"][at] & Flag.REQUESTER_ASSUMED)

    # -- what it all means ------------------------------------------------------------------------------------

    def space(self, link: int, function: int) -> int:
        """Return the address space of a function's requests; those of the links come first."""
        number = self.requesters.setdefault((link, function), len(self.requesters))
        return len(self.links) + number

    def facts(self) -> list[Facts]:
        """Return the controllers found, by link and function."""
        found: dict[tuple[int, int], Facts] = {}
        for facts in (*self._renumbered(self._configured()), *self._registered(found)):
            function = self.renumbered.get((facts.link, facts.function), facts.function)
            known = found.get((facts.link, function))
            if known is None:
                found[facts.link, function] = facts
            elif facts.bar0 != known.bar0 and facts.bar0 not in known.elsewhere:
                known.elsewhere += (facts.bar0,)
        for number, link in enumerate(self.links):
            self._given(number, link.given, found)
        for facts in self._inferred(found):
            found.setdefault((facts.link, facts.function), facts)
        for facts in found.values():
            self._detail(facts)
        return [found[key] for key in sorted(found)]

    def _renumbered(self, configured: Iterable[Facts]) -> Iterable[Facts]:
        """Yield each function once: one whose bus number was changed is configured, and sends, under two ids."""
        first: dict[tuple[int, int], Facts] = {}
        for facts in configured:
            known = first.setdefault((facts.link, facts.bar0), facts)
            apart = known.function >> 8 != facts.function >> 8 and known.function & 0xFF == facts.function & 0xFF
            if known is facts or not apart or facts.is_virtual != known.is_virtual:
                yield facts
            else:
                self.renumbered[facts.link, facts.function] = known.function
                self.requesters[facts.link, facts.function] = self.requesters[known.link, known.function]

    def _configured(self) -> Iterable[Facts]:
        for (link, function), space in sorted(self.config.spaces.items()):
            accessed = [base for base in space.bases if self._accessed(link, base)]
            if accessed:
                yield Facts(
                    link, function, self.space(link, function), accessed[-1], "seen",
                    elsewhere=tuple(accessed[:-1]), is_virtual=False,
                )  # fmt: skip
            for number in range(1, min(space.vf_most, 4096) + 1):
                base, routing = space.vf_base(number), space.vf_function(number)
                if base is not None and routing is not None and self._accessed(link, base):
                    yield Facts(
                        link, routing, self.space(link, routing), base, "seen", is_virtual=True,
                        primary=function, vf_number=number,
                    )  # fmt: skip

    def _accessed(self, link: int, base: int) -> bool:
        return (link, base >> 12) in self._pages or (link, (base >> 12) + 1) in self._pages

    def _registered(self, found: dict[tuple[int, int], Facts]) -> Iterable[Facts]:
        for page in self._sorted():
            if not page.properties:
                continue
            taken = {one.bar0 for one in found.values() if one.link == page.link}
            if page.base in taken or any(page.base in one.elsewhere for one in found.values()):
                continue
            function, confidence = self._owner(page, found)
            space = function
            if page.fetcher is not None:
                space = page.fetcher
                if not page.fetcher_assumed:
                    function = page.fetcher
            yield Facts(
                page.link, function, self.space(page.link, space), page.base, "seen", confidence,
            )  # fmt: skip

    def _owner(self, page: Page, found: dict[tuple[int, int], Facts]) -> tuple[int, float]:
        """Return (function, confidence) that a page of properties or doorbells belongs to."""
        if page.fetcher is not None and not page.fetcher_assumed:
            return page.fetcher, 1.0
        if page.completer:
            return page.completer, 1.0
        if page.fetcher is not None:
            return page.fetcher, 1.0
        ours = sorted(one for link, one in self.requesters if link == page.link)
        if page.function != NO_FUNCTION:
            same = [one for one in ours if one & 0xFF == page.function & 0xFF or one & 7 == page.function & 7]
            if same:
                return same[0], 0.9
        free = [one for one in ours if (page.link, one) not in found]
        if len(free) == 1:
            return free[0], 0.9
        return (free[0], 0.5) if free else (page.completer or 0, 0.5)

    def _sorted(self) -> list[Page]:
        return [self._pages[key] for key in sorted(self._pages)]

    def _given(self, link: int, given: Given, found: dict[tuple[int, int], Facts]) -> None:
        for function, base in sorted(given.bar0.items()):
            if (link, function) not in found:
                found[link, function] = Facts(link, function, self.space(link, function), base, "given")
        for facts in found.values():
            if facts.link == link:
                facts.controller = given.controller.get(facts.function)
                if given.doorbell_stride is not None:
                    facts.stride, facts.stride_known = given.doorbell_stride, True

    def _inferred(self, found: dict[tuple[int, int], Facts]) -> Iterable[Facts]:
        """Pages of nothing but small writes are taken for doorbells where no BAR is known that holds them."""
        claimed: dict[int, list[int]] = {}
        for facts in found.values():
            claimed.setdefault(facts.link, []).extend((facts.bar0, *facts.elsewhere))
        waiting = dict(found)
        before = -2
        for page in self._sorted():
            inside = any(0 <= page.base - base < 1 << 14 for base in claimed.get(page.link, ()))
            if inside or not page.doorbells or page.number == 0 or page.number == before + 1:
                before = page.number if page.doorbells and not inside else before
                continue
            if not any(link == page.link for link, _ in self.requesters):
                continue
            before = page.number
            function, confidence = self._owner(page, waiting)
            facts = Facts(
                page.link, function, self.space(page.link, function), page.base - DOORBELL_BASE, "inferred",
                min(confidence, 0.8),
            )  # fmt: skip
            waiting[page.link, function] = facts
            yield facts

    def _detail(self, facts: Facts) -> None:
        page = self._pages.get((facts.link, facts.bar0 >> 12))
        if page is not None:
            high = page.reads.get(Property.CAP + 4)
            if high is not None:
                facts.stride = CAP["DSTRD"].of((high << 32).to_bytes(8, "little"))
                facts.stride_known = True
        space = self.config.spaces.get((facts.link, facts.function))
        if space is not None:
            bars = [bar.base for bar in space.bars]
            if facts.vf_number is not None and facts.primary is not None:
                primary = self.config.of(facts.link, facts.primary)
                bars = [primary.vf_base(facts.vf_number, index) for index in range(6)]
            bars[0] = facts.bar0
            facts.msix, facts.pending = space.msix_table(bars), space.msix_pending(bars)
        if facts.msix is None:
            self._vectors(facts)

    def _vectors(self, facts: Facts) -> None:
        """Take the page behind the doorbells for the MSI-X table where message addresses are written to it."""
        for number in range((facts.bar0 >> 12) + 1, (facts.bar0 >> 12) + 16):
            page = self._pages.get((facts.link, number))
            if page is not None and page.vectors and (page.high or page.base > facts.bar0 + DOORBELL_BASE):
                facts.msix = (page.base if page.base > facts.bar0 + DOORBELL_BASE else page.base + page.lowest, None)
                facts.msix_learnt = "inferred"
                return
