"""What admin commands change over fabrics: identities, formats of namespaces, steps and states of migrations."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from lmtrace.pieces import Pieces
from lmtrace.spec import nvme
from lmtrace.spec.fabrics import CONNECT_DATA, Fctype
from lmtrace.spec.migration import MigrationSelect, SequenceIndicator, TrackSelect
from lmtrace.spec.nvme import IDENTIFY_CONTROLLER, SQE_SIZE, Cns, Status
from lmtrace_decoders.fabrics.state import Association, Command
from lmtrace_decoders.migration_match import Read
from lmtrace_decoders.migration_record import Source, Steps
from lmtrace_decoders.migration_states import States
from lmtrace_decoders.nvme.transfer import (
    PROTECTION_ACTION,
    BlockFormat,
    Entry,
    admin_bytes,
    io_bytes,
    key_value_bytes,
    moves_blocks,
)

if TYPE_CHECKING:
    from lmtrace_decoders.fabrics.decode import Fabrics

_SEQUENCES = {one.value: one.name.lower() for one in SequenceIndicator}
_ENTRY = struct.Struct("<4xI32x4I4xI")
"""NSID and CDW10 to 13 and 15 of an entry."""
IOCCSZ = slice(1792, 1796)
"""I/O Queue Command Capsule Supported Size of Identify Controller, in units of 16 bytes (5.1.13.2.1)."""


def expected_bytes(command: Command) -> int | None:
    """Return the bytes that a command should move, None where its fields do not say."""
    if command.fabrics:
        return {Fctype.CONNECT: CONNECT_DATA.size, Fctype.PROPERTY_SET: 0, Fctype.PROPERTY_GET: 0}.get(
            Fctype(command.sqe[4]) if command.sqe[4] in Fctype._value2member_map_ else Fctype.DISCONNECT
        )
    nsid, *dwords = _ENTRY.unpack(command.sqe)
    entry = Entry(command.opcode, nsid, *dwords)
    if command.csi == nvme.CommandSet.KEY_VALUE:
        return key_value_bytes(entry)[0]
    connection = command.connection
    if connection.qid is None:
        return None
    if connection.qid == 0:
        return admin_bytes(entry)
    block = None
    if connection.association is not None and moves_blocks(command.opcode):
        block = connection.association.blocks.get(nsid)
    return io_bytes(entry, block, None if entry.cdw12 & PROTECTION_ACTION else False)[0]


class Admin:
    """Follows what admin commands say."""

    def __init__(self, run: Fabrics) -> None:
        self._run = run
        self.steps = Steps(run.capture.name, run.output.links)
        self._states = States(run.store)

    def completed(self, command: Command) -> None:
        """A command completed."""
        connection = command.connection
        association = connection.association
        if command.fabrics or association is None:
            return
        if connection.qid:
            if association.resumed is not None:
                self._first_completion(association, command)
            return
        if command.succeeded:
            self._run.keys.told(command, association)
        match command.opcode:
            case nvme.Admin.IDENTIFY if command.succeeded:
                self._identify(command, association)
            case nvme.Admin.SET_FEATURES if command.succeeded and command.dword(10) & 0xFF == 0x0F:
                association.kato_ms = command.dword(11)
            case nvme.Admin.TRACK_SEND:
                self._track(command)
            case nvme.Admin.TRACK_RECEIVE if command.dword(10) & 0xFF == 0:
                self._step(command, "read changes", command.dword(11) & 0xFFFF)
            case nvme.Admin.MIGRATION_RECEIVE if command.dword(10) & 0xFF == 0:
                self._step(command, "get state", command.dword(11) & 0xFFFF)
                if command.succeeded:
                    self._get(command)
            case nvme.Admin.MIGRATION_SEND:
                self._send(command, association)

    def _identify(self, command: Command, association: Association) -> None:
        data, cns = command.buffer, command.dword(10) & 0xFF
        if data is None:
            return
        if cns == Cns.CONTROLLER:
            cntlid, size = data.field(IDENTIFY_CONTROLLER, "CNTLID"), data.bytes(IOCCSZ.start, IOCCSZ.stop)
            if cntlid is not None:
                self._run.associations.identified(command.connection, cntlid)
            if size is not None and (capsule := int.from_bytes(size, "little")):
                association.in_capsule = max(capsule * 16 - SQE_SIZE, 0)
        elif cns == Cns.NAMESPACE:
            flbas = data.bytes(26, 27)
            if flbas is None:
                return
            at = 128 + 4 * (flbas[0] & 15 | flbas[0] >> 1 & 0x30)
            raw = data.bytes(at, at + 4)
            if raw is not None and 9 <= raw[2] < 32:
                block = BlockFormat(1 << raw[2], int.from_bytes(raw[:2], "little"), bool(flbas[0] & 16))
                association.blocks[command.dword(1)] = block

    # -- migration --------------------------------------------------------------------------------------------

    def _step(self, command: Command, step: str, target: int | None) -> None:
        cqe = command.cqe
        status = None if cqe is None else Status(cqe[15] >> 1 & 7, cqe[14] >> 1 | (cqe[15] & 1) << 7).name
        self.steps.add(
            command.connection.link, None, step, target, command.time, command.cqe_ps, status, self._number(command)
        )

    def _number(self, command: Command) -> int:
        return self._run.output.first_transaction + command.number

    def _track(self, command: Command) -> None:
        select, target = command.dword(10) & 0xFF, command.dword(11) & 0xFFFF
        if select == TrackSelect.TRACK_MEMORY_CHANGES:
            self._step(command, "start tracking" if command.dword(10) >> 16 & 1 else "stop tracking", target)
        elif select == TrackSelect.LOG_USER_DATA_CHANGES:
            start = command.dword(10) >> 16 & 0xF == 1
            self._step(command, "start logging" if start else "stop logging", None)

    def _send(self, command: Command, association: Association) -> None:
        select, cdw11, link = command.dword(10) & 0xFF, command.dword(11), command.connection.link
        target = cdw11 & 0xFFFF
        match select:
            case MigrationSelect.SUSPEND:
                final = cdw11 >> 16 & 0xFF == 1
                self._step(command, "suspend" if final else "suspend notification", target)
                if command.succeeded and final:
                    self._states.end(link, target, False)
                    self.steps.suspended(
                        Source(
                            self._run.capture.name, link, target, command.time, command.cqe_ps,
                            self._number(command), manager=association.number,
                        ),
                        None,
                    )  # fmt: skip
            case MigrationSelect.RESUME:
                self._step(command, "resume", target)
                if command.succeeded:
                    self._states.end(link, target, False)
                    self._states.end(link, target, True)
                    self.steps.resumed(link, target, command.time, command.cqe_ps, self._number(command))
                    found = self._run.associations.target(link, target)
                    if found is not None:
                        found.resumed = target
            case MigrationSelect.SET_CONTROLLER_STATE:
                self._step(command, "set state", target)
                if command.succeeded:
                    self._set(command, target)

    def _first_completion(self, association: Association, command: Command) -> None:
        assert association.resumed is not None
        self.steps.first_completion(association.link, None, association.resumed, command.cqe_ps, self._number(command))
        association.resumed = None

    def _get(self, command: Command) -> None:
        link, cdw10, cdw11, cdw14 = command.connection.link, *(command.dword(n) for n in (10, 11, 14))
        target, offset = cdw11 & 0xFFFF, command.dword(12) | command.dword(13) << 32
        indices = (cdw10 >> 16 & 0xFF, cdw11 >> 16, cdw14 & 0x7F)
        structure = self._states.read(link, target, offset, command.buffer or Pieces(), indices)
        read = Read(structure.pieces, self._number(command), structure.changed)
        self.steps.read(link, target, command.time, command.cqe_ps, command.moved_in, read)
        self._states.add(
            structure,
            {
                "transaction_id": self._number(command), "set": False, "target": target, "offset": offset,
                "length": command.moved_in, "csvi": indices[0], "csuuidi": cdw11 >> 16 & 0xFF, "committed": False,
            },
        )  # fmt: skip

    def _set(self, command: Command, target: int) -> None:
        link, cdw11, sequence = command.connection.link, command.dword(11), command.dword(10) >> 16 & 3
        offset = command.dword(12) | command.dword(13) << 32
        first = sequence in (SequenceIndicator.FIRST, SequenceIndicator.ONLY)
        committed = sequence in (SequenceIndicator.LAST, SequenceIndicator.ONLY)
        structure = self._states.written(link, target, offset, command.buffer or Pieces(), first)
        self._states.add(
            structure,
            {
                "transaction_id": self._number(command), "set": True, "target": target,
                "sequence": _SEQUENCES[sequence], "offset": offset, "length": command.moved_out,
                "csvi": cdw11 >> 16 & 0xFF, "csuuidi": cdw11 >> 24, "committed": committed,
            },
        )  # fmt: skip
        self.steps.written(
            link, target, command.time, command.cqe_ps, committed, structure.pieces, self._number(command)
        )
        if committed:
            self._states.end(link, target, True)

    def reset(self, association: Association, time: int) -> None:
        """A controller was reset or is gone: it is not suspended any more, nor are those that it suspended."""
        if association.cntlid is not None:
            self._states.end(association.link, association.cntlid, False)
        self.steps.reset(association.link, association.cntlid, association.number, time)

    def finish(self) -> None:
        """Write what waits."""
        self._states.finish()
        self.steps.write(self._run.store)
