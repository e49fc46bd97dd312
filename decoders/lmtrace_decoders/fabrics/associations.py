"""Which connection belongs to which controller of which subsystem: Connect, keep alive, enabling, ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.fabrics import (
    CONNECT,
    CONNECT_DATA,
    CONNECT_RESULT,
    DISCOVERY_NQN,
    FABRICS_PROPERTIES,
    MOST_CNTLID,
    PROPERTY_GET,
    PROPERTY_SET,
    Fctype,
)
from lmtrace.spec.nvme import CC, Property
from lmtrace_decoders.fabrics import records
from lmtrace_decoders.fabrics.state import Association, Command, Connection, Life

if TYPE_CHECKING:
    from lmtrace_decoders.fabrics.decode import Fabrics, Row

MOST_LINKS = 4096


class Associations:
    """Every association of a capture. A link is one NVM subsystem, or a target where its name was not seen."""

    def __init__(self, run: Fabrics) -> None:
        self._run = run
        self.every: list[Association] = []
        self._live: dict[tuple[int, int | None], Association] = {}
        self._epochs: dict[tuple[int, int | None], int] = {}

    # -- Connect ----------------------------------------------------------------------------------------------

    def connecting(self, connection: Connection, command: Command) -> None:
        """A Connect was sent: it says which queue the connection carries."""
        fields = CONNECT.decode(command.sqe)
        if connection.connected != records.IS_CONNECTED:
            connection.connected = records.CONNECTING
            connection.qid, connection.slots = fields["QID"], fields["SQSIZE"] + 1
            connection.flow_control = not fields["DISABLE_SQ_FLOW_CONTROL"]

    def place(self, connection: Connection, subnqn: bytes = b"") -> None:
        """Put a connection on the link of its subsystem, or of its target where that is not known."""
        output = self._run.output
        name = _text(subnqn)
        if not name or len(output.links) >= MOST_LINKS:
            name = connection.target
        elif subnqn.startswith(DISCOVERY_NQN):
            name = f"{name} at {connection.target}"
        connection.link = output.link(name, f"{connection.text.split(' ')[0]} of {connection.target}")
        if connection.association is None and not connection.started:
            connection.association = self._of(connection, None, known=False)

    def _of(self, connection: Connection, cntlid: int | None, known: bool) -> Association:
        """Return the live association with a controller, begun now where there is none."""
        found = self._live.get((connection.link, cntlid))
        if found is None:
            found = self._begin(connection, cntlid, known)
        return found

    def _begin(self, connection: Connection, cntlid: int | None, known: bool) -> Association:
        key = (connection.link, cntlid)
        life = Life(self._epoch(key), self._run.capture.first_tlp)
        found = Association(len(self.every), connection.link, cntlid, known, [life])
        self.every.append(found)
        self._live[key] = found
        return found

    def _epoch(self, key: tuple[int, int | None]) -> int:
        epoch = self._epochs.get(key, 0)
        self._epochs[key] = epoch + 1
        return epoch

    def completed(self, connection: Connection, command: Command, row: Row) -> None:
        """A command completed: Fabrics commands change who is connected and enabled."""
        if not command.fabrics:
            return
        match command.sqe[4]:
            case Fctype.CONNECT:
                self._connected(connection, command, row)
            case Fctype.PROPERTY_SET | Fctype.PROPERTY_GET:
                self._property(connection, command, row)
            case Fctype.DISCONNECT if command.succeeded:
                connection.disconnected = True
                if connection.association is not None and connection.qid == 0:
                    connection.association.finished = True

    def _connected(self, connection: Connection, command: Command, row: Row) -> None:
        data = command.buffer
        raw = data.bytes(0, CONNECT_DATA.size) if data is not None else None
        subnqn = raw[256:512].split(b"\0")[0] if raw is not None else b""
        if connection.link < 0 or raw is not None:
            self.place(connection, subnqn)
        if not command.succeeded or command.cqe is None:
            if connection.connected == records.CONNECTING:
                connection.connected = records.NOT_CONNECTED
            return
        if connection.connected == records.IS_CONNECTED:
            return
        connection.connected, connection.created = records.IS_CONNECTED, (row.end, row.tlp)
        cntlid = CONNECT_RESULT["CNTLID"].of(command.cqe)
        if connection.qid:
            asked = int.from_bytes(raw[16:18], "little") if raw is not None else cntlid
            connection.association = found = self._of(connection, asked, known=False)
            admin, own = found.requested, connection.requested
            if admin is not None and own is not None and raw is not None and found.hostnqn:
                same = (found.hostid, found.hostnqn) == (raw[:16], raw[512:768].split(b"\0")[0])
                self._run.note(admin_first=admin < own if same else None)
            return
        before = self._live.get((connection.link, cntlid))
        if before is not None:
            self._end(before, row, "replaced")
        association = self._begin(connection, cntlid if cntlid <= MOST_CNTLID else None, known=True)
        association.life.first, association.requested = command.tlp, connection.requested
        association.kato_ms, association.heard_ps = CONNECT["KATO"].of(command.sqe), row.end
        association.discovery = subnqn.startswith(DISCOVERY_NQN)
        if raw is not None:
            association.hostid, association.hostnqn = raw[:16], raw[512:768].split(b"\0")[0]
        connection.association = association

    # -- properties -------------------------------------------------------------------------------------------

    def _property(self, connection: Connection, command: Command, row: Row) -> None:
        if connection.link < 0 or command.cqe is None:
            return
        write = command.sqe[4] == Fctype.PROPERTY_SET
        layout = PROPERTY_SET if write else PROPERTY_GET
        offset, size = layout["OFST"].of(command.sqe), 8 if layout["ATTRIB"].of(command.sqe) == 1 else 4
        if offset not in FABRICS_PROPERTIES:
            return
        if write and not command.succeeded:
            return
        source = command.sqe[48:56] if write else command.cqe[:8]
        value = int.from_bytes(source[:size], "little") if command.succeeded else None
        self._run.output.property(command, write, offset, size, value, None if write else int(not command.succeeded))
        association = connection.association
        if write and offset == Property.CC and association is not None and value is not None:
            self._configured(association, value.to_bytes(8, "little")[:4], row)

    def _configured(self, association: Association, cc: bytes, row: Row) -> None:
        life = association.life
        if CC["SHN"].of(cc):
            association.finished = True
        if CC["EN"].of(cc) and life.enabled is None:
            life.enabled, life.enabled_ps = row.tlp, row.end
        elif not CC["EN"].of(cc) and life.enabled is not None:
            self._end_life(association, row, "CC.EN cleared")
            association.lives.append(Life(self._epoch((association.link, association.cntlid)), row.tlp))
            association.finished = False

    # -- life -------------------------------------------------------------------------------------------------

    def heard(self, connection: Connection, row: Row) -> None:
        """A capsule of the host came."""
        association = connection.association
        if association is None or not association.known:
            return
        if association.kato_ms and association.heard_ps is not None and not association.finished:
            self._run.note(idle_ps=max(row.end - association.heard_ps, 0), keep_alive_ms=association.kato_ms)
        association.heard_ps = row.end

    def identified(self, connection: Connection, cntlid: int) -> None:
        """Identify said which controller a connection of an unknown one leads to."""
        association = connection.association
        if association is not None and association.cntlid is None and (association.link, cntlid) not in self._live:
            association.cntlid = cntlid
            self._live.pop((association.link, None), None)
            self._live[association.link, cntlid] = association

    def closed(self, connection: Connection, row: Row) -> None:
        """A connection ended; that of the admin queue takes the association with it."""
        association = connection.association
        if association is not None and connection.qid == 0 and association.live:
            self._end(association, row, "connection closed")

    def _end(self, association: Association, row: Row, how: str) -> None:
        association.live = False
        self._live.pop((association.link, association.cntlid), None)
        self._end_life(association, row, how)

    def _end_life(self, association: Association, row: Row, how: str) -> None:
        life = association.life
        life.ended, life.ended_ps, life.ended_by = row.tlp, row.end, how
        self._run.admin.reset(association, row.end)

    def target(self, link: int, cntlid: int) -> Association | None:
        """Return the live association with a controller."""
        return self._live.get((link, cntlid))


def _text(nqn: bytes) -> str:
    """Return a qualified name as text."""
    return nqn.decode("utf-8", "backslashreplace")
