"""From PDUs to commands: connections, queues and controllers of a network capture (NVMe Base 2.1, 3.3.2 and 6).

Rows come in the order in which they were complete. Every PDU is told what it meets (`note`): what phase its
connection is in, which command it names, where it ought to begin. Rules read these columns and need no state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lmtrace.pieces import Pieces
from lmtrace.spec.fabrics import KIND, SGL_KEYED_INVALIDATE, Fctype
from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE, CommandSet, KeyValue
from lmtrace.stage import PDU_ROW, PduFlag
from lmtrace.store import Capture, Store
from lmtrace.trouble import declare
from lmtrace_decoders.fabrics import records
from lmtrace_decoders.fabrics.admin import Admin, expected_bytes
from lmtrace_decoders.fabrics.associations import Associations
from lmtrace_decoders.fabrics.key_values import KeyValues
from lmtrace_decoders.fabrics.output import CAPSULE, RESPONSE, Output
from lmtrace_decoders.fabrics.state import Command, Connection
from lmtrace_decoders.nvme import spool

LOST = declare(
    "network-bytes-lost", "data-loss",
    "The receiver acknowledged bytes that were not recorded; nothing that needs them is judged.",
)  # fmt: skip


class Row(NamedTuple):
    """One PDU: ``place`` among the records of the chunk, and what most handlers need of it."""

    place: int
    tlp: int
    time: int
    end: int
    packet: int
    upstream: bool
    size: int
    data: int
    body: bytes
    """The header, and the data where they were kept."""
    header_digest: int
    data_digest: int
    holes: bool

    def word(self, at: int, count: int) -> int:
        """Return a little-endian number of the header."""
        return int.from_bytes(self.body[at : at + count], "little")


class Fabrics:
    """The decoding of one network capture."""

    def __init__(self, store: Store, capture: Capture) -> None:
        from lmtrace_decoders.fabrics.rdma_messages import RdmaMessages
        from lmtrace_decoders.fabrics.tcp_pdus import TcpPdus

        self.store, self.capture = store, capture
        self.output = Output(store, capture)
        self.associations = Associations(self)
        self.admin = Admin(self)
        self.keys = KeyValues(self)
        texts = [one.name for one in capture.links]
        self.connections = [Connection(n, text, text.startswith("RDMA")) for n, text in enumerate(texts)]
        self.lost: list[tuple[int, int, int, int]] = []
        """(connection, time, packet, bytes) of each gap."""
        self._notes: dict[str, tuple[list[int], list[int | bool]]] = {}
        self._index = 0
        self._handlers: dict[int, Callable[[Connection, Row], None]] = {KIND["gap"]: self._gap}
        for part in (TcpPdus(self), RdmaMessages(self)):
            self._handlers |= {KIND[name]: handler for name, handler in part.handlers().items()}

    def run(self) -> None:
        """Decode every row and write the tables."""
        for first, rows in self.store.tlp_chunks(self.capture):
            self._chunk(first, rows.view(PDU_ROW))
        for connection in self.connections:
            self._finish(connection)
        self.admin.finish()
        for number, time, packet, size in self.lost:
            link = self.output.links[self.connections[number].link]
            lost = f"{size} bytes" if size else "something"
            text = f"{lost} before packet {packet} of {self.connections[number].text}"
            self.capture.troubles.add(LOST, text, time_ps=time, offset=packet, link=link)
        self.output.finish(self.connections, self.associations.every)

    def note(self, **values: int | bool | None) -> None:
        """Say what the PDU at hand meets; None is what is not known."""
        notes, index = self._notes, self._index
        for name, value in values.items():
            if value is not None:
                if name not in notes:
                    notes[name] = ([], [])
                places, found = notes[name]
                places.append(index)
                found.append(value)

    def _chunk(self, first: int, rows: np.ndarray) -> None:
        start, data = self.store.payload_span(rows)
        made = records.records(rows, data, start)
        raw = data.tobytes()
        columns = [rows[name].tolist() for name in (
            "connection", "kind", "time_ps", "end_ps", "source_offset", "direction", "size", "data_bytes",
            "payload_start", "payload_bytes", "header_digest", "data_digest", "flags",
        )]  # fmt: skip
        of_queues = self._notes["sqid"] = ([], [])
        for index, (
            number, kind, time, end, packet, direction, size, count, at, kept, head_digest, data_digest, flags,
        ) in enumerate(zip(*columns, strict=True)):  # fmt: skip
            connection = self.connections[number]
            self._index = index
            body = raw[at - start : at - start + kept] if kept else b""
            row = Row(
                index, first + index, time, end, packet, direction == 1, size, count, body, head_digest, data_digest,
                flags & 2 != 0,
            )  # fmt: skip
            if flags & PduFlag.FIRST and not connection.started:
                connection.started = connection.complete = True
            if flags & PduFlag.UNSEEN and connection.complete:
                self._gap(connection, row._replace(time=connection.heard.get(direction == 0, 0), size=0))
            self._handlers.get(kind, self._other)(connection, row)
            connection.heard[row.upstream] = end
            if connection.qid is not None:
                of_queues[0].append(index)
                of_queues[1].append(connection.qid)
        for name, (places, values) in self._notes.items():
            made[name][places] = values
        self._notes.clear()
        self.output.pdus(made)

    def _other(self, connection: Connection, row: Row) -> None:
        """A row that tells nothing."""

    def _gap(self, connection: Connection, row: Row) -> None:
        """Something of a connection was not recorded: what is under way on it is uncertain."""
        self.lost.append((connection.number, row.time, row.packet, row.size))
        connection.doubt()
        self.keys.lost(row.tlp)

    # -- capsules ---------------------------------------------------------------------------------------------

    def capsule(self, connection: Connection, row: Row, sqe: bytes, data: bytes | None, count: int) -> None:
        """The host sent a command; ``data`` came with it, None where they were not kept."""
        if len(sqe) < SQE_SIZE:
            self._gap(connection, row)
            return
        command = Command(self.output.number(), connection, sqe, row.tlp, row.end, count)
        before = connection.commands.pop(command.cid, None)
        connection.done.pop(command.cid, None)
        if before is not None:
            self._end(before, spool.OUTSTANDING)
        known = before is not None and before.sure
        self.note(
            transaction_id=self.output.first_transaction + command.number,
            command=records.IN_USE if known else records.FRESH if connection.complete else None,
            connected=connection.connected, moves=command.moves,
            after=records.AFTER_DISCONNECT if connection.disconnected else None,
        )  # fmt: skip
        connection.commands[command.cid] = command
        connection.sent += 1
        if command.fabrics and command.sqe[4] == Fctype.CONNECT:
            self.associations.connecting(connection, command)
        self.associations.heard(connection, row)
        if connection.qid != 0 and not command.fabrics:
            self.keys.capsule(command)
        command.expected = expected_bytes(command)
        if connection.qid in (0, None) or command.fabrics or _lists_keys(command):
            command.buffer = Pieces()
        if count:
            self.moved_out(command, row, 0, count, data)
        self.output.child(command, CAPSULE, row, 0, row.size, row.tlp)
        if connection.link < 0 and not (command.fabrics and command.sqe[4] == Fctype.CONNECT):
            self.associations.place(connection)

    def response(self, connection: Connection, row: Row, cqe: bytes) -> None:
        """The controller completed a command."""
        if len(cqe) < CQE_SIZE:
            self._gap(connection, row)
            return
        cid = cqe[12] | cqe[13] << 8
        command = connection.commands.get(cid)
        self.note(
            command=self.named(connection, cid), flow_control=connection.flow_control, queue_size=connection.slots,
            after=records.AFTER_DISCONNECT if connection.disconnected else None,
        )  # fmt: skip
        if command is None:
            return
        self.note(
            transaction_id=self.output.first_transaction + command.number, moves=self.moves(command),
            key_due=command.key if command.keyed else None,
            invalidates=command.sgl == SGL_KEYED_INVALIDATE if command.keyed else None,
        )  # fmt: skip
        if command.sure:
            moved = command.moved_in if command.moves == 2 else command.moved_out
            asked = (
                command.asked_out if command.moves == 1 else 0
            )  # what was asked for and not seen may not be recorded
            if command.expected is not None and command.moves in (1, 2) and moved >= asked:
                self.note(bytes_left=max(min(command.expected, command.length) - moved, 0))
            if command.moves == 2 and command.moved_in:
                self.note(last_seen=command.last_seen)
            if command.moves == 1 and command.damaged:
                self.note(data_damaged=True)
        if connection.fatal is not None and command.tlp >= connection.fatal:
            self.note(after=records.AFTER_FATAL)
        self.complete(command, row, cqe, records.COMPLETED)
        self.output.child(command, RESPONSE, row, 0, row.size, row.tlp)

    def complete(self, command: Command, row: Row, cqe: bytes, how: int) -> None:
        """A command is over, by a response or without one."""
        connection = command.connection
        command.cqe, command.cqe_tlp, command.cqe_ps, command.last_tlp = cqe, row.tlp, row.end, row.tlp
        connection.commands.pop(command.cid, None)
        connection.remember(command, how)
        self.associations.completed(connection, command, row)
        self.admin.completed(command)
        if command.csi == CommandSet.KEY_VALUE:
            self.keys.completed(command, None, row.tlp)
        self.output.transaction(command, spool.COMPLETED)

    def named(self, connection: Connection, cid: int) -> int | None:
        """Return how the command that a PDU names stands; None while that is not known."""
        command = connection.commands.get(cid)
        if command is not None:
            return records.OUTSTANDING
        if not connection.complete:
            return None
        done = connection.done.get(cid)
        if done is None:
            return records.UNKNOWN
        return done[0]

    @staticmethod
    def moves(command: Command) -> int:
        """Return what a command moves, as a word of `records.MOVES`."""
        return records.IN_CAPSULE if command.inside else command.moves

    # -- data -------------------------------------------------------------------------------------------------

    def moved_out(self, command: Command, row: Row, offset: int, count: int, data: bytes | None) -> None:
        """Data went towards the controller."""
        command.moved_out += count
        self._moved(command, row, offset, data)

    def moved_in(self, command: Command, row: Row, offset: int, count: int, data: bytes | None) -> None:
        """Data went towards the host."""
        command.moved_in += count
        self._moved(command, row, offset, data)

    @staticmethod
    def _moved(command: Command, row: Row, offset: int, data: bytes | None) -> None:
        command.first_data_ps = row.end if command.first_data_ps < 0 else command.first_data_ps
        command.last_data_ps, command.last_tlp = row.end, row.tlp
        if command.buffer is not None and data and offset + len(data) <= command.length + len(data):
            command.buffer.put(offset, data)

    # -- ends -------------------------------------------------------------------------------------------------

    def closed(self, connection: Connection, row: Row) -> None:
        """A connection ends: its queue and what was under way are gone."""
        if connection.closed:
            return
        connection.closed, connection.complete = True, False
        self._end_commands(connection, spool.RESET)
        if connection.link < 0:
            self.associations.place(connection)
        self.output.queue(connection, row.end, row.tlp, "connection closed")
        self.associations.closed(connection, row)

    def _end_commands(self, connection: Connection, outcome: int) -> None:
        for command in connection.commands.values():
            self._end(command, outcome)
        connection.commands.clear()

    def _end(self, command: Command, outcome: int) -> None:
        """A command is over without a completion."""
        self.output.transaction(command, outcome)
        if command.csi == CommandSet.KEY_VALUE:
            self.keys.ended(command, max(command.last_tlp, command.tlp))

    def _finish(self, connection: Connection) -> None:
        """The capture ends."""
        if connection.link < 0:
            self.associations.place(connection)
        self._end_commands(connection, spool.OUTSTANDING)
        if not connection.closed:
            self.output.queue(connection, None, None, None)


def _lists_keys(command: Command) -> bool:
    return command.csi == CommandSet.KEY_VALUE and command.opcode == KeyValue.LIST
