"""The pass that gives every TLP its role: one walk in order, which stops where the protocol above must decide.

Bulk data are counted here, per command. What the protocol needs to know is handed up as events, in order; the walk
stops after an event that may change who owns which address.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import CONFIG, Direction, Kind
from lmtrace.stage import Flag
from lmtrace.tables import ROLES
from lmtrace_decoders.nvme.digests import PLACE, DigestPool, gather
from lmtrace_decoders.nvme.memory_map import (
    CDQ,
    CMB,
    CQ,
    DATA,
    DOORBELL,
    HMB,
    INTERRUPT,
    LARGE,
    LIST,
    METADATA,
    MOST_SPACES,
    MSIX,
    PENDING,
    PMR,
    READ,
    REGISTER,
    SEGMENT,
    SHADOW,
    SMALL,
    SQ,
    WRITE,
    MemoryMap,
    page_key,
)  # fmt: skip
from lmtrace_decoders.nvme.pairing import (
    CLASS,
    COMPLETION,
    REQUEST,
    OpenRequests,
    answered,
    bucket,
    carried,
    enabled_span,
    post,
    settle,
)  # fmt: skip

WORK = np.dtype([
    ("number", "<i8"), ("to_device", "<i8"), ("from_device", "<i8"), ("metadata", "<i8"), ("first_ps", "<i8"),
    ("last_ps", "<i8"), ("first_tlp", "<i8"), ("last_tlp", "<i8"), ("digests", "<i4"), ("blocks", "<i4"),
    ("keep", "u1"), ("shift", "u1"), ("way", "u1"), ("places", "<u8"), ("outside", "<i8"),
    ("shared", "u1"),
])  # fmt: skip
"""What was seen of one command's data. ``keep`` asks for an event with each piece, 2 also to stop after one that was
read, `BLOCKS` for one with each piece of metadata too, and not to take them for structures. ``blocks`` of ``1 <<
shift`` bytes are digested from ``digests`` on where that is not -1, of data that move in the direction ``way``.
``places`` adds up the positions in the buffer of every data byte, modulo 2^64; ``outside`` counts bytes that lie behind
the piece of the buffer that a TLP began in, and in no other. ``shared`` says that some TLP may belong to another
command, or elsewhere in the buffer: a page may hold the data of many writes."""
BLOCKS = 4

EVENT = np.dtype([
    ("code", "<i8"), ("row", "<i8"), ("owner", "<i8"), ("length", "<i8"), ("offset", "<i8"), ("payload", "<i8"),
    ("request", "<i8"), ("time", "<i8"), ("since", "<i8"), ("extra", "<i8"),
])  # fmt: skip
"""One event: the row in the chunk, the owner and offset of the piece it hit, where its bytes lie in the chunk's
payload and how many, the request (TLP id) it answers and that one's time."""

(
    SQE_BYTES, CQE_WRITE, LIST_BYTES, PROPERTY_WRITE, PROPERTY_READ, PROPERTY_VALUE, DOORBELL_WRITE, MSIX_WRITE,
    INTERRUPT_WRITE, CDQ_WRITE, DATA_BYTES, SHADOW_BYTES, CONFIG_WRITE, STRANGE_READ, STRANGE_WRITE, STRANGE_HOST,
    STRANGE_DATA, CMB_WRITE, CMB_DATA, PIN, PENDING_DATA, SHADOW_WRITE, DOORBELL_READ, PMR_READ, METADATA_BYTES,
) = range(25)  # fmt: skip

_ROLE = {name: number for number, name in enumerate(ROLES)}
ROLE_OF_KIND = np.full(32, _ROLE["unrelated"], np.uint8)
for _kind, _role in (
    (DATA, "data"), (METADATA, "metadata"), (LIST, "prp_list"), (SQ, "sqe_fetch"), (CQ, "cqe"), (CDQ, "cdq_entry"),
    (INTERRUPT, "interrupt"), (SHADOW, "shadow_doorbell"), (REGISTER, "register"), (MSIX, "msix_table"), (CMB, "cmb"),
    (SEGMENT, "sgl_segment"), (PENDING, "msix_table"), (PMR, "cmb"), (HMB, "hmb"),
):  # fmt: skip
    ROLE_OF_KIND[_kind] = _ROLE[_role]
