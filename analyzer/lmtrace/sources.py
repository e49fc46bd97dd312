"""Events from tables: what the rules are asked about, in the order of the capture, one link at a time.

Orders are ``TLP id * ORDER_STEP`` plus a rank, so that several things one TLP did keep a fixed order: the request
itself, a doorbell or property access, a reset, entries fetched or posted, commands completed, queues created, what a
decoder found out about a command.
"""

from __future__ import annotations

import heapq
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmtrace import events as ev
from lmtrace.arrow import from_numpy, to_numpy
from lmtrace.both_ends import facts_of_both_ends
from lmtrace.consequences import consequences
from lmtrace.describe import entry
from lmtrace.known import Known
from lmtrace.pieces import Pieces
from lmtrace.session import Session
from lmtrace.spec.admin_data import Lid
from lmtrace.spec.fabrics import FABRICS_OPCODE
from lmtrace.spec.migration import HMLM_OPCODES
from lmtrace.spec.nvme import Status
from lmtrace.spec.pcie import OVER_FABRICS, UNKNOWN_OVER_FABRICS, Direction, Kind
from lmtrace.store import Capture, Store
from lmtrace.tables import ROLES

ORDER_STEP = 64
REQUEST, REGISTER, RESET, MOVED, COMPLETED, CREATED, DERIVED = 0, 1, 2, 3, 44, 45, 46
"""Ranks within one TLP. ``MOVED`` leaves room for the entries of one burst; ``DERIVED`` things share the last ones."""

BATCH = 1 << 14
"""Rows made into events at a time."""

Step = tuple[int, bool, ev.Event]
"""(order, whether it is a command's fetch, the event)."""


