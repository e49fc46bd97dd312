"""What each message of NVMe/RDMA means to its connection (RDMA transport 1.1, 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lmtrace.spec.fabrics import RDMA_REQUEST
from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE
from lmtrace_decoders.fabrics import records
from lmtrace_decoders.fabrics.output import DATA
from lmtrace_decoders.fabrics.state import Command, Connection

if TYPE_CHECKING:
    from lmtrace_decoders.fabrics.decode import Fabrics, Row


class RdmaMessages:
    """Handles the messages of NVMe/RDMA."""

    def __init__(self, run: Fabrics) -> None:
        self._run = run

    def handlers(self) -> dict[str, Callable[[Connection, Row], None]]:
        """Return the handler of each kind of row."""
        return {
            "ConnectRequest": self._request, "ConnectReject": self._reject, "DisconnectRequest": self._end,
            "Send": self._send, "SendInvalidate": self._send, "ReadRequest": self._asked, "ReadResponse": self._read,
            "Write": self._written, "WriteImmediate": self._written,
        }  # fmt: skip

    def _request(self, connection: Connection, row: Row) -> None:
        connection.connected, connection.requested = records.NOT_CONNECTED, row.tlp
        if len(row.body) >= RDMA_REQUEST.size:
            connection.qid = RDMA_REQUEST["QID"].of(row.body)

    def _reject(self, connection: Connection, row: Row) -> None:
        self._run.closed(connection, row)

    def _end(self, connection: Connection, row: Row) -> None:
        self._run.closed(connection, row)

    def _send(self, connection: Connection, row: Row) -> None:
        if row.size < (CQE_SIZE if row.upstream else SQE_SIZE) and not row.holes:
            # Nothing of it was lost: it is no capsule, and what becomes of the connection is not known.
            connection.doubt()
            return
        if row.upstream:
            self._run.response(connection, row, row.body[:CQE_SIZE])
            return
        if connection.association is not None and connection.qid and row.body[:1] != b"\x7f":
            self._run.note(capsule_limit=connection.association.in_capsule)
        data = row.body[SQE_SIZE:] if row.data and len(row.body) - SQE_SIZE == row.data else None
        self._run.capsule(connection, row, row.body[:SQE_SIZE], data, row.data)

    # -- data -------------------------------------------------------------------------------------------------

    def _asked(self, connection: Connection, row: Row) -> None:
        command = self._owner(connection, row)
        if command is not None:
            command.last_tlp = row.tlp
            command.asked_out += int.from_bytes(row.body[12:16], "big")

    def _read(self, connection: Connection, row: Row) -> None:
        command = self._owner(connection, row)
        if command is not None:
            address = int.from_bytes(row.body[:8], "big")
            self._run.output.child(command, DATA, row, address, row.data, row.tlp)
            self._run.moved_out(command, row, address - command.address, row.data, self._data(row))

    def _written(self, connection: Connection, row: Row) -> None:
        command = self._owner(connection, row)
        if command is not None:
            address = int.from_bytes(row.body[:8], "big")
            self._run.output.child(command, DATA, row, address, row.data, row.tlp)
            self._run.moved_in(command, row, address - command.address, row.data, self._data(row))

    def _owner(self, connection: Connection, row: Row) -> Command | None:
        """Return the command whose keyed SGL holds what is read or written, and note how that stands."""
        key, address = int.from_bytes(row.body[8:12], "big"), int.from_bytes(row.body[:8], "big")
        length = int.from_bytes(row.body[12:16], "big")
        held = [one for one in connection.commands.values() if one.keyed and one.key == key]
        inside = next((
            one for one in held if one.address <= address and address + length <= one.address + one.length
        ), None)  # fmt: skip
        note = self._run.note
        if inside is not None:
            note(
                command=records.OUTSTANDING, moves=inside.moves,
                transaction_id=self._run.output.first_transaction + inside.number, sqid=connection.qid,
            )  # fmt: skip
            return inside
        if held:
            note(command=records.OUTSIDE, transaction_id=self._run.output.first_transaction + held[0].number)
        elif connection.complete and length:
            late = any(one == key for _, one in connection.done.values())
            note(command=records.COMPLETED if late else records.UNKNOWN)
        return None

    @staticmethod
    def _data(row: Row) -> bytes | None:
        data = row.body[16:]
        return data if len(data) == row.data else None
