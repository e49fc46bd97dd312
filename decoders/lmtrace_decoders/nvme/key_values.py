"""The keys of Key Value namespaces behind PCIe: what the data of commands and the features of a controller tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lmtrace.spec.nvme import CommandSet, KeyValue
from lmtrace_decoders.keys import Keys
from lmtrace_decoders.nvme import facts, spool
from lmtrace_decoders.nvme.command import Command
from lmtrace_decoders.nvme.sgl import SglTransfer

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.namespaces import Namespace
    from lmtrace_decoders.nvme.reconstruct import Reconstruction


class KeyValues(Keys[Command]):
    """Follows every Key Value namespace of one capture. ``compared`` is told how a retrieved value compared."""

    def __init__(self, run: Reconstruction, compared: Callable[[Command, bool, int, int], None]) -> None:
        super().__init__(run.store)
        self._run, self._told_of = run, compared
        self._errors: dict[int, tuple[Controller, bool]] = {}
        """Whether Delete of a key that does not exist is an error (EDNEK), and the life of a controller it is of."""

    def namespace(self, command: Command) -> Namespace:
        """Return the namespace of a command."""
        return self._run.namespaces.of(command.controller.function, command.dword(1))

    def transaction(self, command: Command) -> int:
        """Return the number of a command's transaction."""
        return self._run.output.first_transaction + command.number

    def compared(self, command: Command, differs: bool, writer: int, tlp: int) -> None:
        """Tell how a retrieved value compared."""
        self._told_of(command, differs, writer, tlp)

    def data_of_list(self, command: Command) -> tuple[bytes | None, bool]:
        """Return what a List returned, None where not all was seen, and whether it wrote behind its buffer."""
        beside = command.moved_beside[1]
        if command.buffer is None or not command.data_decoded or _shared(command):
            return None, False
        return command.buffer.bytes(0, min(command.dword(10), command.moved[1] - beside)), bool(beside)

    def moved(self, command: Command) -> int | None:
        """Return the bytes that moved of a command's data, None where that is not certain."""
        if not command.data_decoded or _shared(command):
            return None
        if isinstance(command.transfer, SglTransfer) and (
            (command.transfer.described or 0) < command.dword(10) or command.transfer.discarded
        ):
            return None
        if command.opcode == KeyValue.STORE:
            return command.moved[0]
        if command.opcode != KeyValue.RETRIEVE or facts.known(command, "data_lacks_end") is False:
            return None  # a piece that is missing before the end may not have been recorded
        return command.moved[1] - command.moved_beside[1]

    def place(self, command: Command) -> dict[str, Any]:
        """Return the columns that say where a command ran, and how surely it is known."""
        run, function = self._run, command.controller.function
        return {
            "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
            "controller": function.cntlid,
            "learnt": spool.LEARNT[command.sq.learnt] if run.whole(function.link) else "inferred",
        }  # fmt: skip

    # -- the namespace as a whole -------------------------------------------------------------------------------

    def emptied(self, command: Command, function: Function, nsid: int, tlp: int) -> None:
        """No key of the namespaces that an NSID names exists any more, by a command that completed."""
        for one in self._run.namespaces.all_of(function, nsid):
            if one.csi == CommandSet.KEY_VALUE:
                self.empty(one.number, command.fetch_tlp, tlp, self.transaction(command))
            else:
                self.forget(one.number, command.fetch_tlp, tlp)

    def configured(self, command: Command, value: int) -> None:
        """The Key Value Configuration feature was set or told: whether some deletes are errors."""
        function, nsid = command.controller.function, command.dword(1)
        for one in self._run.namespaces.all_of(function, nsid):
            self._errors[one.number] = (command.controller, bool(value & 1))

    def delete_errors(self, command: Command) -> bool | None:
        """Return whether Delete of a key that does not exist is an error (EDNEK)."""
        found = self._errors.get(self.namespace(command).number)
        return found[1] if found is not None and found[0] is found[0].function.controller else None


def _shared(command: Command) -> bool:
    return facts.known(command, "buffer_shared") is True