ROLE_OF_KIND[DOORBELL] = _ROLE["register"]

_CONFIG, _MESSAGE, _UNRELATED, _INTERRUPT = (_ROLE[n] for n in ("config", "message", "unrelated", "interrupt"))
_MWR, _DMWR, _MSG, _MSGD, _IORD, _IOWR = (
    int(kind) for kind in (Kind.MWr, Kind.DMWr, Kind.Msg, Kind.MsgD, Kind.IORd, Kind.IOWr)
)
_CFG_FIRST, _CFG_LAST = int(min(CONFIG)), int(max(CONFIG))
_CFGWR = (int(Kind.CfgWr0), int(Kind.CfgWr1))
_DOWN = int(Direction.DOWNSTREAM)
_ASSERT = 0x20
"""Message codes of Assert_INTA to Assert_INTD; those of Deassert follow (PCIe Base 5.0, 2.2.8.1)."""
_SIDE_BAND, _STRUCTURE = Flag.SIDE_BAND, Flag.STRUCTURE
_STOP = np.zeros(25, np.uint8)
for _code in (SQE_BYTES, CQE_WRITE, LIST_BYTES, PROPERTY_WRITE, PROPERTY_VALUE, CONFIG_WRITE):
    _STOP[_code] = 1


@njit(cache=True)
def _space(ids, spaces, link, requester):  # type: ignore[no-untyped-def]
    """Return the address space of a function's requests, -1 for none; ``ids`` is sorted."""
    wanted = np.int64(link) << 16 | np.int64(requester)
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) >> 1
        if ids[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    if low < len(ids) and ids[low] == wanted:
        return spaces[low]
    return -1


@njit(cache=True)
def find(nodes, heads, space, start, count, way):  # type: ignore[no-untyped-def]
    """Return (piece, exact) that a request touches; -1 for none.

    Exact is a piece made for this direction that holds the first byte; else command data in the other direction or
    that starts behind the first byte.
    """
    weak, loose = -1, -1
    last = start + np.uint64(max(count, 1) - 1)
    for shift in (SMALL, LARGE):
        key = page_key(space, start, shift)
        at = heads[bucket(key, len(heads))]
        while at >= 0:
            if nodes[at]["key"] == key and start <= nodes[at]["last"] and last >= nodes[at]["start"]:
                kind = nodes[at]["kind"]
                if start >= nodes[at]["start"] and nodes[at]["ways"] & way:
                    if kind == CDQ or kind == HMB:
                        within = (nodes[at]["offset"] + np.int64(start - nodes[at]["start"])) & 31
                        if weak < 0 and (kind == HMB or within + count <= 32):
                            weak = at
                    else:
                        return at, True
                elif loose < 0 and (kind == DATA or ((kind == LIST or kind == SEGMENT) and way == READ)):
                    loose = at
            at = nodes[at]["next"]
        if weak >= 0:
            return weak, True
        if loose >= 0:
            return loose, False
    return -1, False


@njit(cache=True)
def shares_page(nodes, heads, space, address):  # type: ignore[no-untyped-def]
    """Return whether a region lives in the page of 4 KiB that holds an address."""
    key = page_key(space, address, SMALL)
    at = heads[bucket(key, len(heads))]
    while at >= 0:
        if nodes[at]["key"] == key:
            return True
        at = nodes[at]["next"]
    return False


@njit(cache=True)
def _emit(events, ctl, code, i, owner, length, offset, payload, request, time, since, extra):  # type: ignore[no-untyped-def]
    n = ctl[1]
    events[n]["code"] = code
    events[n]["row"] = i
    events[n]["owner"] = owner
    events[n]["length"] = length
    events[n]["offset"] = offset
    events[n]["payload"] = payload
    events[n]["request"] = request
    events[n]["time"] = time
    events[n]["since"] = since
    events[n]["extra"] = extra
    ctl[1] = n + 1


@njit(cache=True)
def _count(work, slot, time, tlp):  # type: ignore[no-untyped-def]
    if work[slot]["first_tlp"] < 0:
        work[slot]["first_tlp"] = tlp
        work[slot]["first_ps"] = time
    work[slot]["last_tlp"] = tlp
    work[slot]["last_ps"] = time


@njit(cache=True)
def _places(work, slot, place, count):  # type: ignore[no-untyped-def]
    work[slot]["places"] += np.uint64(place * count + count * (count - 1) // 2)


@njit(cache=True)
def _shared(nodes, heads, work, node, space, start, way):  # type: ignore[no-untyped-def]
    """Note every command that has a request's first byte in its buffer, where it is more than one, or twice."""
    for shift in (SMALL, LARGE):
        key = page_key(space, start, shift)
        at = heads[bucket(key, len(heads))]
        while at >= 0:
            if at != node and nodes[at]["key"] == key and nodes[at]["start"] <= start <= nodes[at]["last"]:
                kind = nodes[at]["kind"]
                if (kind == DATA or kind == METADATA) and nodes[at]["ways"] & way:
                    work[nodes[at]["owner"]]["shared"] = 1
                    work[nodes[node]["owner"]]["shared"] = 1
            at = nodes[at]["next"]


@njit(cache=True)
def _outside(nodes, heads, work, node, space, start, count, way):  # type: ignore[no-untyped-def]
    """Count the bytes of a write that no piece of its command's buffer holds."""
    last = start + np.uint64(count - 1)
    owner = nodes[node]["owner"]
    end = nodes[node]["last"]
    while last > end:
        left = np.int64(last - end)
        following, exact = find(nodes, heads, space, end + np.uint64(1), left, way)
        if following < 0 or not exact or nodes[following]["owner"] != owner or nodes[following]["last"] <= end:
            work[owner]["outside"] += left
            return
        end = nodes[following]["last"]


@njit(cache=True)
def _digest(work, owner, digests, weights, place, payload, at, count):  # type: ignore[no-untyped-def]
    if place >= 0 and count > 0:
        gather(
            digests, work[owner]["digests"], np.int64(work[owner]["shift"]), place, payload, at, count,
            work[owner]["blocks"], weights,
        )  # fmt: skip


@njit(cache=True)
def _attribute(  # type: ignore[no-untyped-def]
    rows, first, base, pool, oheads, ostate, nodes, heads, ids, spaces, watch, work, events, numbers, offsets, tables,
    ctl, payload, digests,
):  # fmt: skip
    classes, roles, stop, weights = tables[0], tables[1], tables[2], tables[3]
    ctl[1] = 0
    most = len(events) - 2
    i = ctl[0]
    end = len(rows)
    while i < end:
        kind = rows[i]["kind"]
        tlp = first + i
        time = rows[i]["time_ps"]
        data = rows[i]["payload_start"] - base
        group = classes[kind]
        stopping = False
        if group == COMPLETION:
            index = answered(pool, oheads, ostate, rows, i)
            if index < 0:
                rows[i]["role"] = _UNRELATED
            else:
                offset, count, lead = carried(pool, index, rows, i)
                here = max(min(count, np.int64(rows[i]["payload_bytes"]) - lead), 0)
                what = pool[index]["kind"]
                owner = pool[index]["owner"]
                rows[i]["role"] = pool[index]["role"]
                rows[i]["owner"] = pool[index]["text"]
                number = pool[index]["number"]
                request, since = pool[index]["request"], pool[index]["time"]
                place = pool[index]["offset"] + offset
                wrong = rows[i]["status"] != 0
                settle(pool, oheads, ostate, index, rows, i, offset, count)
                if what == DATA or what == METADATA:
                    numbers[i] = number
                    offsets[i] = place
                    if work[owner]["number"] == number and not wrong:
                        _count(work, owner, time, tlp)
                        if what == METADATA:
                            work[owner]["metadata"] += count
                            if work[owner]["keep"] == BLOCKS:
                                at = data + lead
                                _emit(events, ctl, METADATA_BYTES, i, owner, here, place, at, request, time, since, 1)
                        else:
                            work[owner]["to_device"] += count
                            _places(work, owner, place, count)
                            if work[owner]["digests"] >= 0 and work[owner]["way"] == READ:
                                _digest(work, owner, digests, weights, place, payload, data + lead, here)
                            if work[owner]["keep"]:
                                if work[owner]["keep"] != BLOCKS:
                                    rows[i]["flags"] |= _STRUCTURE
                                _emit(
                                    events,
                                    ctl,
                                    DATA_BYTES,
                                    i,
                                    owner,
                                    here,
                                    place,
                                    data + lead,
                                    request,
                                    time,
                                    since,
                                    1,
                                )
                                stopping = work[owner]["keep"] == 2
                elif what == SQ or what == LIST or what == SEGMENT or what == SHADOW:
                    if here > 0 and not wrong:
                        code = SQE_BYTES if what == SQ else SHADOW_BYTES if what == SHADOW else LIST_BYTES
                        _emit(events, ctl, code, i, owner, here, place, data + lead, request, time, since, 0)
                        stopping = stop[code] == 1
                elif what == REGISTER:
                    _emit(
                        events,
                        ctl,
                        PROPERTY_VALUE,
                        i,
                        owner,
                        here if here == count else 0,
                        place,
                        data + lead,
                        request,
                        time,
                        since,
                        rows[i]["status"],
                    )
                    stopping = True
                elif what == CMB or what == PMR:
                    if here > 0 and not wrong:
                        _emit(events, ctl, CMB_DATA, i, owner, here, place, data + lead, request, time, since, 0)
                elif what == PENDING:
                    if here > 0 and not wrong:
                        _emit(events, ctl, PENDING_DATA, i, owner, here, place, data + lead, request, time, since, 0)
                elif pool[index]["weak"] and here > 0 and not wrong:
                    _emit(events, ctl, STRANGE_DATA, i, owner, here, offset, data + lead, request, time, since, 0)
                    stopping = True
        elif _CFG_FIRST <= kind <= _CFG_LAST:
            index = post(pool, oheads, ostate, rows, i, tlp)
            pool[index]["role"] = _CONFIG
            rows[i]["role"] = _CONFIG
            if (kind == _CFGWR[0] or kind == _CFGWR[1]) and rows[i]["payload_bytes"] >= 4:
                _emit(
                    events,
                    ctl,
                    CONFIG_WRITE,
                    i,
                    rows[i]["completer_id"],
                    rows[i]["payload_bytes"],
                    rows[i]["address"],
                    data,
                    -1,
                    time,
                    time,
                    rows[i]["first_be"],
                )
                stopping = True
        elif kind == _MSG or kind == _MSGD:
            rows[i]["role"] = _MESSAGE
            if _ASSERT <= rows[i]["message_code"] < _ASSERT + 8 and rows[i]["direction"] != _DOWN:
                space = _space(ids, spaces, rows[i]["link"], rows[i]["requester_id"])
                _emit(events, ctl, PIN, i, -1, 0, space, 0, -1, time, time, rows[i]["message_code"])
        elif rows[i]["flags"] & _SIDE_BAND and kind == _MWR:
            rows[i]["role"] = _INTERRUPT
            space = _space(ids, spaces, rows[i]["link"], rows[i]["requester_id"])
            _emit(events, ctl, INTERRUPT_WRITE, i, -1, 4, space, data, -1, time, time, rows[i]["address"])
        elif kind == 0 or kind == _IORD or kind == _IOWR:
            if group == REQUEST:
                index = post(pool, oheads, ostate, rows, i, tlp)
                pool[index]["role"] = _UNRELATED
            rows[i]["role"] = _UNRELATED
        else:
            down = rows[i]["direction"] == _DOWN
            space = np.int64(rows[i]["link"]) if down else _space(ids, spaces, rows[i]["link"], rows[i]["requester_id"])
            if space >= MOST_SPACES:
                space = np.int64(-1)
            way = WRITE if kind == _MWR or kind == _DMWR else READ
            start, count = enabled_span(
                rows[i]["address"], rows[i]["length_dw"], rows[i]["first_be"], rows[i]["last_be"]
            )
            lead = np.int64(start - rows[i]["address"])
            node, _exact = -1, False
            if space >= 0 and count > 0:
                node, _exact = find(nodes, heads, space, start, count, way)
            role, text, what, owner, number, place = _UNRELATED, -1, 0, -1, np.int64(-1), np.int64(0)
            if node >= 0:
                what = nodes[node]["kind"]
                owner = nodes[node]["owner"]
                text = nodes[node]["text"]
                role = roles[what]
                place = nodes[node]["offset"] + np.int64(start) - np.int64(nodes[node]["start"])
                if what == DATA or what == METADATA:
                    number = work[owner]["number"]
                    numbers[i] = number
                    offsets[i] = place
                    _count(work, owner, time, tlp)
                    _shared(nodes, heads, work, node, space, start, way)
                    if _exact and way == WRITE and start + np.uint64(count - 1) > nodes[node]["last"]:
                        _outside(nodes, heads, work, node, space, start, count, way)
            rows[i]["role"] = role
            rows[i]["owner"] = text
            index = -1
            if group == REQUEST:
                index = post(pool, oheads, ostate, rows, i, tlp)
                pool[index]["kind"] = what
                pool[index]["owner"] = owner
                pool[index]["text"] = text
                pool[index]["role"] = role
                pool[index]["number"] = number
                pool[index]["offset"] = place
            if way == WRITE:
                have = max(min(count, np.int64(rows[i]["payload_bytes"]) - lead), 0)
                at = data + lead
                if what == DATA:
                    work[owner]["from_device"] += count
                    _places(work, owner, place, count)
                    if work[owner]["digests"] >= 0 and work[owner]["way"] == WRITE:
                        _digest(work, owner, digests, weights, place, payload, at, have)
                    if work[owner]["keep"]:
                        if work[owner]["keep"] != BLOCKS:
                            rows[i]["flags"] |= _STRUCTURE
                        _emit(events, ctl, DATA_BYTES, i, owner, have, place, at, tlp, time, time, 0)
                elif what == METADATA:
                    work[owner]["metadata"] += count
                    if work[owner]["keep"] == BLOCKS:
                        _emit(events, ctl, METADATA_BYTES, i, owner, have, place, at, tlp, time, time, 0)
                elif have < count:
                    pass  # the recorder cut it; half a value is none
                elif what == CQ:
                    _emit(events, ctl, CQE_WRITE, i, owner, have, place, at, tlp, time, time, 0)
                    stopping = True
                elif what == INTERRUPT:
                    _emit(events, ctl, INTERRUPT_WRITE, i, owner, have, place, at, tlp, time, time, rows[i]["address"])
                elif what == CDQ:
                    _emit(events, ctl, CDQ_WRITE, i, owner, have, place, at, tlp, time, time, rows[i]["requester_id"])
                elif what == REGISTER:
                    _emit(events, ctl, PROPERTY_WRITE, i, owner, have, place, at, tlp, time, time, 0)
                    stopping = True
                elif what == DOORBELL:
                    _emit(events, ctl, DOORBELL_WRITE, i, owner, have, place, at, tlp, time, time, 0)
                elif what == SHADOW:
                    _emit(events, ctl, SHADOW_WRITE, i, owner, have, place, at, tlp, time, time, 0)
                elif what == CMB or what == PMR:
                    _emit(events, ctl, CMB_WRITE, i, owner, have, place, at, tlp, time, time, 0)
                elif what == MSIX:
                    _emit(events, ctl, MSIX_WRITE, i, owner, have, place, at, tlp, time, time, 0)
                elif what == 0:
                    code = STRANGE_HOST if down else STRANGE_WRITE
                    _emit(
                        events, ctl, code, i, space, have, np.int64(start), at, tlp, time, time, rows[i]["requester_id"]
                    )
                    stopping = bool(not down and watch[space] == 1)
            elif what == DOORBELL:
                _emit(events, ctl, DOORBELL_READ, i, owner, count, place, data, tlp, time, time, 0)
            elif what == PMR:
                _emit(events, ctl, PMR_READ, i, owner, count, place, data, tlp, time, time, 0)
            elif what == REGISTER:
                _emit(events, ctl, PROPERTY_READ, i, owner, count, place, data, tlp, time, time, 0)
            elif what == 0:
                code = STRANGE_HOST if down else STRANGE_READ
                _emit(
                    events, ctl, code, i, space, count, np.int64(start), index, tlp, time, time, rows[i]["requester_id"]
                )
                # what a read of one entry returns may have to be looked at
                stopping = bool(not down and (watch[space] == 1 or (watch[space] == 0 and count == 64)))
        i += 1
        if stopping or ctl[1] > most:
            break
    ctl[0] = i


class Walk:
    """The walk's state over one capture: open requests, the memory map, command counters, events."""

    def __init__(self, ids: np.ndarray, spaces: np.ndarray, count: int) -> None:
        """Prepare for functions ``ids`` (link << 16 | requester, ascending) with their ``spaces``, of ``count``."""
        self.map = MemoryMap()
        self.opens = OpenRequests()
        self.work = np.zeros(1024, WORK)
        self.watch = np.ones(count + 1, np.uint8)
        self.watch[-1] = 0  # requesters that are no function have no space
        self._ids, self._spaces = ids.astype(np.int64), spaces.astype(np.int64)
        self._events = np.zeros(4096, EVENT)
        self._control = np.zeros(2, np.int64)
        self._tables = (CLASS, ROLE_OF_KIND, _STOP, PLACE)
        self.digests = DigestPool()

    def begin(self, rows: np.ndarray) -> np.ndarray:
        """Start a chunk; return the array that will hold the command number of each data TLP, -1 for none."""
        self.opens.reserve(len(rows) + 1)
        self._control[0] = 0
        return np.full(len(rows), -1, np.int64)

    def step(
        self, rows: np.ndarray, first: int, base: int, numbers: np.ndarray, offsets: np.ndarray, payload: np.ndarray
    ) -> list[tuple[int, ...]] | None:
        """Walk to the next stop; return the events up to there in order of EVENT's fields, None at the end."""
        if self._control[0] >= len(rows):
            return None
        opens = self.opens
        _attribute(
            rows, first, base, opens.pool, opens.heads, opens.state, self.map.nodes, self.map.heads, self._ids,
            self._spaces, self.watch, self.work, self._events, numbers, offsets, self._tables, self._control,
            payload, self.digests.blocks,
        )  # fmt: skip
        events: list[tuple[int, ...]] = self._events[: int(self._control[1])].tolist()
        return events

    def digest(self, work: int, blocks: int, shift: int, way: int) -> None:
        """Take digests of a command's data, in ``blocks`` of ``1 << shift`` bytes, that move in one direction."""
        start = self.digests.take(blocks)
        self.work["digests"][work], self.work["blocks"][work] = start, blocks if start >= 0 else 0
        self.work["shift"][work], self.work["way"][work] = shift, way

    def digested(self, work: int) -> np.ndarray | None:
        """Return the digests of a command's data, None where none were taken; the room is given back."""
        start, blocks = int(self.work["digests"][work]), int(self.work["blocks"][work])
        return None if start < 0 else self.digests.give_back(start, blocks)

    def grow_work(self) -> None:
        """Double the room for commands."""
        self.work = np.concatenate([self.work, np.zeros(len(self.work), WORK)])
