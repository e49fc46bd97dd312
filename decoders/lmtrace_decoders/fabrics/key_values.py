"""Namespaces behind a network, and the keys of those that have the Key Value Command Set.

What another host does over another network is not seen, so that what is known of a key is never certain. Nothing is
known of keys where commands may have gone unseen, or where several controllers name a namespace by the same NSID.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmtrace.pieces import Pieces
from lmtrace.spec import nvme
from lmtrace.spec.nvme import Cns, CommandSet, Feature, KeyValue
from lmtrace_decoders.fabrics import records
from lmtrace_decoders.fabrics.state import Association, Command
from lmtrace_decoders.keys import Key, Keys, limits

if TYPE_CHECKING:
    from lmtrace_decoders.fabrics.decode import Fabrics

BROADCAST = 0xFFFFFFFF
CSI_DESCRIPTOR = 4
CREATE = 0
FORGETS = (nvme.Admin.FORMAT_NVM, nvme.Admin.SANITIZE, nvme.Admin.NAMESPACE_MANAGEMENT, nvme.Admin.NAMESPACE_ATTACHMENT)


@dataclass(slots=True, eq=False)
class Namespace:
    """One namespace. ``csi`` is -1 while its command set is not known, ``owner`` whose commands came last."""

    number: int
    csi: int = -1
    longest_key: int | None = None
    longest_value: int | None = None
    owner: Association | None = None
    several: bool = False
    """Several controllers have one of this NSID."""
    delete_errors: tuple[Association, bool] | None = None
    """Whether Delete of a key that does not exist is an error (EDNEK), and which controller told."""


class KeyValues(Keys[Command]):
    """Follows the namespaces of one capture."""

    def __init__(self, run: Fabrics) -> None:
        super().__init__(run.store)
        self._run = run
        self._spaces: dict[tuple[int, int], Namespace] = {}
        self._blind = False
        """I/O commands came from a host whose Connect was not seen."""

    def _of(self, link: int, nsid: int) -> Namespace:
        found = self._spaces.get((link, nsid))
        if found is None:
            found = self._spaces[link, nsid] = Namespace(len(self._spaces))
        return found

    def _all(self, link: int, nsid: int) -> list[Namespace]:
        """Return the namespaces that an NSID names, all that were met for 0 and FFFFFFFFh."""
        if nsid in (0, BROADCAST):
            return [one for (place, _), one in self._spaces.items() if place == link]
        return [self._of(link, nsid)]

    # -- what a command is ------------------------------------------------------------------------------------

    def namespace(self, command: Command) -> Namespace:
        """Return the namespace of a command."""
        association = command.connection.association
        assert association is not None
        return self._of(association.link, command.dword(1))

    def transaction(self, command: Command) -> int:
        """Return the number of a command's transaction."""
        return self._run.output.first_transaction + command.number

    def named(self, command: Command) -> Key | None:
        """Return the key that a command names, None for one that names none, or of which nothing can be known."""
        return None if self._blind or self.namespace(command).several else super().named(command)

    def data_of_list(self, command: Command) -> tuple[bytes | None, bool]:
        """Return what a List returned, None where not all was seen."""
        if command.buffer is None or not command.sure:
            return None, False
        return command.buffer.bytes(0, min(command.dword(10), command.moved_in)), False

    def moved(self, command: Command) -> int | None:
        """Return the bytes that moved of the value of a Store or Retrieve, None where that is not certain.

        What fills the last dword is not counted.
        """
        value = command.dword(10)
        if not command.sure or command.damaged or command.length < value or command.opcode not in _VALUES:
            return None
        if command.opcode == KeyValue.RETRIEVE:
            return command.moved_in
        missing = command.moved_out < command.asked_out  # what was asked for may have come unrecorded
        return None if missing else value if value <= command.moved_out <= value + -value % 4 else command.moved_out

    def delete_errors(self, command: Command) -> bool | None:
        """Return whether Delete of a key that does not exist is an error (EDNEK)."""
        found = self.namespace(command).delete_errors
        return found[1] if found is not None and found[0] is command.connection.association else None

    def place(self, command: Command) -> dict[str, Any]:
        """Return the columns that say where a command ran, and how surely it is known."""
        run, association = self._run, command.connection.association
        assert association is not None
        done = command.connection.done.get(command.cid)
        return {
            "capture": run.capture.name, "link": run.output.links[association.link], "function": None,
            "controller": association.cntlid, "other_paths": True,
            "dw0": None if done is not None and done[0] == records.BY_SUCCESS else command.dw0,
            "learnt": "seen" if association.known and command.sure else "inferred",
        }  # fmt: skip

    # -- a command's life -------------------------------------------------------------------------------------

    def capsule(self, command: Command) -> None:
        """An I/O command came: learn which command set it is of."""
        association = command.connection.association
        if association is None or not association.known:
            self._blind = True
        if association is None or not command.connection.qid:
            return
        space = self.namespace(command)
        command.csi = space.csi
        if space.owner is not association:
            if space.owner is not None:
                space.several |= space.owner.live
                self.forget(space.number, command.tlp, command.tlp)
            space.owner = association
        if space.csi == CommandSet.KEY_VALUE:
            self.began(command)

    def lost(self, tlp: int) -> None:
        """Something was not recorded: commands may have gone unseen."""
        for one in self._spaces.values():
            self.forget(one.number, tlp, tlp)

    # -- what admin commands tell -----------------------------------------------------------------------------

    def told(self, command: Command, association: Association) -> None:
        """An admin command succeeded."""
        link, nsid, cdw10, cdw11 = association.link, command.dword(1), command.dword(10), command.dword(11)
        match command.opcode:
            case nvme.Admin.IDENTIFY if command.buffer is not None:
                self._identified(link, nsid, cdw10 & 0xFF, cdw11 >> 24, command.buffer)
            case nvme.Admin.SET_FEATURES if cdw10 & 0xFF == Feature.KEY_VALUE_CONFIGURATION:
                self._configured(association, nsid, cdw11)
            case nvme.Admin.GET_FEATURES if cdw10 & 0x7FF == Feature.KEY_VALUE_CONFIGURATION:
                self._configured(association, nsid, command.dw0)
            case opcode if opcode in FORGETS:
                for one in self._all(link, BROADCAST):
                    self.forget(one.number, command.tlp, command.cqe_tlp)
                    one.longest_key = one.longest_value = None
                if opcode == nvme.Admin.NAMESPACE_MANAGEMENT:
                    created = cdw10 & 0xF == CREATE
                    self._of(link, command.dw0 if created else nsid).csi = cdw11 >> 24 if created else -1

    def _configured(self, association: Association, nsid: int, value: int) -> None:
        for one in self._all(association.link, nsid):
            one.delete_errors = association, bool(value & 1)

    def _identified(self, link: int, nsid: int, cns: int, csi: int, data: Pieces) -> None:
        if cns == Cns.NAMESPACE_DESCRIPTORS:
            raw, at = bytes(data.data), 0
            while at + 4 < len(raw) and raw[at + 1]:
                if raw[at] == CSI_DESCRIPTOR:
                    self._of(link, nsid).csi = raw[at + 4]
                at += 4 + raw[at + 1]
        elif cns == Cns.IO_NAMESPACE:
            space = self._of(link, nsid)
            space.csi = csi
            told = limits(data) if csi == CommandSet.KEY_VALUE else None
            if told is not None:
                space.longest_key, space.longest_value = told
        elif cns == Cns.IO_ACTIVE_NAMESPACES:
            raw = bytes(data.data)
            for at in range(0, len(raw) - 3, 4):
                nsid = int.from_bytes(raw[at : at + 4], "little")
                if not nsid:
                    break
                self._of(link, nsid).csi = csi


_VALUES = (KeyValue.STORE, KeyValue.RETRIEVE)
