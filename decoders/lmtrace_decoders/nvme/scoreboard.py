"""The scoreboard: what commands wrote, against what later commands read (nvme-checklist G21).

Writes in the widest sense (write, append, write zeroes, deallocate, copy, format, store) feed a shadow of each
namespace; reads, compares and retrieves are compared with it. Commands that overlap in time leave what is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmtrace.spec import nvme
from lmtrace.spec.nvme import CommandSet, KeyValue, Nvm
from lmtrace_decoders.nvme import ranges, spool
from lmtrace_decoders.nvme.digests import LARGEST
from lmtrace_decoders.nvme.key_values import KeyValues
from lmtrace_decoders.nvme.namespaces import BROADCAST
from lmtrace_decoders.nvme.shadow import BASES, OTHERS, Basis, Shadow, by, transaction_of
from lmtrace_decoders.nvme.zones import Zones

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.namespaces import Namespace
    from lmtrace_decoders.nvme.reconstruct import Reconstruction
    from lmtrace_decoders.nvme.transfer import BlockFormat

SPANNED = (
    Nvm.WRITE, Nvm.WRITE_ZEROES, Nvm.WRITE_UNCORRECTABLE, Nvm.DATASET_MANAGEMENT, Nvm.ZONE_MANAGEMENT_SEND,
)  # fmt: skip
"""Commands that change the blocks that they name."""
COMPARE_FAILURE = 2 << 8 | 0x85
UNWRITTEN = 2 << 8 | 0x87
READERS = (Nvm.READ, Nvm.COMPARE, Nvm.VERIFY)
DEAC, AD = 1 << 25, 1 << 2
"""CDW12 of Write Zeroes and CDW11 of Dataset Management: the blocks are to be deallocated."""
RESET_ZONE, SELECT_ALL = 4, 1 << 8
MOST_COPIED = 1 << 16
"""Blocks of one Copy command that are followed."""
WHOLE_VALUE = 40
"""A shift beyond any value: a Key Value pair is one block."""


class Span(NamedTuple):
    """Blocks that a command changes, and whether the shadow counts them as being changed."""

    slba: int
    blocks: int
    counted: bool


class Scoreboard:
    """Follows the contents of every namespace of one capture."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self._shadow = Shadow()
        self._spans: dict[int, list[Span]] = {}
        self.keys = KeyValues(run, self._retrieved)
        self.zones = Zones(run)

    # -- a command's life ---------------------------------------------------------------------------------------

    def digests_for(self, command: Command, block: BlockFormat | None) -> tuple[int, int] | None:
        """Return (blocks, log2 of a block's bytes) that digests of a command's data are to be taken of."""
        if command.csi == CommandSet.KEY_VALUE:
            return (1, WHOLE_VALUE) if command.opcode in (KeyValue.STORE, KeyValue.RETRIEVE) else None
        if block is None or (block.extended and block.metadata) or block.data > LARGEST:
            return None
        if command.opcode not in (Nvm.WRITE, Nvm.READ, Nvm.COMPARE, Nvm.ZONE_APPEND):
            return None
        return (command.dword(12) & 0xFFFF) + 1, block.data.bit_length() - 1

    def began(self, command: Command) -> None:
        """An I/O command was fetched."""
        if command.csi == CommandSet.KEY_VALUE:
            self.keys.began(command)
            return
        dw12 = command.dword(12)
        if command.csi == CommandSet.ZONED:
            self.zones.began(command)
            if command.opcode == Nvm.ZONE_MANAGEMENT_SEND and _resets_one(command):
                extent = self.zones.zone_extent(command)
                if extent is not None:
                    self._spans[command.number] = [self._begin(command, *extent)]
        if command.opcode in (Nvm.WRITE, Nvm.WRITE_ZEROES, Nvm.WRITE_UNCORRECTABLE):
            self._spans[command.number] = [self._begin(command, _slba(command), (dw12 & 0xFFFF) + 1)]

    def _begin(self, command: Command, slba: int, count: int) -> Span:
        return Span(slba, count, self._shadow.begin(self._of(command), slba, count))

    def ranges_read(self, command: Command) -> None:
        """The controller has read the ranges of a Dataset Management, or of a Copy command: it may act from now on."""
        if command.csi == CommandSet.KEY_VALUE or command.number in self._spans or command.buffer is None:
            return
        if command.opcode == Nvm.DATASET_MANAGEMENT and command.dword(11) & AD:
            found = ranges.managed(command)
            if found is not None:
                self._spans[command.number] = [self._begin(command, one.first, one.blocks) for one in found]
        elif command.opcode == Nvm.COPY:
            blocks = sum(one.blocks for one in ranges.copied(command) or ())
            if blocks:
                self._spans[command.number] = [self._begin(command, _slba(command), blocks)]

    def completed(self, command: Command, digests: np.ndarray | None, tlp: int) -> None:
        """An I/O command completed; ``digests`` are those of its data."""
        if command.csi == CommandSet.KEY_VALUE:
            self.keys.completed(command, digests, tlp)
            return
        status = command.status
        block = self._namespace(command).block
        ranges.completed(self._run, command, tlp)
        if (status and command.opcode in READERS) or command.opcode == Nvm.VERIFY:
            self._unread(command, status, tlp)
        values, whole = None, None
        if digests is not None and block is not None:
            values, whole = digests["value"], digests["seen"] == block.data
        spans = self._spans.pop(command.number, None)
        if command.csi == CommandSet.ZONED:
            self.zones.completed(command, digests, tlp)
        match command.opcode:
            case Nvm.READ | Nvm.COMPARE if values is not None and whole is not None and block is not None:
                if status == 0 or (command.opcode == Nvm.COMPARE and status == COMPARE_FAILURE):
                    self._compare(command, values, whole, block, status, tlp)
            case opcode if opcode in SPANNED and spans:
                basis, released = _effect(command)
                for one in spans:
                    kind = basis if status == 0 and (basis is not Basis.WRITTEN or values is not None) else None
                    self._change(command, one, kind or Basis.UNKNOWN, tlp, values, whole, released)
            case Nvm.COPY:
                self._copy(command, spans, status, tlp)
            case Nvm.ZONE_APPEND if status == 0 and command.cqe is not None:
                span = self._begin(command, _u64(command.cqe, 0), (command.dword(12) & 0xFFFF) + 1)
                basis = Basis.UNKNOWN if values is None else Basis.WRITTEN
                self._change(command, span, basis, tlp, values, whole)
            case Nvm.DATASET_MANAGEMENT if command.dword(11) & AD:
                self._shadow.forget(self._of(command), tlp)  # the ranges were not seen
            case Nvm.ZONE_MANAGEMENT_SEND if command.dword(13) & 0xFF == RESET_ZONE:
                self._shadow.forget(self._of(command), tlp)

    def ended(self, command: Command) -> None:
        """A command's life ended without a completion: whether it did anything is not known."""
        last = max(command.last_tlp, command.fetch_tlp)
        if command.csi == CommandSet.KEY_VALUE:
            self.keys.ended(command, last)
            return
        if command.csi == CommandSet.ZONED:
            self.zones.ended(command, last)
        for one in self._spans.pop(command.number, ()):
            self._change(command, one, Basis.UNKNOWN, last, None, None)

    def forget(self, command: Command, nsid: int, tlp: int, basis: Basis) -> None:
        """A Format or Sanitize ran, or failed: what the namespaces of a link hold is not what they held, or not known.

        A format of one namespace may be one of all (FNA).
        """
        function = command.controller.function
        named = {one.number for one in self._run.namespaces.all_of(function, nsid)}
        gone = {one.number for one in self._run.namespaces.all_of(function, BROADCAST)} | named
        for number in gone:
            self._shadow.forget(number, tlp, basis if number in named else Basis.UNKNOWN)
            self.keys.forget(number, command.fetch_tlp, tlp)
            self.zones.forget(number, tlp)
        if basis is Basis.FORMATTED:
            self.keys.emptied(command, function, nsid, tlp)

    def deallocated_digest(self, block: BlockFormat) -> int | None:
        """Return the digest of a deallocated block, None where its content is not told."""
        return {1: 0, 2: self._shadow.ones(block.data)}.get(block.deallocated)

    # -- what it does -------------------------------------------------------------------------------------------

    def _namespace(self, command: Command, nsid: int | None = None) -> Namespace:
        return self._run.namespaces.of(command.controller.function, command.dword(1) if nsid is None else nsid)

    def _of(self, command: Command) -> int:
        return self._namespace(command).number

    def _change(
        self, command: Command, span: Span, basis: Basis, tlp: int, values: np.ndarray | None,
        whole: np.ndarray | None, released: bool = False,
    ) -> None:  # fmt: skip
        unknown = basis is Basis.UNKNOWN
        fits = values is not None and whole is not None and len(values) == span.blocks
        if unknown or (basis in (Basis.WRITTEN, Basis.COPIED) and not fits):
            values, whole = np.zeros(span.blocks, np.uint64), np.zeros(span.blocks, np.bool_)
        elif basis not in (Basis.WRITTEN, Basis.COPIED):
            values, whole = None, None
        self._shadow.end(
            self._of(command), span.slba, span.blocks, basis, command.fetch_tlp, tlp, self._writer(command),
            span.counted, values, whole, released,
        )  # fmt: skip

    def _writer(self, command: Command) -> int:
        return by(command.controller.function.number, self._run.output.first_transaction + command.number)

    def _copy(self, command: Command, spans: list[Span] | None, status: int, tlp: int) -> None:
        """Move what the shadow knows of the sources to the destination."""
        if not spans:
            if status == 0:
                self._shadow.forget(self._of(command), tlp)  # the ranges were not seen
            return
        if status or spans[0].blocks > MOST_COPIED:
            self._change(command, spans[0], Basis.UNKNOWN, tlp, None, None)
            return
        parts = [
            self._shadow.read_out(self._namespace(command, nsid).number, slba, count, command.fetch_tlp)
            for nsid, slba, count in ranges.copied(command) or ()
        ]
        values, whole = (np.concatenate([one[side] for one in parts]) for side in (0, 1))
        self._change(command, spans[0], Basis.COPIED, tlp, values, whole)

    def _compare(
        self, command: Command, values: np.ndarray, whole: np.ndarray, block: BlockFormat, status: int, tlp: int
    ) -> None:  # fmt: skip
        namespace, slba = self._of(command), _slba(command)
        if status:  # a compare that failed tells nothing of what the blocks hold; all of them may be as they should
            known, sure = self._shadow.read_out(namespace, slba, len(values), command.fetch_tlp)
            written = self._shadow.settled(namespace, slba, len(values), command.fetch_tlp, WRITTEN) == len(values)
            if whole.all() and sure.all() and written and not block.metadata:  # metadata may differ, unseen
                differ = np.flatnonzero(known != values)
                self._row(command, "written", False, len(values), len(differ), slba, None, tlp)
            return
        tallies = self._shadow.check(
            namespace, slba, values, whole, block.data, command.fetch_tlp, self._writer(command), block.deallocated
        )
        for number, (judged, differ, first, writer, _, _) in enumerate(tallies.tolist()):
            if judged:
                others, basis = divmod(number, OTHERS)
                by_whom = transaction_of(writer) if differ else None
                self._row(command, BASES[basis], bool(others), judged, differ, slba + first, by_whom, tlp)

    def _unread(self, command: Command, status: int, tlp: int) -> None:
        """A command that reads failed, or read without moving data: may it have, by what the blocks are?"""
        number, slba, count = self._of(command), _slba(command), (command.dword(12) & 0xFFFF) + 1
        if count > MOST_COPIED:
            return
        spoilt = self._shadow.settled(number, slba, count, command.fetch_tlp, (Basis.UNCORRECTABLE,) * 2)
        if spoilt:
            self._row(command, "uncorrectable", False, spoilt, 0 if status else spoilt, slba, None, tlp)
        if status == UNWRITTEN:
            written = self._shadow.settled(number, slba, count, command.fetch_tlp, WRITTEN)
            released = self._shadow.settled(number, slba, count, command.fetch_tlp, RELEASED)
            if written == count or released:
                self._row(command, "refused", False, count, written if written == count else 0, slba, None, tlp)

    def _retrieved(self, command: Command, differs: bool, writer: int, tlp: int) -> None:
        """A value was compared with the one that was stored."""
        self._row(command, "written", False, 1, int(differs), 0, writer if differs else None, tlp)

    def _unwritten_fails(self, command: Command, basis: str) -> bool | None:
        if basis not in ("formatted", "refused"):
            return None
        return self._run.conditions.reports_unwritten(command, self._namespace(command))

    def _sure(self, link: int) -> bool:
        """Whether every writer on a link is known, and which namespaces it writes to."""
        return self._run.whole(link) and self._run.namespaces.told_apart(link)

    def _row(
        self, command: Command, basis: str, others: bool, judged: int, differ: int, first: int, writer: int | None,
        tlp: int,
    ) -> None:  # fmt: skip
        """Add what comparing one command's data gave."""
        run, function = self._run, command.controller.function
        row: dict[str, Any] = {
            "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
            "controller": function.cntlid, "transaction_id": run.output.first_transaction + command.number,
            "opcode": command.opcode, "csi": None if command.csi < 0 else command.csi, "nsid": command.dword(1),
            "basis": basis, "other_function": others, "blocks": judged, "differ": differ, "first_lba": first,
            "writer_id": writer,
            "failed": bool(command.status),
            "unwritten_fails": self._unwritten_fails(command, basis), "time_ps": command.cqe_ps, "tlp_id": tlp,
            "learnt": spool.LEARNT[command.sq.learnt] if self._sure(function.link) else "inferred",
        }  # fmt: skip
        run.store.writer("data_checks").add(row)


