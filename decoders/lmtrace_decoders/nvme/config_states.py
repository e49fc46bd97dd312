"""What configuration lets each function do, as of the time of each TLP (PCIe Base 5.0, 7.5, 9.3, 10.5).

While a write is on its way, and a little longer, only what is the same before and after it is known. Of a function that
was reset nothing is known before it is written or read again. Virtual functions take most of it from their physical
function.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lmtrace.spec.pcie import COMPLETIONS, CONFIG, Direction, Kind
from lmtrace.spec.tlp_checks import Control
from lmtrace.stage import FunctionState
from lmtrace.store import Store
from lmtrace_decoders.nvme.config_space import MSI, MSIX, PCI_EXPRESS, ConfigSpaces, FunctionConfig
from lmtrace_decoders.nvme.function_resets import FunctionResets

POWER = 0x01
ERRORS, CHANNELS, ATS, HINTS, PASID = 0x0001, 0x0002, 0x000F, 0x0017, 0x001B
ALL_CHANNELS = (CHANNELS, 0x0008, 0x0009)
"""Capabilities of virtual channels: one, that of several functions, and what goes with that."""
COMMAND, STATUS_DWORD, BAR0 = 0x04, 0x04, 0x10
SIZING = b"\xff" * 4
"""What a host writes to BAR0 to learn its size."""
GRACE_PS = 1_000_000
"""How long after the completion of a write TLPs may still come from before it."""
RESET_PS = 100_000_000_000
"""How long a Function Level Reset may take (6.6.2): later nothing is known of a function that nobody configured."""
_NEVER = np.iinfo(np.int64).max
MOST_VIRTUAL = 256
"""Virtual functions of a physical one that are looked at."""
_UNKNOWN = FunctionState()
_FROM_PHYSICAL = (
    Control.RELAXED_ORDERING | Control.NO_SNOOP | Control.EXTENDED_TAG | Control.TEN_BIT_TAG | Control.IDO_REQUEST
    | Control.IDO_COMPLETION | Control.DEFAULT_TIMEOUT | Control.OTHER_CLASSES | Control.NO_DIGEST
)  # fmt: skip
"""What a virtual function has no say of its own in."""
_OWN = Control.BUS_MASTER | Control.OPERATIONAL | Control.AWAKE | Control.TRANSLATION | Control.HINTS


@dataclass(slots=True)
class _Tracked:
    """One function: since when it is in which state, and the writes that are on their way."""

    times: list[int] = field(default_factory=list)
    states: list[FunctionState] = field(default_factory=list)
    now: FunctionState = _UNKNOWN
    """What all accesses so far add up to."""
    waiting: set[int] = field(default_factory=set)
    """Writes that are not completed, by TLP."""
    settles: int = 0
    unsettled: bool = False
    resetting: bool = False

    def put(self, time: int, state: FunctionState) -> None:
        """From ``time`` on the state is ``state``."""
        if self.states and self.states[-1] == state:
            return
        if self.times and self.times[-1] >= time:
            self.states[-1] = state
            return
        self.times.append(time)
        self.states.append(state)

    def settle(self, time: int) -> None:
        """Before something happens at ``time``: what was on its way may have arrived."""
        if self.unsettled and not self.waiting and self.settles <= time:
            self.unsettled = False
            self.put(self.settles, self.now)

    def change(self, time: int, state: FunctionState) -> None:
        """All accesses up to ``time`` add up to ``state``."""
        before = self.states[-1] if self.states else _UNKNOWN
        self.now = state
        if self.waiting or self.unsettled:
            self.unsettled = True
            self.put(time, _both(before, state))
        else:
            self.put(time, state)


@dataclass(frozen=True, slots=True)
class _Above:
    """What of a physical function counts for its virtual functions: its state, and fields of its SR-IOV capability."""

    whole: FunctionState
    control: int | None
    count: int | None
    first: int
    stride: int
    total: int


def _both(one: FunctionState, other: FunctionState) -> FunctionState:
    """Return what is known whichever of two states a function is in."""

    def same(name: str) -> int | None:
        value: int | None = getattr(one, name)
        return value if value == getattr(other, name) else None

    return FunctionState(
        one.permitted & other.permitted, one.forbidden & other.forbidden, same("max_payload"),
        same("max_read_request"), same("read_completion_boundary"),
    )  # fmt: skip


class ConfigStates:
    """Follows configuration requests in the order of the capture; then tells the state of each row."""

    def __init__(self) -> None:
        self.config = ConfigSpaces()
        self.resets = FunctionResets(self.config)
        self._functions: dict[tuple[int, int], _Tracked] = {}
        self._reads: dict[int, tuple[int, int, int, int]] = {}
        self._writes: dict[int, tuple[int, int, int]] = {}
        self._physical: dict[tuple[int, int], tuple[int, int]] = {}
        """The physical function of each virtual one, by link, and its number, from 1."""
        self._below: dict[tuple[int, int], list[int]] = {}
        """The virtual functions of each physical one, by link."""
        self._above: dict[tuple[int, int], _Above] = {}
        """What counts for the virtual functions of each physical one, by link."""
        self._recounted: set[tuple[int, int]] = set()
        self._answering: dict[int, dict[int, int]] = {}
        """When each function of a link first completed a configuration write."""
        self._places: list[tuple[int, int, int, int]] | None = None
        self._beyond: set[int] = set()
        """Links with configuration requests of type 1: there are buses behind a switch."""

    # -- in the order of the capture --------------------------------------------------------------------------

    def follow(self, store: Store, first: int, rows: np.ndarray) -> None:
        """Take in the configuration requests and their completions among the rows from TLP ``first`` on."""
        kind = rows["kind"]
        wanted = np.isin(kind, list(CONFIG))
        self._requests(store, first, rows, wanted)
        self.resets.completions(first, rows)

    def _requests(self, store: Store, first: int, rows: np.ndarray, wanted: np.ndarray) -> None:
        kind = rows["kind"]
        subsystem = self.resets.candidates(rows)
        if not wanted.any() and not self._reads and not self._writes and not subsystem.any():
            return
        answers = np.isin(kind, list(COMPLETIONS)) & (rows["direction"] == Direction.UPSTREAM) & (rows["request"] >= 0)
        asked = [*self._reads, *self._writes, *(first + np.flatnonzero(wanted)).tolist()]
        answers &= np.isin(rows["request"], asked)
        for index in np.flatnonzero(wanted | answers | subsystem).tolist():
            row = rows[index]
            if subsystem[index]:
                self.resets.subsystem_reset(store, first + index, row)
            elif wanted[index]:
                self._request(store, first + index, row)
            else:
                self._answer(store, first + index, row)

    def _tracked(self, link: int, function: int) -> _Tracked:
        return self._functions.setdefault((link, function), _Tracked())

    def _request(self, store: Store, tlp: int, row: np.void) -> None:
        link, function, offset = int(row["link"]), int(row["completer_id"]), int(row["address"])
        if row["kind"] in (Kind.CfgWr0, Kind.CfgWr1):
            self.resets.written(link, function, offset)
        enables, time = int(row["first_be"]), int(row["time_ps"])
        if row["kind"] in (Kind.CfgRd1, Kind.CfgWr1):
            self._beyond.add(link)
        if row["kind"] in (Kind.CfgRd0, Kind.CfgRd1):
            self._reads[tlp] = (link, function, offset, enables)
            return
        if row["payload_bytes"] < 4 or row["flags"]:
            self._forget(link, function, offset)
            self._recompute(link, function, time)
            return
        self._writes[tlp] = (link, function, offset)
        space, payload = self.config.of(link, function), store.payload(row)
        self._tracked(link, function).settle(time)
        self._tracked(link, function).waiting.add(tlp)
        asleep = self._asleep(space)
        if offset == BAR0 and payload[:4] == SIZING and _signals(space):
            self._clear(space)  # a host that looks for BARs anew found the device reset with its link
        space.write(offset, enables, payload)
        if self._resets(space, self._tracked(link, function), offset, enables, payload, asleep):
            self.resets.reset(space, link, "FLR", time, tlp)
        self._recompute(link, function, time)

    def _answer(self, store: Store, tlp: int, row: np.void) -> None:
        request, time = int(row["request"]), int(row["time_ps"])
        read = self._reads.pop(request, None)
        if read is not None:
            link, function, offset, enables = read
            if row["status"] == 0 and row["payload_bytes"] >= 4 and not row["flags"]:
                self.resets.read(link, function, offset, request, store.payload(row), tlp)
                tracked = self._tracked(link, function)
                tracked.settle(time)
                space, at = self.config.of(link, function), offset & ~3
                before = space.data[at : at + 4], space.seen[at : at + 4]
                if not tracked.waiting:
                    space.read(offset, enables, store.payload(row))
                    if before != (space.data[at : at + 4], space.seen[at : at + 4]):
                        self._recompute(link, function, time)
            return
        write = self._writes.pop(request, None)
        if write is None:
            return
        link, function, offset = write
        if row["status"] != 0:
            self._forget(link, function, offset)
        else:
            self._answering.setdefault(link, {}).setdefault(function, time)
        for one in (function, *self._virtual_of(link, function)):
            tracked = self._tracked(link, one)
            tracked.waiting.discard(request)
            tracked.settles = max(tracked.settles, time + GRACE_PS)
        self._recompute(link, function, time)

    def _asleep(self, space: FunctionConfig) -> bool:
        at = space.find(POWER)
        value = None if at is None else space.value(at + 4, 1)
        return value is not None and value & 3 == 3

    def _forget(self, link: int, function: int, offset: int) -> None:
        """What stands in a dword is not known any more."""
        self.config.of(link, function).seen[offset & ~3 : (offset & ~3) + 4] = bytes(4)

    def _resets(
        self, space: FunctionConfig, tracked: _Tracked, offset: int, enables: int, payload: bytes, asleep: bool
    ) -> bool:
        """See whether a write resets the function: a return from D3hot, or Initiate FLR, of which it tells."""
        resets = False
        express, power = space.find(PCI_EXPRESS), space.find(POWER)
        if offset == COMMAND and enables & 1 and payload[0] & 4:
            tracked.resetting = False
        if express is not None and offset == express + 8 and enables & 2 and payload[1] & 0x80:
            capable = space.value(express + 4, 4)
            space.data[express + 9] &= 0x7F
            if capable is not None and capable >> 28 & 1:
                tracked.resetting = resets = True
                self._clear(space)
        if power is not None and offset == power + 4 and enables & 1 and asleep and payload[0] & 3 == 0:
            kept = space.value(power + 4, 1)
            if kept is None or not kept & 8:
                self._clear(space)
        return resets

    def _clear(self, space: FunctionConfig) -> None:
        """Forget what a reset changes: every register that controls something."""
        places = [(COMMAND, 2)]
        for capability, registers in (
            (MSI, ((2, 2),)), (MSIX, ((2, 2),)), (PCI_EXPRESS, ((8, 2), (0x10, 2), (0x28, 2))),
        ):  # fmt: skip
            at = space.find(capability)
            places += [] if at is None else [(at + offset, size) for offset, size in registers]
        sizes = {ATS: (6, 2), HINTS: (8, 4), PASID: (6, 2), ERRORS: (0x18, 4), CHANNELS: (0x14, 4), 0x0010: (8, 2)}
        for capability, at in space.extended():
            if capability in sizes:
                offset, size = sizes[capability]
                places.append((at + offset, size))
        for at, size in places:
            space.seen[at : at + size] = bytes(size)

    # -- what it adds up to -----------------------------------------------------------------------------------

    def _virtual_of(self, link: int, function: int) -> list[int]:
        return self._below.get((link, function), [])

    def _recompute(self, link: int, function: int, time: int) -> None:
        """Something of a function was read or written: see what it comes to, for its virtual functions too."""
        space, tracked = self.config.of(link, function), self._tracked(link, function)
        tracked.settle(time)
        whole = _read(space, False)
        if (link, function) in self._physical:
            tracked.change(time, self._of_virtual(link, function))
            return
        vendor = space.value(0, 2)
        found = _read(space, tracked.resetting)
        if vendor is None or vendor == 0xFFFF:  # it may be a virtual function of which nobody told
            found = FunctionState(found.permitted & _OWN, found.forbidden & _OWN)
        tracked.change(time, found)
        sriov = space.sriov
        if sriov is None or not sriov.first:
            return
        total = max(space.value(sriov.place + 0x0E, 2) or 0, sriov.count)
        control, count = space.value(sriov.place + 8, 2), space.value(sriov.place + 0x10, 2)
        count = self._counted(link, function, control, count)
        above = _Above(whole, control, count, sriov.first, sriov.stride, total)
        if self._above.get((link, function)) == above:
            return
        self._above[link, function] = above
        for number in range(1, min(total, MOST_VIRTUAL) + 1):
            virtual = function + sriov.first + (number - 1) * sriov.stride & 0xFFFF
            if virtual != function and (link, virtual) not in self._below:
                if (link, virtual) not in self._physical:
                    self._below.setdefault((link, function), []).append(virtual)
                self._physical[link, virtual] = function, number
        for virtual in self._virtual_of(link, function):
            one = self._tracked(link, virtual)
            one.settle(time)
            one.waiting |= tracked.waiting
            one.change(time, self._of_virtual(link, virtual))

    def _counted(self, link: int, function: int, control: int | None, count: int | None) -> int | None:
        """Return NumVFs; None once it was written while VFs are enabled, which leaves open how many there are."""
        before, key = self._above.get((link, function)), (link, function)
        if control is None or not control & 1:
            self._recounted.discard(key)
        elif before is not None and (before.control or 0) & 1 and before.count not in (None, count):
            self._recounted.add(key)
        return None if key in self._recounted else count

    def _of_virtual(self, link: int, function: int) -> FunctionState:
        """Return the state of a virtual function: its own registers, and those of its physical function."""
        physical, number = self._physical[link, function]
        found = _read(self.config.of(link, function), self._tracked(link, function).resetting)
        above = self._above[link, physical]
        whole = above.whole
        permitted = found.permitted & _OWN | whole.permitted & _FROM_PHYSICAL | Control.VIRTUAL
        forbidden = found.forbidden & _OWN | whole.forbidden & _FROM_PHYSICAL
        if above.control is not None:
            if not above.control & 1 or (above.count is not None and number > above.count):
                forbidden |= Control.EXISTS
            elif above.count is not None:
                permitted |= Control.EXISTS
            if above.control & 8:
                permitted |= Control.MEMORY_SPACE
            else:
                forbidden |= Control.MEMORY_SPACE
        return FunctionState(
            int(permitted), int(forbidden), whole.max_payload, whole.max_read_request, whole.read_completion_boundary
        )

    # -- the state of each row --------------------------------------------------------------------------------

    def fill(self, store: Store, rows: np.ndarray) -> None:
        """Write ``configuration`` into the rows of a chunk."""
        if not self._functions:
            return
        for tracked in self._functions.values():
            tracked.settle(1 << 62)
        kind, down = rows["kind"], rows["direction"] == Direction.DOWNSTREAM
        completion, config = np.isin(kind, list(COMPLETIONS)), np.isin(kind, list(CONFIG))
        function = np.where(completion == down, rows["requester_id"], rows["completer_id"]).astype(np.int64)
        judged = np.where(down, completion | config, True)
        function, judged = self._by_address(rows, down & ~completion & ~config, function, judged)
        links = rows["link"]
        keys = links.astype(np.int64) << 16 | function
        present = np.zeros((int(links.max(initial=0)) + 1) << 16, np.bool_)
        present[keys[judged]] = True
        for (link, number), tracked in self._functions.items():
            key = link << 16 | number
            if tracked.times and key < len(present) and present[key]:
                mine = np.flatnonzero(judged & (keys == key))
                states = np.array([0, *(store.configuration(one) for one in tracked.states)], np.int32)
                at = np.searchsorted(np.array(tracked.times, np.int64), rows["time_ps"][mine], "right")
                over = np.array([_NEVER, *(
                    since + RESET_PS if one.forbidden & Control.OPERATIONAL else _NEVER
                    for since, one in zip(tracked.times, tracked.states, strict=True)
                )], np.int64)  # fmt: skip
                rows["configuration"][mine] = np.where(rows["time_ps"][mine] > over[at], 0, states[at])
        self._strangers(store, rows, judged & ~down, function)

    def _by_address(
        self, rows: np.ndarray, wanted: np.ndarray, function: np.ndarray, judged: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the functions that requests of the host are for, by where their BAR0 is (and always was)."""
        if self._places is None:
            self._places = self._bases()
        at = np.flatnonzero(wanted)
        if not len(at) or not self._places:
            return function, judged
        address, links = rows["address"][at], rows["link"][at]
        for link, number, base, size in self._places:
            inside = at[(address >= np.uint64(base)) & (address - np.uint64(base) < np.uint64(size)) & (links == link)]
            function[inside], judged[inside] = number, True
        return function, judged

    def _bases(self) -> list[tuple[int, int, int, int]]:
        """Return (link, function, BAR0, bytes) of each function whose BAR0 is known and was never moved."""
        found = []
        for (link, number), space in self.config.spaces.items():
            sriov = space.sriov
            base, size = space.bars[0].base, space.bars[0].size
            if base and size and (link, number) not in self._physical and len(space.bases) <= 1:
                found.append((link, number, base, size))
            if sriov is None or not space.vf_bars[0].size:
                continue
            for index in range(1, min(max(space.vf_most, sriov.count), MOST_VIRTUAL) + 1):
                virtual, place = space.vf_function(index), space.vf_base(index)
                if virtual is not None and place and place < 1 << 64:
                    found.append((link, virtual, place, space.vf_bars[0].size))
        return found

    def _strangers(self, store: Store, rows: np.ndarray, upstream: np.ndarray, function: np.ndarray) -> None:
        """Mark TLPs of the device whose sender has a bus number below every one that it was given, and configuration
        requests of type 1 where an endpoint answered those of type 0."""
        for link in sorted({link for link, _ in self._functions} & self._beyond):
            endpoint = [space.value(0x0E, 1) for (where, _), space in self.config.spaces.items() if where == link]
            if any(one is not None and one & 0x7F == 0 for one in endpoint):
                second = np.isin(rows["kind"], (Kind.CfgRd1, Kind.CfgWr1)) & (rows["link"] == link)
                rows["configuration"][second] = store.configuration(FunctionState(0, int(Control.IDENTITY)))
        for link, answering in self._answering.items():
            if link in self._beyond:
                continue
            lowest = min(one >> 8 for one in answering)
            since = min(answering.values())
            strange = upstream & (rows["link"] == link) & (function >> 8 < lowest) & (rows["time_ps"] > since)
            strange &= rows["configuration"] == 0
            if strange.any():
                rows["configuration"][strange] = store.configuration(FunctionState(0, int(Control.IDENTITY)))


