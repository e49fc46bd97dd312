"""End-to-end protection information as a controller makes and checks it (NVM Command Set 1.2, 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.nvme import Nvm, Status
from lmtrace_samples.commands import COMPARE_FAILURE
from lmtrace_samples.data_pointers import metadata_pieces
from lmtrace_samples.namespace import Namespace
from lmtrace_samples.queues import Refused
from lmtrace_samples.simulation import Steps

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command, Handler, Result

GUARD_CHECK, APPLICATION_CHECK, REFERENCE_CHECK = Status(2, 0x82), Status(2, 0x83), Status(2, 0x84)
ACT, CHECK_GUARD, CHECK_APPLICATION, CHECK_REFERENCE = 1 << 29, 1 << 28, 1 << 27, 1 << 26
"""PRACT and PRCHK in CDW12."""
SIZE = 8
TYPE_1, TYPE_2, TYPE_3 = 1, 2, 3
NO_CHECK = 0xFFFF


def guard(data: bytes) -> int:
    """Return the CRC of T10 DIF of some bytes."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = value << 1 ^ (0x18BB7 if value & 0x8000 else 0)
    return value


class ProtectedNamespace(Namespace):
    """A namespace with protection information of a type, first or last in its metadata, extended or beside the data."""

    def __init__(self, nsid: int, blocks: int, block_size: int, metadata: int, kind: int, extended: bool, first: bool,
                 ) -> None:  # fmt: skip
        super().__init__(nsid, blocks, block_size, metadata)
        self.kind, self.extended, self.first = kind, extended, first

    def identify(self) -> bytes:
        """Return Identify Namespace with FLBAS, MC, DPC and DPS."""
        data = bytearray(super().identify())
        data[26], data[27], data[28] = self.extended << 4, 0b11, 0b11111
        data[29] = self.kind | self.first << 3
        return bytes(data)

    @property
    def place(self) -> int:
        """Where protection information lies in the metadata of a block."""
        return 0 if self.first else self.metadata - SIZE

    def protect(self, data: bytes, metadata: bytes, application: int, reference: int) -> bytes:
        """Return the metadata of a block with protection information in them."""
        at = self.place
        value = guard(data + metadata[:at])
        made = value.to_bytes(2, "big") + application.to_bytes(2, "big") + reference.to_bytes(4, "big")
        return metadata[:at] + made + metadata[at + SIZE :]

    def fill(self, data: bytes, metadata: bytes, application: int, reference: int) -> bytes:
        """Return the metadata of blocks one behind the other, whose reference tags count on but for type 3."""
        size, own = self.block_size, self.metadata
        return b"".join(
            self.protect(
                data[size * one : size * one + size], metadata[own * one : own * one + own], application,
                (reference + one * (self.kind != TYPE_3)) & 0xFFFFFFFF,
            )
            for one in range(len(data) // size)
        )  # fmt: skip

    def join(self, data: bytes, metadata: bytes) -> bytes:
        """Return data with the metadata of each block behind it."""
        size, own = self.block_size, self.metadata
        return b"".join(
            data[size * one : size * one + size] + metadata[own * one : own * one + own]
            for one in range(len(data) // size)
        )

    def split(self, both: bytes) -> tuple[bytes, bytes]:
        """Return data and metadata of blocks that hold both."""
        size, whole = self.block_size, self.block_size + self.metadata
        starts = range(0, len(both), whole)
        data = b"".join(both[at : at + size] for at in starts)
        return data, b"".join(both[at + size : at + whole] for at in starts)

    def without_tags(self, metadata: bytes) -> bytes:
        """Return what metadata hold besides protection information."""
        at, own = self.place, self.metadata
        pieces = (metadata[start : start + own] for start in range(0, len(metadata), own))
        return b"".join(one[:at] + one[at + SIZE :] for one in pieces)


class ProtectedBlocks:
    """What one controller does with protected namespaces; others it leaves to its own commands."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.forgotten, self.invented = controller.subsystem.blocks.forgotten, controller.subsystem.blocks.invented
        for opcode, run in ((Nvm.WRITE, self._write), (Nvm.READ, self._read), (Nvm.COMPARE, self._compare)):
            controller.nvm[opcode] = self._or(controller.nvm[opcode], run)

    def _or(self, original: Handler, run: Handler) -> Handler:
        def chosen(command: Command) -> Result | Steps[Result]:
            protected = isinstance(self.controller.namespaces.get(command.nsid), ProtectedNamespace)
            return run(command) if protected else original(command)

        return chosen

    def _extent(self, command: Command) -> tuple[ProtectedNamespace, int, int]:
        namespace, first, count = self.controller.extent(command)
        assert isinstance(namespace, ProtectedNamespace)
        return namespace, first, count

    def moves(self, command: Command, namespace: ProtectedNamespace) -> bool:
        """Return whether metadata move: not where the controller makes all of them."""
        made = command.cdw[12] & ACT and namespace.metadata == SIZE
        told = command.opcode == Nvm.READ and not namespace.extended and "metadata" in self.invented
        return not made or told

    def returned(self, command: Command, namespace: ProtectedNamespace, metadata: bytes) -> bytes:
        """Return the metadata that a read returns, whose first guard a fault may spoil."""
        at, spoilt = namespace.place, "guard" in self.invented and command.cdw[12] & CHECK_GUARD
        return metadata[:at] + bytes([metadata[at] ^ 1]) + metadata[at + 1 :] if spoilt else metadata

    def check(self, command: Command, namespace: ProtectedNamespace, data: bytes, metadata: bytes) -> None:
        """Compare the tags of blocks with what they should be, as far as PRCHK has it checked."""
        size, own, asked = namespace.block_size, namespace.metadata, command.cdw[12]
        mask, wanted, reference = command.cdw[15] >> 16, command.cdw[15] & 0xFFFF, command.cdw[14]
        for one in range(len(data) // size):
            block, beside = data[size * one : size * one + size], metadata[own * one : own * one + own]
            tags = beside[namespace.place : namespace.place + SIZE]
            application, tag = int.from_bytes(tags[2:4], "big"), int.from_bytes(tags[4:], "big")
            if application == NO_CHECK and (namespace.kind != TYPE_3 or tag == 0xFFFFFFFF):
                continue
            right = guard(block + beside[: namespace.place]) == int.from_bytes(tags[:2], "big")
            self._refuse("guard", asked & CHECK_GUARD and not right, GUARD_CHECK)
            refused = command.opcode == Nvm.WRITE and "guard refused" in self.invented
            self._refuse("", asked & CHECK_GUARD and refused, GUARD_CHECK)
            other = (application ^ wanted) & mask
            self._refuse("application", asked & CHECK_APPLICATION and other, APPLICATION_CHECK)
            due = (reference + one) & 0xFFFFFFFF
            self._refuse("reference", asked & CHECK_REFERENCE and tag != due, REFERENCE_CHECK)

    def _refuse(self, reason: str, broken: int, status: Status) -> None:
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def _read(self, command: Command) -> Steps[Result]:
        controller, (namespace, first, count) = self.controller, self._extent(command)
        yield controller._media(count)
        data, metadata = namespace.read(first, count), namespace.read_metadata(first, count)
        self.check(command, namespace, data, metadata)
        if not self.moves(command, namespace):
            yield from controller.to_host(command, data)
        elif namespace.extended:
            yield from controller.to_host(command, namespace.join(data, self.returned(command, namespace, metadata)))
        else:
            yield from controller.to_host(command, data)
            ((address, length),) = yield from metadata_pieces(controller, command, len(metadata))
            controller.function.write(address, self.returned(command, namespace, metadata)[:length])
        return None

    def _fetch(self, command: Command, namespace: ProtectedNamespace, count: int) -> Steps[tuple[bytes, bytes]]:
        controller, size, own = self.controller, count * namespace.block_size, count * namespace.metadata
        if not self.moves(command, namespace):
            return (yield from controller.from_host(command, size)), bytes(own)
        if namespace.extended:
            return namespace.split((yield from controller.from_host(command, size + own)))
        data = yield from controller.from_host(command, size)
        pieces = yield from metadata_pieces(controller, command, own)
        return data, (yield from controller.function.read(pieces))

    def _write(self, command: Command) -> Steps[Result]:
        controller, (namespace, first, count) = self.controller, self._extent(command)
        data, metadata = yield from self._fetch(command, namespace, count)
        if command.cdw[12] & ACT:
            metadata = namespace.fill(data, metadata, command.cdw[15] & 0xFFFF, command.cdw[14])
        else:
            self.check(command, namespace, data, metadata)
        yield controller._media(count)
        namespace.write(first, data)
        namespace.write_metadata(first, metadata)
        controller.changed(command, namespace, first, count, False)
        return None

    def _compare(self, command: Command) -> Steps[Result]:
        controller, (namespace, first, count) = self.controller, self._extent(command)
        data, metadata = yield from self._fetch(command, namespace, count)
        if not command.cdw[12] & ACT:
            self.check(command, namespace, data, metadata)
        yield controller._media(count)
        held, beside = namespace.read(first, count), namespace.read_metadata(first, count)
        if data != held or namespace.without_tags(metadata) != namespace.without_tags(beside):
            raise Refused(COMPARE_FAILURE)
        return None
