"""What the host was told, or asked for, that decides how block commands end (nvme-checklist G20).

The size and protection of namespaces, limits, features and directives. Each is known from a command that completed
until another one may have changed it, and of a controller's own settings only within one life of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.nvme import CAP, IDENTIFY_CONTROLLER, Admin, Cns, CommandSet, Feature, Nvm, Property
from lmtrace_decoders.nvme.facts import note
from lmtrace_decoders.nvme.namespaces import BROADCAST
from lmtrace_decoders.nvme.protection import FORMATS, TYPE_1, Protection, protection_of
from lmtrace_decoders.nvme.transfer import PROTECTION_ACTION

if TYPE_CHECKING:
    from lmtrace.pieces import Pieces
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.namespaces import Namespace
    from lmtrace_decoders.nvme.reconstruct import Reconstruction
    from lmtrace_decoders.nvme.transfer import Entry

BLOCK_COMMANDS = frozenset({
    Nvm.WRITE, Nvm.READ, Nvm.COMPARE, Nvm.WRITE_ZEROES, Nvm.WRITE_UNCORRECTABLE, Nvm.VERIFY,
})  # fmt: skip
WRITERS = frozenset({Nvm.WRITE, Nvm.WRITE_ZEROES, Nvm.WRITE_UNCORRECTABLE})
CHANGERS = frozenset({Admin.NAMESPACE_MANAGEMENT, Admin.NAMESPACE_ATTACHMENT, Admin.FORMAT_NVM, Admin.MIGRATION_SEND})
"""Commands after which namespaces may be other than Identify told."""
NAMESPACE_NOTICE = 0x0002
"""Event type and information of an Asynchronous Event Request that tells of changed namespaces."""
SMART, READ_ONLY = 2, 1 << 3
"""The log page with the critical warnings, and the one of them that all media are read only."""
MULTIPLE_PORTS, MULTIPLE_CONTROLLERS = 1 << 0, 1 << 1
"""CMIC: the subsystem has further ports, and further controllers."""
EXTENDED_FORMATS, PLACEMENT, DIRECTIVES = 1 << 15, 1 << 19, 1 << 5
"""Bits of CTRATT (ELBAS and FDPS) and OACS."""
FORMAT_CHECKS, REFERENCE_CHECK = 0xF << 26, 1 << 26
"""PRINFO in CDW12: all of it, and the check of the reference tag."""
ENABLE_DIRECTIVE, STREAMS = 1, 1
UNWRITTEN_ERRORS = 1 << 16
"""DULBE in CDW11 of Error Recovery."""
FLEXIBLE_PLACEMENT = 0x1D
MOST_SHIFT = 30


class Conditions:
    """Follows what block commands of one capture are subject to."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self._changed = -1
        """TLP of the last command that may have changed namespaces."""
        self._ports: dict[int, int] = {}
        """CMIC, CTRATT, OACS, OCFS and VWC by function, as far as they were seen."""
        self._attributes: dict[int, int] = {}
        self._optional: dict[int, int] = {}
        self.copy_formats: dict[int, int] = {}
        self._cache: dict[int, int] = {}
        self._zeroes: dict[int, int] = {}
        """WZSL by function."""
        self._read_only: dict[Controller, bool] = {}
        self._directives: dict[tuple[Controller, int, int], bool] = {}
        """Whether a directive type is enabled, by life, namespace and type."""
        self._unwritten: dict[tuple[Controller, int], bool] = {}
        """DULBE by life and namespace."""
        self._placement: dict[tuple[int, int], bool] = {}
        """Whether Flexible Data Placement is enabled, by link and endurance group."""

    # -- admin commands -----------------------------------------------------------------------------------------

    def fetched(self, command: Command) -> None:
        """An admin command was fetched."""
        if command.opcode in CHANGERS:
            self._forget(command, command.fetch_tlp)
        elif command.opcode == Admin.SET_FEATURES and _fid(command) == Feature.NAMESPACE_WRITE_PROTECTION:
            self._protect(command, None)

    def completed(self, command: Command, tlp: int) -> None:
        """An admin command completed."""
        opcode, life = command.opcode, command.controller
        notice = opcode == Admin.ASYNC_EVENT_REQUEST and command.dw0 & 0xFF07 == NAMESPACE_NOTICE
        if opcode in CHANGERS or notice:
            self._forget(command, tlp)
        if not command.succeeded:
            return
        match opcode:
            case Admin.IDENTIFY if command.buffer is not None:
                self._identify(command, command.buffer)
            case Admin.GET_LOG_PAGE if command.dword(10) & 0xFF == SMART and command.buffer is not None:
                warning = command.buffer.bytes(0, 1)
                if warning is not None and not command.qword(48):
                    self._read_only[life] = bool(warning[0] & READ_ONLY)
            case Admin.SET_FEATURES:
                self._feature(command, command.dword(11), command.dword(12))
            case Admin.GET_FEATURES if not command.dword(10) >> 8 & 7:
                self._feature(command, command.dw0, command.dw0)
            case Admin.DIRECTIVE_SEND if command.dword(11) & 0xFFFF == ENABLE_DIRECTIVE:
                word = command.dword(12)
                self._directives[life, command.dword(1), word >> 8 & 0xFF] = bool(word & 1)

    def _forget(self, command: Command, tlp: int) -> None:
        self._changed = tlp
        for one in self._run.namespaces.all_of(command.controller.function, BROADCAST):
            one.blocks = one.protection = one.write_protected = one.copy_limits = one.formats = None
            one.reports_unwritten = one.endurance_group = None

    def _protect(self, command: Command, protected: bool | None) -> None:
        for one in self._run.namespaces.all_of(command.controller.function, command.dword(1)):
            one.write_protected = None if protected is None else (protected, command.controller)

    def _feature(self, command: Command, value: int, last: int) -> None:
        life, nsid = command.controller, command.dword(1)
        match _fid(command):
            case Feature.NAMESPACE_WRITE_PROTECTION:
                self._protect(command, bool(value & 7))
            case Feature.ERROR_RECOVERY:
                self._unwritten[life, nsid] = bool(value & UNWRITTEN_ERRORS)
                if nsid == BROADCAST:
                    for key in [one for one in self._unwritten if one[0] is life]:
                        self._unwritten[key] = bool(value & UNWRITTEN_ERRORS)
            case fid if fid == FLEXIBLE_PLACEMENT:
                self._placement[life.function.link, command.dword(11) & 0xFFFF] = bool(last & 1)

    def _identify(self, command: Command, pieces: Pieces) -> None:
        function, cns = command.controller.function, command.dword(10) & 0xFF
        if cns == Cns.CONTROLLER:
            for place, name in (
                (self._ports, "CMIC"), (self._attributes, "CTRATT"), (self._optional, "OACS"), (self._cache, "VWC"),
            ):  # fmt: skip
                value = pieces.field(IDENTIFY_CONTROLLER, name)
                if value is not None:
                    place[function.number] = value
            offered = pieces.bytes(534, 536)
            if offered is not None:
                self.copy_formats[function.number] = int.from_bytes(offered, "little")
        elif cns == Cns.IO_CONTROLLER and command.dword(11) >> 24 == CommandSet.NVM:
            limits = pieces.bytes(0, 2)
            if limits is not None:
                self._zeroes[function.number] = limits[1]
        elif cns == Cns.NAMESPACE and 0 < command.dword(1) < BROADCAST and command.fetch_tlp > self._changed:
            self._namespace(self._run.namespaces.of(function, command.dword(1)), command, pieces)
        elif cns == Cns.IO_NAMESPACE and command.dword(11) >> 24 == CommandSet.NVM:
            data = pieces.bytes(0, FORMATS.stop)
            if data is not None and command.fetch_tlp > self._changed:
                self._run.namespaces.of(function, command.dword(1)).formats = data[FORMATS]

    def _namespace(self, namespace: Namespace, command: Command, pieces: Pieces) -> None:
        data = pieces.bytes(0, 104)
        if data is None or not any(data[:8]):
            return
        namespace.blocks = int.from_bytes(data[:8], "little")
        namespace.reports_unwritten = bool(data[24] & 4)
        namespace.protection, namespace.protection_first = data[29] & 7, bool(data[29] & 8)
        limits = int.from_bytes(data[74:76], "little"), int.from_bytes(data[76:80], "little"), data[80] + 1
        namespace.copy_limits = limits if limits[1] else None
        namespace.write_protected = (bool(data[99] & 1), command.controller)
        namespace.endurance_group = int.from_bytes(data[102:104], "little")

    # -- I/O commands -------------------------------------------------------------------------------------------

    def judge(self, command: Command, entry: Entry, namespace: Namespace) -> None:
        """Note how an I/O command that was fetched stands."""
        opcode = entry.opcode
        if opcode in BLOCK_COMMANDS:
            count = (entry.cdw12 & 0xFFFF) + 1
            if namespace.blocks is not None:
                note(command, "beyond_end", command.qword(40) + count > namespace.blocks)
            if opcode in WRITERS:
                self._writes(command, entry, namespace, count)
            if entry.cdw12 & FORMAT_CHECKS and namespace.protection is not None:
                self._protection(command, entry, namespace)
        elif opcode == Nvm.FLUSH and entry.nsid == BROADCAST:
            behavior = self._cache.get(command.controller.function.number, 0) >> 1 & 3
            if behavior >= 2:
                note(command, "broadcast_supported", behavior == 3)
        elif opcode == Nvm.IO_MANAGEMENT_RECEIVE:
            placement = self._places(command.controller.function, namespace)
            if placement is not None:
                note(command, "fdp_enabled", placement)

    def _writes(self, command: Command, entry: Entry, namespace: Namespace, count: int) -> None:
        life = command.controller
        function = life.function
        protected = namespace.write_protected
        if protected is not None and protected[1] is protected[1].function.controller and self.alone(function):
            note(command, "write_protected", protected[0])
        if life in self._read_only:
            note(command, "media_read_only", self._read_only[life])
        if entry.opcode == Nvm.WRITE_ZEROES:
            most = self._most_zeroes(function)
            if most is not None and namespace.block is not None and namespace.told:
                note(command, "over_zeroes_limit", count * namespace.block.data > most)
        elif entry.opcode == Nvm.WRITE and entry.cdw12 >> 20 & 0xF:
            enabled = self._directed(command, entry.cdw12 >> 20 & 0xF)
            if enabled is not None:
                note(command, "directive_enabled", enabled)

    def _protection(self, command: Command, entry: Entry, namespace: Namespace) -> None:
        note(command, "protection_enabled", namespace.protection != 0)
        protection = self.protection(command.controller.function, namespace)
        if protection is None:
            return
        if protection.kind == TYPE_1 and entry.cdw12 & REFERENCE_CHECK and protection.whole:
            note(command, "reference_fits", command.dword(14) == entry.cdw10)

    def protection(self, function: Function, namespace: Namespace) -> Protection | None:
        """Return how a namespace is protected; None while not known."""
        attributes = self._attributes.get(function.number)
        return protection_of(namespace, None if attributes is None else bool(attributes & EXTENDED_FORMATS))

    def makes_metadata(self, command: Command, namespace: Namespace) -> bool | None:
        """Return whether the controller makes all of the metadata that a command's blocks have; None if it may."""
        if not command.dword(12) & PROTECTION_ACTION:
            return False
        protection, block = self.protection(command.controller.function, namespace), namespace.block
        return None if protection is None or block is None else protection.makes(block)

    def _most_zeroes(self, function: Function) -> int | None:
        """Return the most bytes of one Write Zeroes; None where there is no limit, or it is not known."""
        shift, high = self._zeroes.get(function.number), function.dword(Property.CAP + 4)
        if not shift or high is None or shift > MOST_SHIFT:
            return None
        return 1 << shift + 12 + CAP["MPSMIN"].of((high << 32).to_bytes(8, "little"))

    def _directed(self, command: Command, kind: int) -> bool | None:
        """Return whether a directive type is enabled for a command; None where that is not known."""
        life = command.controller
        for nsid in (command.dword(1), BROADCAST):
            if (life, nsid, kind) in self._directives:
                return self._directives[life, nsid, kind]
        optional = self._optional.get(life.function.number)
        if optional is not None and not optional & DIRECTIVES:
            return False
        return False if kind == STREAMS and life.enabled_ps is not None else None

    def _places(self, function: Function, namespace: Namespace) -> bool | None:
        attributes = self._attributes.get(function.number)
        if attributes is not None and not attributes & PLACEMENT:
            return False
        if namespace.endurance_group is None:
            return None
        return self._placement.get((function.link, namespace.endurance_group))

    def alone(self, function: Function) -> bool:
        """Whether nobody else can change what the namespaces of a function are.

        That is nobody behind another port, and no controller of which it is not known that it is one of the subsystem.
        """
        ports = self._ports.get(function.number, MULTIPLE_PORTS)
        known = self._run.namespaces.subsystem_known(function) or not ports & MULTIPLE_CONTROLLERS
        return known and not ports & MULTIPLE_PORTS

    def reports_unwritten(self, command: Command, namespace: Namespace) -> bool | None:
        """Return whether reads of unwritten blocks are to fail (DULBE); None where that is not known."""
        life = command.controller
        enabled = self._unwritten.get((life, command.dword(1)), self._unwritten.get((life, BROADCAST)))
        if enabled is None and life.enabled_ps is not None:
            return None  # a saved value may be in force
        return None if enabled is None or namespace.reports_unwritten is None else enabled


def _fid(command: Command) -> int:
    return command.dword(10) & 0xFF