WRITTEN, RELEASED = (Basis.WRITTEN, Basis.COPIED), (Basis.DEALLOCATED, Basis.SANITIZED)
"""First and last basis of blocks that are surely written, and of those that may be unwritten."""


def _resets_one(command: Command) -> bool:
    """Whether a Zone Management Send resets one zone."""
    return command.dword(13) & (0xFF | SELECT_ALL) == RESET_ZONE


def _slba(command: Command) -> int:
    return command.qword(40)


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _effect(command: Command) -> tuple[Basis, bool]:
    """Return (what the blocks of a command that succeeded hold, whether zeroed ones may be deallocated)."""
    match command.opcode:
        case Nvm.WRITE_ZEROES:
            return Basis.ZEROES, bool(command.dword(12) & DEAC)
        case Nvm.WRITE_UNCORRECTABLE:
            return Basis.UNCORRECTABLE, False
        case Nvm.DATASET_MANAGEMENT | Nvm.ZONE_MANAGEMENT_SEND:
            return Basis.DEALLOCATED, False
    return Basis.WRITTEN, False


FORGETS = {nvme.Admin.FORMAT_NVM: Basis.FORMATTED, nvme.Admin.SANITIZE: Basis.SANITIZED}
"""Admin commands after which a namespace holds something else."""