@dataclass(slots=True)
class LinkSource:
    """The events of one link of one capture."""

    store: Store
    capture: Capture
    link: str

    def session(self) -> Session:
        """Return a session that knows which function is which controller."""
        session = Session(link=self.link)
        for row in self._rows("controllers"):
            if row["controller"] is not None and row["controller"] not in session.identifiers:
                session.bind(row["function"], row["controller"])  # of two that tell the same, Identify decides
            if row["is_virtual"] is not None:
                controller = session.of_function(row["function"])
                controller.virtual = Known.of(row["is_virtual"])
        return session

    def steps(self) -> Iterator[Step]:
        """Yield every step of the link in order."""
        commands = list(self._commands())
        about_migration = any(isinstance(one, ev.MigrationCommand) for one in commands)
        sources: list[Iterator[Step]] = [
            iter(sorted(self._command_steps(commands), key=_order)),
            self._configs(),
            self._properties(),
            iter(sorted(self._lives(), key=_order)),
            iter(sorted(self._queues(), key=_order)),
            iter(sorted(self._consequences(commands), key=_order)),
        ]
        if any(isinstance(one, ev.GetLogPage) and one.lid == Lid.ERROR_INFORMATION for one in commands):
            sources.append(iter(sorted(self._failures(), key=_order)))
        if about_migration:
            functions = self._functions(commands)
            sources += [
                self._fetches(functions),
                self._posts(functions),
                self._unmatched(functions),
                self._doorbells(functions),
                self._interrupts(functions),
                iter(sorted(self._cdq_entries(), key=_order)),
                self._cdq_rewrites(),
                self._dirty_ranges(),
                iter(sorted(self._misplaced(), key=_order)),
                self._requests(commands),
                iter(sorted(self._memory_reports(), key=_order)),
            ]
        last = 0
        for step in heapq.merge(*sources, key=_order):
            last = max(last, step[0])
            yield step
        for event in facts_of_both_ends(self.store, self.capture, self.link):
            last += 1
            event.order = last
            yield event.order, False, event
        end = ev.EndOfCapture(time=self.capture.duration_ps, order=last + ORDER_STEP, function=0)
        yield end.order, False, end

    # -- commands ---------------------------------------------------------------------------------------------

    def _commands(self) -> Iterator[ev.Command]:
        """Yield the admin commands of the link, typed, in order of fetch."""
        found = list(self._rows("transactions", ("sqid", "==", 0)))
        if self.capture.unit != "TLP":
            found += self._rows("transactions", ("sqid", ">", 0), ("opcode", "==", FABRICS_OPCODE))
        rows = [row for row in found if row["fetch_tlp_id"] is not None]
        wanted = {row["id"] for row in rows}
        data: dict[int, Pieces] = {}
        for one in self.store.read("command_data").to_pylist():
            if one["transaction_id"] in wanted:
                data[one["transaction_id"]] = Pieces.of(one["data"], one["seen"])
        rows.sort(key=lambda row: (row["fetch_tlp_id"], row["sq_slot"] or 0, row["id"]))
        rank = _Rank()
        for row in rows:
            command = ev.typed(self._command(row, data.get(row["id"]), rank))
            if isinstance(command, ev.CreateCdq) and command.data is not None:
                command.pages = _entries(command.data)
            yield command

    def _command(self, row: dict[str, Any], data: Pieces | None, rank: _Rank) -> ev.Command:
        fetched = rank.order(row["fetch_tlp_id"])
        done = row["cqe_tlp_id"] is not None
        end = row["cqe_tlp_id"] if done else max(row["last_tlp_id"] or 0, row["fetch_tlp_id"])
        return ev.Command(
            time=row["cqe_ps"] if done else row["fetch_ps"],
            order=end * ORDER_STEP + COMPLETED,
            function=row["function"],
            inferred=row["learnt"] == "inferred",
            transaction_id=row["id"],
            tlp_id=row["cqe_tlp_id"] if done else row["fetch_tlp_id"],
            sqe=entry(row),
            sqid=row["sqid"],
            fetched=fetched,
            fetch_time=row["fetch_ps"],
            status=Status(row["sct"], row["sc"]) if done else None,
            dnr=bool(row["dnr"]),
            more=bool(row["more"]),
            dw0=row["dw0"] or 0,
            dw1=row["dw1"] or 0,
            data=data,
            bytes_to_device=row["bytes_to_device"] or 0,
            bytes_from_device=row["bytes_from_device"] or 0,
            outcome=row["outcome"],
        )

    def _failures(self) -> Iterator[Step]:
        """Yield the completions with an error."""
        columns = ("id", "function", "controller", "sqid", "cid", "sct", "sc", "more", "cqe_ps", "cqe_tlp_id", "learnt")
        for where in ([("sc", ">", 0)], [("sct", ">", 0), ("sc", "==", 0)]):
            for row in self._rows("transactions", *where, columns=columns):
                order = row["cqe_tlp_id"] * ORDER_STEP + COMPLETED
                yield order, False, ev.CommandFailed(
                    time=row["cqe_ps"], order=order, function=row["function"], inferred=row["learnt"] == "inferred",
                    transaction_id=row["id"], tlp_id=row["cqe_tlp_id"], sqid=row["sqid"], cid=row["cid"],
                    status=Status(row["sct"], row["sc"]), more=bool(row["more"]),
                )  # fmt: skip

    def _command_steps(self, commands: list[ev.Command]) -> Iterator[Step]:
        last = self.capture.end_tlp * ORDER_STEP
        for command in commands:
            yield command.fetched, True, command
            if command.status is None:
                command.order = last
            yield command.order, False, command

    def _misplaced(self) -> Iterator[Step]:
        """Yield the commands of I/O queues that have the opcode of a live-migration command."""
        rank = _Rank()
        for row in self._rows("transactions", ("sqid", ">", 0), ("opcode", "in", sorted(map(int, HMLM_OPCODES)))):
            if row["fetch_tlp_id"] is not None:
                command = self._command(row, None, rank)
                yield command.order, False, command

    def _consequences(self, commands: list[ev.Command]) -> Iterator[Step]:
        """Yield what follows from admin commands, behind the TLPs that show it."""
        ranks: dict[int, int] = {}
        for tlp, event in consequences(self.store, self.capture, self.link, commands, ORDER_STEP):
            rank = ranks[tlp] = min(ranks.get(tlp, DERIVED - 1) + 1, ORDER_STEP - 1)
            event.order = tlp * ORDER_STEP + rank
            yield event.order, False, event

    def _functions(self, commands: list[ev.Command]) -> frozenset[int]:
        """Return the functions whose queues matter to the rules: those that migration commands name.

        Where a command names a controller whose function is not known, every function may be it.
        """
        by_cntlid = {row["controller"]: row["function"] for row in self._rows("controllers")}
        named: set[int] = set()
        for command in commands:
            match command:
                case ev.Targeted() | ev.CreateCdq():
                    named.add(command.target)
        if all(cntlid in by_cntlid for cntlid in named if self._is_served(commands, cntlid)):
            return frozenset(by_cntlid[cntlid] for cntlid in named if cntlid in by_cntlid)
        return frozenset(row["function"] for row in self._rows("controllers"))

    @staticmethod
    def _is_served(commands: list[ev.Command], cntlid: int) -> bool:
        """Whether a command about a CNTLID succeeded, so that it must exist."""
        return any(isinstance(one, ev.Targeted) and one.target == cntlid and one.succeeded for one in commands)

    # -- queues and registers ---------------------------------------------------------------------------------

    def _fetches(self, functions: frozenset[int]) -> Iterator[Step]:
        """Yield the entries that the functions fetched."""
        rank = _Rank(MOVED)
        for row in self._moves(functions, "fetch_tlp_id", ("sq_slot", "fetch_ps")):
            order = rank.order(row["fetch_tlp_id"])
            yield order, False, ev.SqeFetch(
                time=row["fetch_ps"], order=order, function=row["function"], inferred=row["learnt"] == "inferred",
                transaction_id=row["id"], tlp_id=row["fetch_tlp_id"], sqid=row["sqid"], slot=row["sq_slot"],
                cid=row["cid"], opcode=row["opcode"],
            )  # fmt: skip

    def _posts(self, functions: frozenset[int]) -> Iterator[Step]:
        """Yield the completion queue entries that the functions posted."""
        rank = _Rank(MOVED)
        more = ("cq_slot", "cqe_ps", "phase", "sqhd", "sct", "sc", "cqe_sqid")
        for row in self._moves(functions, "cqe_tlp_id", more):
            order = rank.order(row["cqe_tlp_id"])
            yield order, False, ev.CqePosted(
                time=row["cqe_ps"], order=order, function=row["function"], inferred=row["learnt"] == "inferred",
                transaction_id=row["id"], tlp_id=row["cqe_tlp_id"], cqid=row["cqid"], slot=row["cq_slot"],
                phase=bool(row["phase"]), sqid=row["sqid"], sqhd=row["sqhd"], cid=row["cid"], opcode=row["opcode"],
                status=Status(row["sct"], row["sc"]), named_sqid=row["cqe_sqid"],
            )  # fmt: skip

    def _unmatched(self, functions: frozenset[int]) -> Iterator[Step]:
        """Yield the completions of queues seen from their creation that complete no command known."""
        rank = _Rank(MOVED)
        for row in sorted(self._rows("unmatched_completions"), key=lambda one: one["tlp_id"]):
            if row["function"] in functions and row["learnt"] == "seen":
                order = rank.order(row["tlp_id"])
                yield order, False, ev.CqePosted(
                    time=row["time_ps"], order=order, function=row["function"], tlp_id=row["tlp_id"],
                    cqid=row["cqid"], slot=row["cq_slot"], phase=row["phase"], sqid=row["sqid"], sqhd=row["sqhd"],
                    cid=row["cid"], status=Status(row["sct"], row["sc"]),
                )  # fmt: skip

    def _moves(self, functions: frozenset[int], key: str, more: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """Yield the transactions of the functions in order of the TLP ``key``; those without one are left out."""
        names = ("id", "function", "controller", "sqid", "cqid", "cid", "opcode", "learnt", key, *more)
        found = self.store.read("transactions", names, [*self._place, *_of_functions(functions)])
        found = found.filter(pc.is_valid(found.column(key)))
        order = np.argsort(to_numpy(found.column(key)), kind="stable")
        for first in range(0, len(order), BATCH):
            part = order[first : first + BATCH]
            yield from map(_with_function, found.take(from_numpy(part, pa.int64())).to_pylist())

    def _doorbells(self, functions: frozenset[int]) -> Iterator[Step]:
        for row in self._rows("doorbells"):
            if row["function"] in functions and row["value"] is not None:
                order = row["tlp_id"] * ORDER_STEP + REGISTER
                yield order, False, ev.Doorbell(
                    time=row["time_ps"], order=order, function=row["function"], tlp_id=row["tlp_id"],
                    completion=row["kind"] == "CQ", qid=row["qid"], value=row["value"],
                )  # fmt: skip

    def _interrupts(self, functions: frozenset[int]) -> Iterator[Step]:
        for row in self._rows("interrupts"):
            if row["function"] in functions:
                order = row["tlp_id"] * ORDER_STEP + REGISTER
                yield order, False, ev.Interrupt(
                    time=row["time_ps"], order=order, function=row["function"], tlp_id=row["tlp_id"],
                    vector=row["vector"], inferred=row["learnt"] == "inferred", address=row["address"],
                )  # fmt: skip

    def _properties(self) -> Iterator[Step]:
        writes: dict[int, list[int]] = {}
        for row in self._rows("properties", ("write", "==", True), columns=("function", "controller", "tlp_id")):
            writes.setdefault(row["function"], []).append(row["tlp_id"])
        guessed = {row["function"] for row in self._rows("controllers") if _guessed(row)}
        for row in sorted(self._rows("properties"), key=lambda one: one["tlp_id"]):  # reads come with their answers
            mine, answer = writes.get(row["function"], []), row["completion_tlp_id"]
            order = row["tlp_id"] * ORDER_STEP + REGISTER
            yield order, False, ev.PropertyAccess(
                time=row["time_ps"], order=order, function=row["function"], tlp_id=row["tlp_id"], write=row["write"],
                property=row["name"], value=row["value"], completion=row["status"],
                offset=row["offset"], size=row["size"], msix=row["msix"], inferred=row["function"] in guessed,
                overtaken=answer is not None and bisect(mine, row["tlp_id"]) < bisect(mine, answer),
            )  # fmt: skip

    def _configs(self) -> Iterator[Step]:
        """Yield what the configuration spaces say, each once, before everything else."""
        told: set[int] = set()
        order = self.capture.first_tlp * ORDER_STEP
        for row in self._rows("controllers"):
            said = {name: row[name] for name in _CONFIG}
            if row["function"] not in told and any(value is not None for value in said.values()):
                told.add(row["function"])
                yield order, False, ev.FunctionConfig(order=order, function=row["function"], **said)

    def _lives(self) -> Iterator[Step]:
        """Yield when controllers were enabled and reset."""
        for row in self._rows("controllers"):
            inferred = row["learnt"] == "inferred"
            if row["enabled_ps"] is not None and row["enabled_tlp_id"] is not None:
                order = row["enabled_tlp_id"] * ORDER_STEP + RESET
                yield order, False, ev.Enabled(
                    time=row["enabled_ps"], order=order, function=row["function"], tlp_id=row["enabled_tlp_id"],
                    inferred=inferred, page_size=row["page_size"],
                )  # fmt: skip
            if row["ended_by"] is not None and row["ended_tlp_id"] is not None:
                order = row["ended_tlp_id"] * ORDER_STEP + RESET
                yield order, False, ev.Reset(
                    time=row["ended_ps"], order=order, function=row["function"], tlp_id=row["ended_tlp_id"],
                    how=row["ended_by"], inferred=inferred,
                )  # fmt: skip

    def _queues(self) -> Iterator[Step]:
        for row in self._rows("queues"):
            inferred = row["learnt"] == "inferred"
            start = row["created_tlp_id"] if row["created_tlp_id"] is not None else self.capture.first_tlp
            order = start * ORDER_STEP + CREATED
            yield order, False, ev.QueueCreated(
                time=row["created_ps"] or 0, order=order, function=row["function"], inferred=inferred, tlp_id=start,
                kind=row["kind"], qid=row["qid"], base=row["base"] or 0, size=row["size"],
                contiguous=row["contiguous"] is not False, cqid=row["cqid"], priority=row["priority"],
                vector=row["vector"], interrupts=row["interrupts"], origin=row["origin"],
                vectors_enabled=row["vectors_enabled"],
                first_head=row["first_head"] or 0, first_tail=row["first_tail"] or 0,
                first_phase=row["first_phase"] is not False,
            )  # fmt: skip
            if row["ended_by"] in ("delete", "connection closed") and row["deleted_tlp_id"] is not None:
                order = row["deleted_tlp_id"] * ORDER_STEP + CREATED
                yield order, False, ev.QueueDeleted(
                    time=row["deleted_ps"], order=order, function=row["function"], inferred=inferred,
                    tlp_id=row["deleted_tlp_id"], kind=row["kind"], qid=row["qid"],
                )  # fmt: skip

    def _cdq_entries(self) -> Iterator[Step]:
        for row in self._rows("cdq_entries"):
            order = row["last_tlp_id"] * ORDER_STEP + MOVED
            yield order, False, ev.CdqEntry(
                time=row["time_ps"], order=order, function=row["requester_id"], tlp_id=row["last_tlp_id"],
                owner=row["function"], cdqid=row["cdqid"], slot=row["slot"], cdqp=row["cdqp"], esa=row["esa"],
                lbacir=row["lbacir"], dlba=row["dlba"], nsid=row["nsid"], slba=row["slba"], nlb=row["nlb"],
                writes_after_phase=int(row["last_tlp_id"] != row["phase_tlp_id"]), data=row["data"],
            )  # fmt: skip

    def _cdq_rewrites(self) -> Iterator[Step]:
        for row in self._rows("cdq_rewrites"):
            order = row["tlp_id"] * ORDER_STEP + MOVED
            yield order, False, ev.CdqRewrite(
                time=row["time_ps"], order=order, function=row["requester_id"], tlp_id=row["tlp_id"],
                owner=row["function"], cdqid=row["cdqid"], slot=row["slot"], first_byte=row["first_byte"],
                size=row["size"],
            )  # fmt: skip

    def _dirty_ranges(self) -> Iterator[Step]:
        """Yield what the logs of user data changes hold and lack, behind the command or entry that shows it."""
        found = self.store.read("dirty_log", None, self._place)
        order = np.argsort(to_numpy(found.column("tlp_id")), kind="stable")
        rank = _Rank(DERIVED)
        for first in range(0, len(order), BATCH):
            for row in found.take(from_numpy(order[first : first + BATCH], pa.int64())).to_pylist():
                at = rank.order(row["tlp_id"])
                yield at, False, ev.DirtyRange(
                    time=row["time_ps"], order=at, function=row["function"], transaction_id=row["transaction_id"],
                    tlp_id=row["tlp_id"], cdqid=row["cdqid"], target=row["target"], period=row["period"],
                    opened_by=row["opened_by"], closed_by=row["closed_by"], about=row["about"],
                    judgement=row["judgement"], doubtful=row["doubtful"], phase=row["phase"] or "",
                    cause=row["cause"] or "", nsid=row["nsid"] or 0, slba=row["slba"] or 0, blocks=row["blocks"],
                    slot=row["slot"] or 0, missing=row["missing"] or 0, reason=row["reason"] or "",
                )  # fmt: skip

    def _memory_reports(self) -> Iterator[Step]:
        """Yield what became of the reports of memory changes."""
        shown: dict[tuple[int, str], dict[str, Any]] = {}
        for row in self._rows("memory_log"):
            shown.setdefault((row["transaction_id"], row["judgement"]), row)
            if row["eaten_transaction_id"] is not None:
                shown.setdefault((row["transaction_id"], "eaten"), row)
        for row in self._rows("memory_reports"):
            order = row["tlp_id"] * ORDER_STEP + DERIVED
            first = {name: shown.get((row["transaction_id"], name)) for name in _JUDGEMENTS}
            missed = first["missed"] or first["late"]
            places = {name: None if found is None else found["address"] for name, found in first.items()}
            yield order, False, ev.MemoryReport(
                time=row["time_ps"], order=order, function=row["function"], inferred=row["learnt"] == "inferred",
                transaction_id=row["transaction_id"], tlp_id=row["tlp_id"], target=row["target"],
                judged=row["judged"], reason=row["reason"] or "", final=row["final"],
                changed=row["pages_changed"] or 0, repeated=row["pages_repeated"] or 0,
                at_repeated=places["repeated"], unwritten=row["pages_unwritten"] or 0,
                at_unwritten=places["unwritten"], missed=row["pages_missed"] or 0,
                at_missed=None if missed is None else missed["address"], late=row["pages_late"] or 0,
                eaten=row["pages_eaten"] or 0, at_eaten=places["eaten"],
                write_tlp_id=None if missed is None else missed["written_tlp_id"],
            )  # fmt: skip

    # -- requests of controllers ------------------------------------------------------------------------------

    def _requests(self, commands: list[ev.Command]) -> Iterator[Step]:
        """Yield requests of suspended controllers, and requests that belong to nothing."""
        if self.capture.unit != "TLP":
            return
        windows = self._windows(commands)
        link = [one.name for one in self.capture.links].index(self.link)
        unrelated = ROLES.index("unrelated")
        for first, rows in self.store.tlp_chunks(self.capture):
            mine = (rows["link"] == link) & (rows["direction"] == Direction.UPSTREAM)
            mine &= ~np.isin(rows["kind"], (Kind.Cpl, Kind.CplD, Kind.CplLk, Kind.CplDLk))
            keep = mine & (rows["role"] == unrelated)
            for function, spans in windows.items():
                ids = np.arange(first, first + len(rows))
                inside = np.zeros(len(rows), np.bool_)
                for start, end in spans:
                    inside |= (ids >= start) & (ids <= end)
                keep |= mine & inside & (rows["requester_id"] == function)
            for index in np.flatnonzero(keep):
                row = rows[index]
                tlp, function = first + int(index), int(row["requester_id"])
                place: dict[str, Any] = {
                    "time": int(row["time_ps"]), "order": tlp * ORDER_STEP + REQUEST, "function": function,
                    "tlp_id": tlp, "kind": Kind(int(row["kind"])).name,
                    "address": int(row["address"]) + _lead(int(row["first_be"])),
                    "length": 4 * int(row["length_dw"]),
                }  # fmt: skip
                if row["role"] == unrelated and row["kind"] in (Kind.MRd, Kind.MWr):
                    yield place["order"], False, ev.Stray(**place)
                if any(start <= tlp <= end for start, end in windows.get(function, ())):
                    role = ROLES[row["role"]] if row["role"] < len(ROLES) else "unrelated"
                    code = int(row["message_code"]) if row["kind"] in (Kind.Msg, Kind.MsgD) else None
                    yield place["order"], False, ev.Initiated(role=role, code=code, **place)

    def _windows(self, commands: list[ev.Command]) -> dict[int, list[tuple[int, int]]]:
        """Return, by function, the spans of TLP ids from the fetch of a Suspend that succeeded to its end.

        It ends with the next Resume of that target that succeeded, a reset of the target, or the capture.
        """
        by_cntlid = {row["controller"]: row["function"] for row in self._rows("controllers")}
        resets: dict[int, list[int]] = {}
        for row in self._rows("controllers"):
            if row["ended_tlp_id"] is not None:
                resets.setdefault(row["function"], []).append(row["ended_tlp_id"])
        windows: dict[int, list[tuple[int, int]]] = {}
        for one in commands:
            if not (isinstance(one, ev.Suspend) and one.suspends and one.succeeded and one.target in by_cntlid):
                continue
            function, start = by_cntlid[one.target], one.fetched // ORDER_STEP
            ends = [
                two.order // ORDER_STEP
                for two in commands
                if isinstance(two, ev.Resume) and two.succeeded and two.target == one.target
            ]
            ends = sorted(end for end in ends + resets.get(function, []) if end > start)
            windows.setdefault(function, []).append((start, ends[0] if ends else self.capture.end_tlp))
        return windows

    @property
    def _place(self) -> list[tuple[str, str, Any]]:
        return [("capture", "==", self.capture.name), ("link", "==", self.link)]

    def _rows(self, table: str, *where: Any, columns: tuple[str, ...] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table that belong to this link."""
        found = self.store.read(table, columns, [*self._place, *where])
        for batch in found.to_batches(max_chunksize=BATCH):
            yield from map(_with_function, batch.to_pylist())


def _guessed(row: dict[str, Any]) -> bool:
    """Whether it is a guess which function of a link has the registers of a controller."""
    return row["function"] < OVER_FABRICS and row["confidence"] is not None and row["confidence"] < 1


def _with_function(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row; a controller that is no PCIe function gets a number that stands for one."""
    if "function" in row and row["function"] is None:
        known = row["controller"]
        row["function"] = UNKNOWN_OVER_FABRICS if known is None else OVER_FABRICS + known
    return row


def _of_functions(functions: frozenset[int]) -> list[tuple[str, str, Any]]:
    """Return the terms that the rows of some functions meet."""
    over_fabrics = sorted(one - OVER_FABRICS for one in functions if one >= OVER_FABRICS)
    if over_fabrics:
        return [("controller", "in", over_fabrics)]
    return [("function", "in", sorted(functions))]


_CONFIG = (
    "vendor_id", "subsystem_vendor_id", "total_vfs", "first_vf", "vf_stride", "msix_vectors", "msi_vectors",
)  # fmt: skip
"""Columns of the table ``controllers`` that tell of the configuration space."""
_JUDGEMENTS = ("repeated", "unwritten", "missed", "late", "eaten")
"""What the table ``memory_log`` says of a report, the last of them by its column."""


class _Rank:
    """Gives things that one TLP did different orders, in the order they are asked for."""

    def __init__(self, first: int = MOVED) -> None:
        self._tlp, self._next, self._first = -1, first, first
        self._last = COMPLETED - 1 if first < COMPLETED else ORDER_STEP - 1

    def order(self, tlp: int) -> int:
        """Return the order of the next thing of a TLP."""
        self._next = self._next + 1 if tlp == self._tlp else self._first
        self._tlp = tlp
        return tlp * ORDER_STEP + min(self._next, self._last)


def _entries(pieces: Pieces) -> tuple[int, ...]:
    """Return the PRP list entries from the first one on, as far as all of them were seen."""
    found: list[int] = []
    while (raw := pieces.bytes(8 * len(found), 8 * len(found) + 8)) is not None:
        found.append(int.from_bytes(raw, "little"))
    return tuple(found)


def _order(step: Step) -> int:
    return step[0]


def _lead(first_be: int) -> int:
    """Return the bytes before the first enabled one of a request's first dword."""
    return (first_be & -first_be).bit_length() - 1 if first_be else 0