def _signals(space: FunctionConfig) -> bool:
    """Whether MSI or MSI-X of a function is enabled."""
    for capability, enable in ((MSI, 1), (MSIX, 1 << 15)):
        at = space.find(capability)
        if at is not None and (space.value(at + 2, 2) or 0) & enable:
            return True
    return False


def _read(space: FunctionConfig, resetting: bool) -> FunctionState:
    """Return what the registers of one function say."""
    permitted, forbidden = Control.IDENTITY, Control(0)

    def say(control: Control, value: int | bool | None) -> None:
        nonlocal permitted, forbidden
        if value is None:
            return
        if value:
            permitted |= control
        else:
            forbidden |= control

    def bit(value: int | None, number: int) -> int | None:
        return None if value is None else value >> number & 1

    command = space.value(COMMAND, 2)
    say(Control.BUS_MASTER, bit(command, 2))
    say(Control.MEMORY_SPACE, bit(command, 1))
    say(Control.OPERATIONAL, not resetting)
    express, power, vectors, messages = (space.find(one) for one in (PCI_EXPRESS, POWER, MSIX, MSI))
    enabled = [
        None if vectors is None else bit(space.value(vectors + 2, 2), 15),
        None if messages is None else bit(space.value(messages + 2, 2), 0),
    ]
    if bit(command, 10) or any(enabled):
        forbidden |= Control.INTX
    elif command is not None:
        permitted |= Control.INTX
    state = None if power is None else space.value(power + 4, 1)
    say(Control.AWAKE, None if state is None else state & 3 != 3)
    payload = request = boundary = None
    if express is not None:
        control, link, second = (space.value(express + offset, 2) for offset in (8, 0x10, 0x28))
        if control is not None:
            payload = 128 << (control >> 5 & 7) if control >> 5 & 7 <= 5 else None
            request = 128 << (control >> 12 & 7) if control >> 12 & 7 <= 5 else None
        for flag, place in (
            (Control.RELAXED_ORDERING, 4), (Control.NO_SNOOP, 11), (Control.EXTENDED_TAG, 8), (Control.CORRECTABLE, 0),
        ):  # fmt: skip
            say(flag, bit(control, place))
        for flag, place in ((Control.NON_FATAL, 1), (Control.FATAL, 2)):
            if control is not None and command is not None:
                say(flag, control >> place & 1 or command >> 8 & 1)
        if link is not None:
            boundary = 128 if link >> 3 & 1 else 64
        for flag, place in (
            (Control.IDO_REQUEST, 8), (Control.IDO_COMPLETION, 9), (Control.TEN_BIT_TAG, 12),
        ):  # fmt: skip
            say(flag, bit(second, place))
        say(Control.DEFAULT_TIMEOUT, None if second is None else second & 0x1F == 0)
    for capability, at in space.extended():
        if capability == ATS:
            say(Control.TRANSLATION, bit(space.value(at + 6, 2), 15))
        elif capability == PASID:
            say(Control.PASID, bit(space.value(at + 6, 2), 0))
        elif capability == HINTS:
            value = space.value(at + 8, 4)
            say(Control.HINTS, None if value is None else value >> 8 & 3 != 0)
        elif capability == ERRORS:
            value = space.value(at + 0x18, 4)
            say(Control.NO_DIGEST, None if value is None else not value >> 6 & 1)
        elif capability == CHANNELS:
            say(Control.OTHER_CLASSES, _other_classes(space, at))
    listed = space.all_extended
    if listed is not None:  # what it has no capability for is never enabled
        for absent, flag in ((ATS, Control.TRANSLATION), (HINTS, Control.HINTS), (PASID, Control.PASID)):
            if absent not in listed:
                say(flag, False)
        if not listed & set(ALL_CHANNELS):
            say(Control.OTHER_CLASSES, False)
    return FunctionState(int(permitted), int(forbidden), payload, request, boundary)


def _other_classes(space: FunctionConfig, at: int) -> bool | None:
    """Return whether a traffic class but 0 is mapped to an enabled virtual channel; None while not known."""
    count = space.value(at + 4, 1)
    if count is None:
        return None
    mapped = 0
    for channel in range((count & 7) + 1):
        control = space.value(at + 0x14 + 12 * channel, 4)
        if control is None:
            return None
        if channel == 0 or control >> 31:
            mapped |= control & 0xFF
    return mapped & 0xFE != 0
