"""What each PDU of NVMe/TCP means to its connection (TCP transport 1.1, 3)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from lmtrace.spec.fabrics import IC, IN_CAPSULE_ADMIN, LAST_PDU, SUCCESS_FLAG, FatalError
from lmtrace.stage import Digest
from lmtrace_decoders.fabrics import records
from lmtrace_decoders.fabrics.output import DATA, R2T
from lmtrace_decoders.fabrics.state import FROM_DEVICE, TO_DEVICE, Connection
from lmtrace_decoders.fabrics.state import R2t as Asked

if TYPE_CHECKING:
    from lmtrace_decoders.fabrics.decode import Fabrics, Row

MOST_R2TS = 1 << 16
_FIELDS = struct.Struct("<HHII")
"""CCCID, TTAG, DATAO or R2TO, DATAL or R2TL."""


class TcpPdus:
    """Handles the PDUs of NVMe/TCP."""

    def __init__(self, run: Fabrics) -> None:
        self._run = run

    def handlers(self) -> dict[str, Callable[[Connection, Row], None]]:
        """Return the handler of each kind of row."""
        return {
            "ICReq": self._icreq, "ICResp": self._icresp, "H2CTermReq": self._term, "C2HTermReq": self._term,
            "CapsuleCmd": self._capsule, "CapsuleResp": self._response, "H2CData": self._h2c_data,
            "C2HData": self._c2h_data, "R2T": self._r2t, "FIN": self._fin, "RST": self._end, "no PDU": self._garbage,
            "reserved type": self._reserved,
        }  # fmt: skip

    def _any(self, connection: Connection, row: Row, **more: int | bool | None) -> None:
        """Note what any PDU meets, and ``more``."""
        if connection.started and connection.complete and connection.phase is None:
            connection.phase, connection.connected = records.NEW, records.NOT_CONNECTED
        if more or connection.phase is not None:
            self._run.note(phase=connection.phase, **more)
        if row.upstream in connection.terminated:
            self._run.note(after=records.AFTER_TERMINATION)

    def _carrier(self, connection: Connection, row: Row, **more: int | bool | None) -> None:
        """Note what a PDU that may have digests and data meets, and ``more``."""
        digests = connection.header_digest is not None
        self._any(
            connection, row, header_digest_due=connection.header_digest,
            data_digest_due=bool(connection.data_digest and row.data) if digests else None,
            alignment=connection.alignment.get(row.upstream) if row.data else None, **more,
        )  # fmt: skip
        if row.upstream != row.body[0] & 1:
            self._fatal(connection, row, FatalError.INVALID_HEADER_FIELD)
        if row.header_digest == Digest.BAD:
            self._fatal(connection, row, FatalError.HEADER_DIGEST_ERROR)

    def _fatal(self, connection: Connection, row: Row, status: FatalError) -> None:
        """A PDU is a fatal error of its sender."""
        connection.fatal_status.setdefault(row.upstream, status)
        if not row.upstream and connection.fatal is None:
            connection.fatal = row.tlp

    # -- connection -------------------------------------------------------------------------------------------

    def _icreq(self, connection: Connection, row: Row) -> None:
        self._any(connection, row)
        if len(row.body) >= IC.size and connection.asked is None:
            fields = IC.decode(row.body)
            connection.asked = fields["PDA"], fields["HDGST"] | fields["DDGST"] << 1, fields["LIMIT"]
            connection.alignment[True] = 4 * (fields["PDA"] + 1)
            connection.most_r2ts = fields["LIMIT"] + 1
        if connection.phase == records.NEW:
            connection.phase = records.REQUESTED

    def _icresp(self, connection: Connection, row: Row) -> None:
        self._any(connection, row)
        asked = connection.asked
        if asked is not None:
            self._run.note(digests_due=asked[1])
        if len(row.body) >= IC.size:
            fields = IC.decode(row.body)
            connection.alignment[False] = 4 * (fields["PDA"] + 1)
            connection.most_data = fields["LIMIT"]
            if asked is not None:
                connection.header_digest = bool(fields["HDGST"] and asked[1] & 1)
                connection.data_digest = bool(fields["DDGST"] and asked[1] & 2)
        if connection.phase == records.REQUESTED:
            connection.phase = records.READY

    def _term(self, connection: Connection, row: Row) -> None:
        self._any(connection, row)
        self._run.note(fes_due=connection.fatal_status.get(not row.upstream))
        connection.terminated.setdefault(row.upstream, row.end)
        connection.phase = records.CLOSING

    def _fin(self, connection: Connection, row: Row) -> None:
        """One side sends no more; the other may still answer."""
        connection.half_closed.add(row.upstream)
        if len(connection.half_closed) == 2:
            self._end(connection, row)
            return
        self._any(connection, row)
        if connection.terminated:
            self._run.note(idle_ps=row.end - min(connection.terminated.values()))

    def _end(self, connection: Connection, row: Row) -> None:
        self._any(connection, row)
        if connection.terminated:
            self._run.note(idle_ps=row.end - min(connection.terminated.values()))
        association = connection.association
        finished = connection.closed or bool(connection.half_closed)
        finished |= association is not None and (association.finished or not association.live)
        self._run.note(finished=finished)
        self._run.closed(connection, row)

    def _garbage(self, connection: Connection, row: Row) -> None:
        self._any(connection, row)
        self._fatal(connection, row, FatalError.INVALID_HEADER_FIELD)
        connection.doubt()

    def _reserved(self, connection: Connection, row: Row) -> None:
        self._any(connection, row)
        self._fatal(connection, row, FatalError.INVALID_HEADER_FIELD)

    # -- capsules ---------------------------------------------------------------------------------------------

    def _capsule(self, connection: Connection, row: Row) -> None:
        self._carrier(connection, row)
        if row.upstream:
            return
        sqe = row.body[8:72]
        if sqe[:1] == b"\x7f" or connection.qid == 0:
            self._run.note(capsule_limit=IN_CAPSULE_ADMIN)
        elif connection.association is not None:
            self._run.note(capsule_limit=connection.association.in_capsule)
        data = row.body[72:] if row.data and len(row.body) - 72 == row.data else None
        self._run.capsule(connection, row, sqe, data, row.data)
        self._damaged(connection, row, int.from_bytes(sqe[2:4], "little"))

    def _damaged(self, connection: Connection, row: Row, cid: int) -> None:
        command = connection.commands.get(cid)
        if command is not None and row.data_digest == Digest.BAD:
            command.damaged = True

    def _response(self, connection: Connection, row: Row) -> None:
        self._carrier(connection, row)
        if row.upstream:
            self._run.response(connection, row, row.body[8:24])

    # -- data -------------------------------------------------------------------------------------------------

    def _short(self, connection: Connection, row: Row) -> bool:
        """Whether a PDU with data has no room for its own header, so that nothing is known of what it did."""
        if len(row.body) >= 8 + _FIELDS.size:
            return False
        self._carrier(connection, row)
        connection.doubt()
        return True

    def _r2t(self, connection: Connection, row: Row) -> None:
        if self._short(connection, row):
            return
        self._carrier(connection, row)
        cid, ttag, offset, length = _FIELDS.unpack_from(row.body, 8)
        command = connection.commands.get(cid)
        note = self._run.note
        note(command=self._run.named(connection, cid))
        if command is None or not row.upstream:
            return
        self._run.output.child(command, R2T, row, offset, length, row.tlp)
        note(transaction_id=self._run.output.first_transaction + command.number, moves=self._run.moves(command))
        if command.sure:
            note(
                offset_due=command.next_r2t, end_due=command.length, r2ts_open=len(command.r2ts),
                r2ts_allowed=connection.most_r2ts,
            )  # fmt: skip
            if len(command.r2ts) < MOST_R2TS:
                command.r2ts.append(Asked(ttag, offset, offset + length))
        command.next_r2t, command.last_tlp = offset + length, row.tlp

    def _h2c_data(self, connection: Connection, row: Row) -> None:
        if self._short(connection, row):
            return
        self._carrier(connection, row)
        cid, ttag, offset, length = _FIELDS.unpack_from(row.body, 8)
        command = connection.commands.get(cid)
        note = self._run.note
        note(command=self._run.named(connection, cid), length_limit=connection.most_data)
        if command is None or row.upstream:
            return
        self._run.output.child(command, DATA, row, offset, length, row.tlp)
        note(transaction_id=self._run.output.first_transaction + command.number, moves=self._run.moves(command))
        if command.sure:
            found = next((one for one in command.r2ts if one.ttag == ttag), None)
            note(r2ts_open=len(command.r2ts), ttag_open=found is not None)
            if command.r2ts:
                note(ttag_due=command.r2ts[0].ttag)
            if found is not None:
                note(offset_due=found.next, end_due=found.end, last_due=offset + length >= found.end)
                found.next = offset + length
                if row.body[1] & LAST_PDU or found.next >= found.end:
                    command.r2ts.remove(found)
        self._run.moved_out(command, row, offset, row.data, self._data(row))
        self._damaged(connection, row, cid)

    def _c2h_data(self, connection: Connection, row: Row) -> None:
        if self._short(connection, row):
            return
        cid, _, offset, length = _FIELDS.unpack_from(row.body, 8)
        flags = row.body[1]
        command = connection.commands.get(cid)
        success = connection.flow_control if flags & SUCCESS_FLAG else None
        if command is None or not row.upstream:
            self._carrier(connection, row, command=self._run.named(connection, cid), flow_control=success)
            return
        self._run.output.child(command, DATA, row, offset, length, row.tlp)
        sure, expected = command.sure, command.expected
        self._carrier(
            connection, row, command=records.OUTSTANDING, flow_control=success,
            transaction_id=self._run.output.first_transaction + command.number, moves=self._run.moves(command),
            offset_due=command.next_in if sure else None, end_due=command.length if sure else None,
            after_last=command.last_seen if sure else None,
            last_due=offset + length >= expected if sure and expected is not None else None,
        )  # fmt: skip
        command.next_in = offset + length
        command.last_seen |= bool(flags & LAST_PDU)
        self._run.moved_in(command, row, offset, row.data, self._data(row))
        if flags & SUCCESS_FLAG and flags & LAST_PDU and command.moves in (FROM_DEVICE, TO_DEVICE):
            cqe = bytes(12) + row.body[8:10] + bytes(2)
            self._run.complete(command, row, cqe, records.BY_SUCCESS)

    @staticmethod
    def _data(row: Row) -> bytes | None:
        data = row.body[24:]
        return data if len(data) == row.data else None
