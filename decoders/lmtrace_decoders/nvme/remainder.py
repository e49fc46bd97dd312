"""TLPs that belong to nothing: their class, what lies nearest, and whether anything may still explain them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lmtrace.arrow import coded, from_numpy
from lmtrace.spec.pcie import COMPLETIONS, Direction, Kind
from lmtrace.spec.tlp_checks import Header
from lmtrace.stage import Flag
from lmtrace.tables import ROLES, TABLES
from lmtrace_decoders.nvme.attribution import find, shares_page
from lmtrace_decoders.nvme.memory_map import CMB, CQ, DOORBELL, MSIX, PENDING, PMR, READ, REGISTER, SQ, WRITE
from lmtrace_decoders.nvme.queues import CompletionQueue, Queue
from lmtrace_decoders.nvme.spool import LEARNT, Spill, by_function

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Function
    from lmtrace_decoders.nvme.output import Region
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

CLASSES = (
    "unknown address", "another function", "host access elsewhere", "flush", "I/O request", "completion",
    "stray completion",
)  # fmt: skip
UNKNOWN, ANOTHER, HOST, FLUSH, IO, COMPLETION, STRAY = range(len(CLASSES))
HEADER_TYPE, SEVERAL_FUNCTIONS = 0x0E, 0x80
MOST_SLIPS = 8
"""Entries that a requester may move by mistake; one that moves more may be an alias that its device was given."""
MOST_LOOKS = 10_000
"""TLPs that are looked at closely; of more it is not said that nothing explains them."""
MOST_FUNCTIONS = 64
_WINDOWS = (REGISTER, DOORBELL, MSIX, PENDING, CMB, PMR)
_UNRELATED = ROLES.index("unrelated")
_KINDS = [one.name for one in sorted(Kind)]
ROW = np.dtype([
    ("link", "<i4"), ("function", "<i4"), ("controller", "<i4"), ("class", "<i4"), ("kind", "<i4"), ("address", "<u8"),
    ("address_known", "<i4"), ("length", "<i8"), ("nearest", "<i4"), ("distance", "<u8"), ("distance_known", "<i4"),
    ("accounted", "<i4"), ("former", "<i4"), ("own_region", "<i4"), ("own_memory", "<i4"),
    ("other_function", "<i4"), ("other_admin", "<i4"),
    ("foreign_entry", "<i4"), ("between_vfs", "<i4"), ("odd_header", "<i4"), ("time_ps", "<i8"), ("tlp_id", "<i8"),
])  # fmt: skip
_NOTHING = (-1, -1, -1, -1, -1, -1, -1)
_ODD = (
    Header.TRANSLATION | Header.TRANSLATED | Header.RESERVED | Header.PREFIX_UNKNOWN | Header.PREFIX_ORDER
    | Header.PASID | Header.DIGEST_WRONG | Header.SHORT
)  # fmt: skip
"""What makes an address none of its space, or a TLP one that its receiver drops."""
_FIRST_ENABLES, _LAST_ENABLES = (8, 12, 14, 15), (1, 3, 7, 15)
"""Byte enables without a gap of a request of several dwords."""


class Remainder:
    """Writes down every TLP that ends without a role of its own."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self._spill = Spill(run.store.folder / "remainder.spill", ROW)
        self._looks = 0
        self._requesters: dict[tuple[int, int], int] = {}
        self._near: dict[tuple[int, int], Region | None] = {}
        self._noted: dict[int, tuple[int, int, int, tuple[int, ...]]] = {}
        """Of the chunk, by row: nearest text and distance, whether that is known, the facts."""
        self._strangers: dict[tuple[int, int], list[int]] = {}
        """By link and requester that is no function, the TLPs that moved entries of functions."""
        self._latest: dict[tuple[int, int], int] = {}
        """By link and function whose entries a stranger moved, the last TLP that it sent itself."""

    def note(self, row: int, space: int, address: int, length: int, down: bool) -> int:
        """Look at a request to nowhere while the regions are as they are; return the text of the nearest one."""
        if space < 0:
            return -1
        key = (space, address >> 12)
        if len(self._near) > 4096:
            self._near.clear()
        if key not in self._near:
            self._near[key] = self._run.nearest(space, address)
        region = self._near[key]
        text = -1 if region is None else region.text
        distance = 0 if region is None else max(region.start - address, address - region.end + 1, 0)
        facts: tuple[int, ...] = _NOTHING
        function = None if down else self._run.function_of_space(space)
        if function is not None:
            self._looks += 1
            if self._looks <= MOST_LOOKS:
                facts = self._facts(function, row, address, length)
        self._noted[row] = (text, distance, int(region is not None), facts)
        return text

    def note_stranger(self, row: int, queue: Queue) -> None:
        """A requester that is no function moved the entry that was due in a queue: its function gave a wrong id."""
        function, one = queue.controller.function, self._run.rows[row]
        self._noted[row] = (queue.text, 0, 1, (0, 0, 0, -1, function.bdf, int(queue.qid == 0), 1))
        self._strangers.setdefault((function.link, int(one["requester_id"])), []).append(self._run.first + row)
        self._latest.setdefault((function.link, function.bdf), -1)

    def certain(self, row: int) -> None:
        """A request to nowhere is understood, whatever else its function may reach: an entry in a wrong place."""
        text, distance, known, facts = self._noted[row]
        if facts is not _NOTHING:
            self._noted[row] = (text, distance, known, (1, *facts[1:]))

    def accounted(self, row: int) -> bool:
        """Whether everything is known that the function of a request of this chunk to nowhere may reach."""
        facts = self._noted.get(row, (-1, 0, 0, _NOTHING))[3]
        return facts is not _NOTHING and facts[0] == 1

    def chunk(self) -> None:
        """Write down what the chunk leaves over."""
        run, rows = self._run, self._run.rows
        for row in np.flatnonzero(rows["role"] == _UNRELATED).tolist():
            one = rows[row]
            text, distance, known, facts = self._noted.get(row, (-1, 0, 0, _NOTHING))
            kind, down = int(one["kind"]), int(one["direction"]) == Direction.DOWNSTREAM
            completion = kind in COMPLETIONS
            enables = int(one["first_be"])
            lead = (enables & -enables).bit_length() - 1 if enables else 0
            if completion:
                group = COMPLETION if int(one["request"]) >= 0 else STRAY
            elif kind in (Kind.IORd, Kind.IOWr):
                group = IO
            elif down:
                group = HOST
            elif enables == 0 and int(one["length_dw"]) == 1:
                group = FLUSH
            else:
                known_function = run.function_of(int(one["link"]), int(one["requester_id"])) is not None
                group = UNKNOWN if known_function or facts is not _NOTHING else ANOTHER
            self._spill.append(
                (int(one["link"]), -1 if down or completion else int(one["requester_id"]), -1, group, kind,
                 int(one["address"]) + lead, int(not completion), 4 * int(one["length_dw"]), text, distance, known,
                 *facts, self._between(one) if group == ANOTHER else -1, -1 if completion else int(self._odd(one)),
                 int(one["time_ps"]), run.first + row)
            )  # fmt: skip
        for link, function in self._latest:
            sent = (rows["link"] == link) & (rows["requester_id"] == function)
            own = np.flatnonzero(
                sent & (rows["direction"] == Direction.UPSTREAM) & ~np.isin(rows["kind"], list(COMPLETIONS))
            )
            if len(own):
                self._latest[link, function] = run.first + int(own[-1])
        self._noted.clear()
        self._near.clear()

    def _odd(self, one: np.void) -> bool:
        """Whether a request is not one that its receiver would take for what it seems; rules about headers tell it."""
        said, flags, length = int(one["header_flags"]), int(one["flags"]), int(one["length_dw"])
        if said & _ODD or flags & Flag.UNKNOWN_BITS:
            return True
        if int(one["header_dw"]) == 4 and int(one["address"]) < 1 << 32 and not said & Header.REBUILT:
            return True
        first, last = int(one["first_be"]), int(one["last_be"])
        gap = last != 0 if length == 1 else first not in _FIRST_ENABLES or last not in _LAST_ENABLES
        if gap and not flags & (Flag.BE_ASSUMED | Flag.SIDE_BAND):
            return True
        state = self._run.store.configurations[int(one["configuration"])]
        most = state.max_read_request if int(one["kind"]) in (Kind.MRd, Kind.MRdLk) else state.max_payload
        return (most is not None and 4 * length > most) or int(one["address"]) % 4096 + 4 * length > 4096

    def _between(self, one: np.void) -> int:
        """Return whether a requester is no function of a device, though its VFs lie around it; -1 where not known.

        Of a device with several physical functions, or one that did not tell, the others may not have been asked.
        """
        link, requester = int(one["link"]), int(one["requester_id"])
        key = (link, requester)
        if key not in self._requesters:
            self._requesters[key] = -1
            config = self._run.discovery.config
            for (where, function), space in config.spaces.items():
                last = space.vf_function(space.vf_most) if where == link and space.vf_most else None
                if last is None or not function < requester <= last | 0xFF:
                    continue
                virtual = {space.vf_function(number) for number in range(1, space.vf_most + 1)}
                real = requester in virtual or (key in config.spaces and any(config.spaces[key].seen))
                header = space.value(HEADER_TYPE, 1)
                if not real and (header is None or header & SEVERAL_FUNCTIONS):
                    break
                self._requesters[key] = 0 if real else 1
                break
        return self._requesters[key]

    # -- what may explain a request ----------------------------------------------------------------------------

    def _facts(self, function: Function, row: int, address: int, length: int) -> tuple[int, ...]:
        """Return (accounted, former, own, own memory, other function, its admin queue, foreign entry)."""
        run, one = self._run, self._run.rows[row]
        write = int(one["kind"]) != Kind.MRd
        way = WRITE if write else READ
        former = any(
            region.to_ps is not None and region.start <= address < region.end and region.space == function.space
            for region in run.output.regions
        )
        own, _ = find(run.map.nodes, run.map.heads, function.link, np.uint64(address), 1, READ)
        window = own >= 0 and int(run.map.nodes[own]["kind"]) in _WINDOWS
        mine = window and run.objects[int(run.map.nodes[own]["owner"])] in (function, function.persistent)
        inside = function.memory.holds(address)
        other, admin, foreign = -1, 0, 0
        for candidate in run.functions[:MOST_FUNCTIONS]:
            if candidate is function or candidate.link != function.link or candidate.space == function.space:
                continue
            node, exact = find(run.map.nodes, run.map.heads, candidate.space, np.uint64(address), length, way)
            if node < 0 or not exact:
                continue
            other = candidate.bdf
            if int(run.map.nodes[node]["kind"]) in (SQ, CQ):
                thing: Queue = run.objects[int(run.map.nodes[node]["owner"])]
                admin = int(thing.qid == 0)
                if isinstance(thing, CompletionQueue) and write and self._entry(thing, row, address):
                    foreign = 1
                    break
        return (
            int(self._accounted(function, row, address, length, write)),
            int(former),
            int(mine or inside),
            -1 if function.memory.start is None else int(inside),
            other,
            admin,
            foreign,
        )

    def _entry(self, cq: CompletionQueue, row: int, address: int) -> bool:
        """Whether a write is the next entry of a completion queue, for a command that is outstanding there."""
        one = self._run.rows[row]
        start, _ = self._run.store.payload_span(self._run.rows)
        at = int(one["payload_start"]) - start
        data = self._run.payload[at : at + int(one["payload_bytes"])].tobytes()
        if len(data) != 16 or cq.due_slot is None or address != cq.base + cq.due_slot * cq.entry_size:
            return False
        sq = cq.controller.sqs.get(int.from_bytes(data[10:12], "little"))
        named = sq is not None and int.from_bytes(data[12:14], "little") in sq.outstanding
        return named and cq.due_phase is not None and bool(data[14] & 1) == cq.due_phase

    def _accounted(self, function: Function, row: int, address: int, length: int, write: bool) -> bool:
        """Whether everything is known that a function may reach: it has lived its whole life before our eyes.

        A read that shares a page with something known may only read too much of it.
        """
        run, controller = self._run, function.controller
        if not controller.enabled or not run.interrupts.announcements.sure(controller) or controller.undecoded:
            return False
        if function.facts.learnt != "seen" or not controller.cqs or run.migration.may_be_data_queue(address):
            return False
        if controller.vectors_restored:
            return False  # what else came with the state of another controller nobody tells
        vectors = function.vectors
        if write and length == 4 and not all(vectors.message(one) is not None for one in controller.vector_uses):
            return False
        return write or not shares_page(run.map.nodes, run.map.heads, function.space, np.uint64(address))

    # -- the table --------------------------------------------------------------------------------------------

    def finish(self, cntlid: dict[tuple[int, int], int], learnt: dict[tuple[int, int], int]) -> None:
        """Write the table, without what was given a role after all."""
        run, schema = self._run, TABLES["remainder"].schema()
        writer = run.store.writer("remainder")
        for records in self._batches():
            ids, ways = by_function(records, cntlid), by_function(records, learnt)
            plain = {
                "id": from_numpy(np.arange(writer.count, writer.count + len(records), dtype=np.uint64), pa.uint64()),
                "capture": coded(np.zeros(len(records), np.int64), [run.capture.name]),
                "link": coded(records["link"].astype(np.int64), run.output.links),
                "controller": from_numpy(np.maximum(ids, 0), pa.uint16(), ids >= 0),
                "class": coded(records["class"].astype(np.int64), CLASSES),
                "learnt": coded(ways, LEARNT, ways >= 0),
                "kind": coded(records["kind"].astype(np.int64), _KINDS),
                "nearest": coded(records["nearest"].astype(np.int64), run.store.owners, records["nearest"] >= 0),
            }
            for field in schema:
                if field.name in plain:
                    continue
                values = records[field.name]
                known = f"{field.name}_known"
                valid = records[known] != 0 if known in (records.dtype.names or ()) else values >= 0
                plain[field.name] = from_numpy(np.maximum(values, 0), field.type, valid)
            writer.add_batch(pa.RecordBatch.from_arrays([plain[one.name] for one in schema], schema=schema))
        self._spill.close()

    def _batches(self) -> Iterator[np.ndarray]:
        """Yield what stays. A function that sends nothing any more may have been given another id."""
        later = np.array(sorted(self._run.reassigned), np.int64)
        moved = np.array([one for some in self._strangers.values() for one in some], np.int64)
        aliases = np.array(
            [one for some in self._strangers.values() if len(some) > MOST_SLIPS for one in some], np.int64
        )
        for records in self._spill.batches():
            kept = records[~np.isin(records["tlp_id"], later)]
            for at in np.flatnonzero(np.isin(kept["tlp_id"], moved)).tolist():
                latest = self._latest[int(kept["link"][at]), int(kept["other_function"][at])]
                if latest < int(kept["tlp_id"][at]) or int(kept["tlp_id"][at]) in aliases:
                    kept["foreign_entry"][at] = 0
            if len(kept):
                yield kept
