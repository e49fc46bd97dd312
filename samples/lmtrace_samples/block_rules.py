"""What a controller refuses of block commands: limits, write protection, unwritten blocks, reservations (NVM 1.2, 3.3).

Every reason to refuse has a name, so that a fault can make the controller forget it, or refuse without one.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from lmtrace.spec.nvme import INVALID_FIELD, INVALID_NAMESPACE, Admin, Cns, Feature, Nvm, Status
from lmtrace_samples.commands import COMMAND_SIZE_LIMIT, COMPARE_FAILURE, LBA_OUT_OF_RANGE, UNRECOVERED_READ
from lmtrace_samples.namespace import COPY_BLOCKS, COPY_RANGE, COPY_RANGES, Namespace
from lmtrace_samples.queues import Refused
from lmtrace_samples.reservations import RESERVATION_CONFLICT, Reservation
from lmtrace_samples.simulation import Steps
from lmtrace_samples.tlp import PAGE

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command, Result

WRITE_PROTECTED, WRITE_FAULT = Status(0, 0x20), Status(2, 0x80)
UNWRITTEN, GUARD_CHECK, REFERENCE_CHECK = Status(2, 0x87), Status(2, 0x82), Status(2, 0x84)
ATOMIC_UNIT_EXCEEDED, PLACEMENT_DISABLED = Status(0, 0x14), Status(0, 0x29)
OVERLAPPING, INCOMPATIBLE = Status(1, 0x87), Status(1, 0x85)
WRITERS = (Nvm.WRITE, Nvm.WRITE_ZEROES, Nvm.WRITE_UNCORRECTABLE)
READERS = (Nvm.READ, Nvm.COMPARE, Nvm.VERIFY)
ZEROES_SHIFT, COPY_FORMATS = 2, 0b101
"""WZSL, in pages of 4 KiB, and OCFS."""
COPY_ENTRY = {0: 32, 1: 40, 2: 32}
OCFS, DPC, DPS, NSFEAT, NSATTR = 534, 28, 29, 24, 99
FIELDS = {"VWC": 0b101, "ONCS": 0b1_1010_1111}
DIRECTIVES = 1 << 5
LARGE = 32
"""Blocks of a command that is larger than an atomic unit."""
ALLOCATE_ERRORS = 1 << 16
READ_ONLY = 8


class BlockRules:
    """The refusals of one controller."""

    def __init__(self, controller: Controller) -> None:
        self.controller, self.shared = controller, controller.subsystem.blocks
        self.forgotten, self.invented = self.shared.forgotten, self.shared.invented
        self.unwritten_fails: set[int] = set()
        self.host = b""
        self.released: dict[int, set[int]] = {}
        """Deallocated blocks by namespace."""

    def check(self, reason: str, broken: bool, status: Status = INVALID_FIELD) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if (broken and reason not in self.forgotten) or reason in self.invented:
            raise Refused(status)

    def offer(self) -> None:
        """Let the controller behave so from now on."""
        controller = self.controller
        for opcode in list(controller.nvm):
            controller.nvm[opcode] = self._guarded(controller.nvm[opcode])
        controller.nvm |= {
            Nvm.COPY: self._copy, Nvm.COMPARE: self._compare, Nvm.IO_MANAGEMENT_RECEIVE: self._placement,
            Nvm.RESERVATION_REGISTER: self._register, Nvm.RESERVATION_ACQUIRE: self._acquire,
            Nvm.RESERVATION_RELEASE: self._release, Nvm.RESERVATION_REPORT: self._report,
        }  # fmt: skip
        features, logs = controller.admin[Admin.SET_FEATURES], controller.admin[Admin.GET_LOG_PAGE]
        controller.admin |= {
            Admin.SET_FEATURES: lambda command: self._feature(command, features), Admin.DIRECTIVE_SEND: lambda _: None,
            Admin.GET_LOG_PAGE: lambda command: self._log(command, logs),
        }  # fmt: skip
        fields, data = controller.identify_fields, controller.identify_data
        controller.identify_fields = lambda: self._fields(fields())  # type: ignore[method-assign]
        controller.identify_data = lambda cns, command: self._identify(cns, command, data)  # type: ignore[method-assign]

    # -- what it tells ------------------------------------------------------------------------------------------

    def _fields(self, told: dict[str, int]) -> dict[str, int]:
        return {**told, **FIELDS, "OACS": told.get("OACS", 0) | DIRECTIVES}

    def _identify(self, cns: int, command: Command, original: Callable[..., bytes]) -> bytes:
        data = bytearray(original(cns, command).ljust(PAGE, b"\0"))
        if cns == Cns.CONTROLLER:
            data[OCFS] = COPY_FORMATS
        elif cns == Cns.IO_CONTROLLER:
            data[1] = ZEROES_SHIFT
        elif cns == Cns.NAMESPACE and any(data):
            data[NSFEAT] |= 4
            kind = data[DPS] = self.shared.protection.get(command.nsid, 0)
            data[DPC] |= 1 << kind >> 1
            data[NSATTR] = int(command.nsid in self.shared.protected)
        return bytes(data)

    def _log(self, command: Command, original: Callable[[Command], Any]) -> Steps[Result]:
        if command.bits(10, 7, 0) != 2 or not self.shared.read_only:
            result: Result = yield from original(command)
            return result
        yield from self.controller.to_host(command, bytes([READ_ONLY]).ljust(512, b"\0"))
        return None

    def _feature(self, command: Command, original: Callable[[Command], Any]) -> Steps[Result]:
        fid, word = command.bits(10, 7, 0), command.cdw[11]
        if fid == Feature.NAMESPACE_WRITE_PROTECTION:
            (self.shared.protected.add if word & 7 else self.shared.protected.discard)(command.nsid)
        elif fid == Feature.ERROR_RECOVERY:
            (self.unwritten_fails.add if word & ALLOCATE_ERRORS else self.unwritten_fails.discard)(command.nsid)
        elif fid == Feature.HOST_IDENTIFIER:
            self.host = yield from self.controller.from_host(command, 16 if word & 1 else 8)
        else:
            result: Result = original(command)
            return result
        return None

    # -- what it refuses ----------------------------------------------------------------------------------------

    def _guarded(self, original: Callable[[Command], Any]) -> Callable[[Command], Steps[Result]]:
        def run(command: Command) -> Steps[Result]:
            self._before(command)
            made = original(command)
            result: Result = (yield from made) if isinstance(made, GeneratorType) else made
            self._after(command)
            return result

        return run

    def _before(self, command: Command) -> None:
        opcode, namespace = command.opcode, self.controller.namespaces.get(command.nsid)
        if opcode == Nvm.FLUSH:
            self.check("flush-all", command.nsid == 0xFFFFFFFF)
        if namespace is None or opcode not in (*WRITERS, *READERS):
            return
        first, count = _extent(command)
        self.check("beyond", first + count > namespace.blocks, LBA_OUT_OF_RANGE)
        namespace.blocks = max(namespace.blocks, first + count)
        self._reserved(command)
        if opcode in WRITERS:
            self.check("protected", command.nsid in self.shared.protected, WRITE_PROTECTED)
            self.check("read-only", self.shared.read_only, WRITE_FAULT)
            over = opcode == Nvm.WRITE_ZEROES and count * namespace.block_size > PAGE << ZEROES_SHIFT
            self.check("zeroes", over)
            if "atomic" in self.invented and count > LARGE:
                raise Refused(ATOMIC_UNIT_EXCEEDED)
        self._checked(command, namespace, first, count)

    def _checked(self, command: Command, namespace: Namespace, first: int, count: int) -> None:
        kind, asked = self.shared.protection.get(command.nsid, 0), command.bits(12, 28, 26)
        if asked and not kind and "protection" in self.invented:
            raise Refused(GUARD_CHECK)
        self.check("reference", kind == 1 and bool(asked & 1) and command.cdw[14] != first & 0xFFFFFFFF,
                   REFERENCE_CHECK)  # fmt: skip
        if command.opcode not in READERS:
            return
        blocks = range(first, first + count)
        released = not self.released.get(command.nsid, set()).isdisjoint(blocks)
        if command.nsid in self.unwritten_fails and (released or "unwritten" in self.invented):
            raise Refused(UNWRITTEN)
        reason = "spoilt-verify" if command.opcode == Nvm.VERIFY else "spoilt"
        if not namespace.readable(first, count):
            self.check(reason, True, UNRECOVERED_READ)
            namespace.bad.difference_update(blocks)

    def _reserved(self, command: Command) -> None:
        held = self.shared.reservations.get(command.nsid)
        away = held is not None and held.excludes(self.host, command.opcode in WRITERS)
        self.check("reservation", away, RESERVATION_CONFLICT)

    def _after(self, command: Command) -> None:
        gone = self.released.setdefault(command.nsid, set())
        if command.opcode in WRITERS:
            first, count = _extent(command)
            gone.difference_update(range(first, first + count))
        elif command.opcode == Nvm.DATASET_MANAGEMENT and command.bits(11, 2, 2):
            namespace = self.controller.namespaces[command.nsid]
            gone.update(block for block in range(namespace.blocks) if block not in namespace.content)

    def _compare(self, command: Command) -> Steps[Result]:
        namespace = self.controller.present(command)
        first, count = _extent(command)
        self._before(command)
        data = yield from self.controller.from_host(command, count * namespace.block_size)
        self.check("miscompare", data != namespace.read(first, count), COMPARE_FAILURE)
        return None

    def _copy(self, command: Command) -> Steps[Result]:
        """Copy source ranges one behind the other, of other namespaces too (3.3.2)."""
        controller, format = self.controller, command.bits(12, 11, 8)
        target = controller.present(command)
        self.check("copy-format", not COPY_FORMATS >> format & 1)
        size, ranges = COPY_ENTRY[format], command.bits(12, 7, 0) + 1
        listed = yield from controller.from_host(command, size * ranges)
        sources = []
        for at in range(0, len(listed), size):
            one = listed[at : at + size]
            nsid = int.from_bytes(one[:4], "little") if format == 2 else command.nsid
            count = int.from_bytes(one[16:18], "little") + 1
            sources.append((controller.namespaces[nsid], int.from_bytes(one[8:16], "little"), count))
        total, start = sum(count for _, _, count in sources), command.cdw[11] << 32 | command.cdw[10]
        longest = max(count for _, _, count in sources)
        over = ranges > COPY_RANGES or total > COPY_BLOCKS or longest > COPY_RANGE
        self.check("copy-limit", over, COMMAND_SIZE_LIMIT)
        same = all(self._alike(one, target) for one, _, _ in sources)
        self.check("copy-namespaces", not same, INCOMPATIBLE)
        overlaps = any(one is target and at < start + total and start < at + count for one, at, count in sources)
        self.check("copy-overlap", overlaps, OVERLAPPING)
        data = b"".join(one.read(at, count) for one, at, count in sources)
        target.write(start, data)
        controller.changed(command, target, start, total, False)
        return None

    def _alike(self, one: Namespace, other: Namespace) -> bool:
        return (one.block_size, one.metadata) == (other.block_size, other.metadata)

    def _placement(self, command: Command) -> Steps[Result]:
        self.check("placement", True, PLACEMENT_DISABLED)
        yield from self.controller.to_host(command, bytes(4 * (command.cdw[11] + 1)))
        return None

    # -- reservations (NVMe Base 2.1, 7.5 to 7.8) ---------------------------------------------------------------

    def _held(self, command: Command) -> Reservation:
        if command.nsid not in self.controller.namespaces:
            raise Refused(INVALID_NAMESPACE)
        return self.shared.reservations.setdefault(command.nsid, self.shared.reserved())

    def _register(self, command: Command) -> Steps[Result]:
        data = yield from self.controller.from_host(command, 16)
        self.check("register-action", command.bits(10, 2, 0) > 2)
        self._held(command).register(self.host, self.controller.cntlid, command.bits(10, 2, 0), data)
        return None

    def _acquire(self, command: Command) -> Steps[Result]:
        data = yield from self.controller.from_host(command, 16)
        self._held(command).acquire(self.host, command.bits(10, 2, 0), command.bits(10, 15, 8), data)
        return None

    def _release(self, command: Command) -> Steps[Result]:
        data = yield from self.controller.from_host(command, 8)
        self._held(command).release(self.host, command.bits(10, 2, 0), data)
        return None

    def _report(self, command: Command) -> Steps[Result]:
        length = 4 * (command.cdw[10] + 1)
        data = self._held(command).report()
        yield from self.controller.to_host(command, data.ljust(length, b"\0")[:length])
        return None


def _extent(command: Command) -> tuple[int, int]:
    return command.cdw[11] << 32 | command.cdw[10], command.bits(12, 15, 0) + 1
