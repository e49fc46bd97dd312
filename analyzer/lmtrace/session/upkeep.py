"""What the commands that manage namespaces, firmware and security left behind, as far as the capture shows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.events import Command, Identify, IdentifyController, PropertyAccess, Reset, SetFeatures
from lmtrace.pieces import Pieces
from lmtrace.spec.admin_data import IDENTIFY_NAMESPACE, NAMESPACES_LISTED
from lmtrace.spec.nvme import Admin, Cns, Feature

BROADCAST = 0xFFFFFFFF
CREATE, DELETE = 0, 1
"""SEL of Namespace Management."""
ATTACH, DETACH = 0, 1
"""SEL of Namespace Attachment."""
CHANGING = frozenset((Admin.NAMESPACE_MANAGEMENT, Admin.NAMESPACE_ATTACHMENT))
IDENTIFY_DIRECTIVE, RETURN_PARAMETERS = 0, 1
"""DTYPE and DOPER of the Directive Receive that tells which directives there are."""
SHARED = 1
"""Bit of NMIC."""
MOST_DOWNLOADS = 1 << 12
STARTS = (1, 2)
"""STC of Device Self-test: short and extended."""


def nsid_of(command: Command) -> int:
    """Return the NSID of an entry."""
    return int.from_bytes(command.sqe[4:8], "little")


def bits_of(command: Command, dword: int, high: int, low: int) -> int:
    """Return the bits ``high:low`` of a command dword."""
    return int.from_bytes(command.sqe[4 * dword : 4 * dword + 4], "little") >> low & ((1 << high - low + 1) - 1)


def controllers_listed(command: Command) -> list[int] | None:
    """Return the CNTLIDs of the list that Namespace Attachment sends; None where it was not seen or is too long."""
    raw = None if command.data is None else command.data.bytes(0, 2)
    if command.data is None or raw is None:
        return None
    count = int.from_bytes(raw, "little")
    listed = command.data.bytes(2, 2 + 2 * count) if count < 2048 else None
    return None if listed is None else [int.from_bytes(listed[at : at + 2], "little") for at in range(0, 2 * count, 2)]


def format_index(command: Command) -> int:
    """Return LBAFU and LBAFL of Format NVM: the LBA format that it asks for."""
    return bits_of(command, 10, 13, 12) << 4 | bits_of(command, 10, 3, 0)


@dataclass(slots=True)
class OfFunction:
    """What the commands to one controller told or did."""

    allocated: set[int] = field(default_factory=set)
    """NSIDs known to be taken."""
    created: set[int] = field(default_factory=set)
    """NSIDs that it created."""
    formats: dict[int, Command] = field(default_factory=dict)
    """The latest Format NVM of a namespace, or of all."""
    format_count: int | None = None
    """LBA formats that there are."""
    downloads: list[tuple[int, int]] = field(default_factory=list)
    """(first byte, one past the last) of the pieces of firmware received since it was last committed."""
    self_test: Command | None = None
    """The latest Device Self-test that began an operation."""
    behind: tuple[int, Command] | None = None
    """(fetch of the latest Device Self-test, the one before it that had begun an operation)."""
    prohibited: dict[tuple[int, int], Command] = field(default_factory=dict)
    """Lockdowns in force, by scope and opcode or feature."""
    directives: Pieces | None = None
    """The parameters that it returned of its directives."""
    memory_region: bool | None = None
    """Whether the Persistent Memory Region is enabled."""
    boot_partitions: SetFeatures | None = None
    """The latest Boot Partition Write Protection Configuration."""


@dataclass(slots=True)
class Upkeep:
    """The upkeep of one link: attachments by CNTLID, the rest by function."""

    functions: dict[int, OfFunction] = field(default_factory=dict)
    cntlids: dict[int, int] = field(default_factory=dict)
    """CNTLID by function."""
    attached: dict[tuple[int, int], bool] = field(default_factory=dict)
    """Whether a namespace is attached to a controller, by CNTLID and NSID, where that is known."""
    detached: dict[tuple[int, int], Command] = field(default_factory=dict)
    """The Namespace Attachment that took a namespace away, by CNTLID and NSID."""
    private: dict[int, bool] = field(default_factory=dict)
    """Whether a namespace is for one controller only, by NSID."""
    before: dict[int, dict[int, bool]] = field(default_factory=dict)
    """What was attached by CNTLID when a Namespace Attachment was fetched, by its order."""
    changing: set[int] = field(default_factory=set)

    def of(self, function: int) -> OfFunction:
        """Return what is known of a function."""
        return self.functions.setdefault(function, OfFunction())

    def begin(self, command: Command) -> None:
        """A command was fetched; what it may change is not known until it completes."""
        if command.sqid:
            return
        nsid = nsid_of(command)
        if command.opcode in CHANGING:
            if self.changing:
                self.before = {order: {} for order in self.before}
            listed = controllers_listed(command) or [] if command.opcode == Admin.NAMESPACE_ATTACHMENT else []
            alone = not self.changing
            known = {one: self.attached[one, nsid] for one in listed if (one, nsid) in self.attached}
            self.before[command.fetched] = known if alone else {}
            self.changing.add(command.fetched)
            if command.opcode == Admin.NAMESPACE_MANAGEMENT and not command.failed:
                self._deleting(command, nsid)
            elif bits_of(command, 10, 3, 0) == ATTACH and not command.failed:
                self.detached = {key: one for key, one in self.detached.items() if key[1] != nsid}
        elif command.opcode == Admin.FORMAT_NVM and not command.failed:
            for one in self.functions.values():
                one.formats.clear()
        elif command.opcode == Admin.LOCKDOWN:
            key = bits_of(command, 10, 3, 0), bits_of(command, 10, 15, 8)
            self.of(command.function).prohibited.pop(key, None)
        elif command.opcode == Admin.FIRMWARE_COMMIT and not command.failed:
            for one in self.functions.values():
                one.downloads.clear()
        elif isinstance(command, SetFeatures) and command.fid == Feature.BOOT_PARTITION_PROTECTION:
            self.of(command.function).boot_partitions = None
        elif command.opcode == Admin.DEVICE_SELF_TEST:
            self._self_test(command, self.of(command.function))

    def _self_test(self, command: Command, mine: OfFunction) -> None:
        """A command is about to begin a self-test, or to end one; one that fails does neither."""
        mine.behind = None if mine.self_test is None else (command.fetched, mine.self_test)
        if not command.failed:
            mine.self_test = None

    def _deleting(self, command: Command, nsid: int) -> None:
        """Forget the namespaces that a command deletes, and that one which it may create anew."""
        for one in self.functions.values():
            one.formats.clear()
            if bits_of(command, 10, 3, 0) == CREATE:
                continue
            gone = set(one.allocated) if nsid == BROADCAST else {nsid}
            one.allocated -= gone
            one.created -= gone
        self.attached = {key: known for key, known in self.attached.items() if nsid not in (key[1], BROADCAST)}
        self.detached.clear()
        self.private.clear()

    def completed(self, command: Command) -> None:
        """A command completed, or its life ended; the rules were asked about it."""
        if command.sqid:
            return
        mine, nsid = self.of(command.function), nsid_of(command)
        self.before.pop(command.fetched, None)
        self.changing.discard(command.fetched)
        if command.opcode == Admin.NAMESPACE_ATTACHMENT:
            self._attachment(command, nsid)
        if not command.succeeded:
            return
        match command.opcode:
            case Admin.IDENTIFY:
                self._identified(command, mine, nsid)
            case Admin.NAMESPACE_MANAGEMENT if bits_of(command, 10, 3, 0) == CREATE:
                mine.allocated.add(command.dw0)
                mine.created.add(command.dw0)
                shared = None if command.data is None else command.data.bytes(30, 31)
                if shared is not None:
                    self.private[command.dw0] = not shared[0] & SHARED
            case Admin.FORMAT_NVM:
                mine.formats[nsid] = command
            case Admin.FIRMWARE_IMAGE_DOWNLOAD:
                self._downloaded(command, mine)
            case Admin.DEVICE_SELF_TEST:
                mine.self_test = command if bits_of(command, 10, 3, 0) in STARTS else None
            case Admin.LOCKDOWN if bits_of(command, 10, 4, 4) and bits_of(command, 10, 6, 5) in (0, 1):
                mine.prohibited[bits_of(command, 10, 3, 0), bits_of(command, 10, 15, 8)] = command
            case Admin.DIRECTIVE_RECEIVE if directive(command) == (IDENTIFY_DIRECTIVE, RETURN_PARAMETERS):
                mine.directives = command.data
            case Admin.SET_FEATURES if isinstance(command, SetFeatures):
                if command.fid == Feature.BOOT_PARTITION_PROTECTION:
                    mine.boot_partitions = command

    def _attachment(self, command: Command, nsid: int) -> None:
        listed = controllers_listed(command)
        if listed is None or nsid == BROADCAST or self.changing:
            self.attached = {key: known for key, known in self.attached.items() if key[1] != nsid}
            return
        attaches = bits_of(command, 10, 3, 0) == ATTACH
        for cntlid in listed:
            if command.succeeded:
                self.attached[cntlid, nsid] = attaches
                if not attaches:
                    self.detached[cntlid, nsid] = command
            else:
                self.attached.pop((cntlid, nsid), None)

    def _identified(self, command: Command, mine: OfFunction, nsid: int) -> None:
        assert isinstance(command, Identify)
        if isinstance(command, IdentifyController):
            cntlid = command.value("CNTLID")
            if cntlid is not None:
                self.cntlids[command.function] = cntlid
        elif command.cns in (Cns.ACTIVE_NAMESPACES, Cns.ALLOCATED_NAMESPACES) and not self.changing:
            found = namespaces_listed(command)
            mine.allocated.update(found)
            owner = self.cntlids.get(command.function)
            if command.cns == Cns.ACTIVE_NAMESPACES and owner is not None:
                self.attached.update({(owner, one): True for one in found})
        elif command.cns == Cns.NAMESPACE and command.data is not None:
            formats = [command.data.field(IDENTIFY_NAMESPACE, name) for name in ("NLBAF", "NULBAF")]
            size = command.data.field(IDENTIFY_NAMESPACE, "NSZE")
            if size and formats[0] is not None and formats[1] is not None:
                mine.format_count = formats[0] + formats[1] + 1
            shared = command.data.field(IDENTIFY_NAMESPACE, "NMIC")
            if size and shared is not None:
                self.private[nsid] = not shared & SHARED

    def _downloaded(self, command: Command, mine: OfFunction) -> None:
        first, end = download_range(command)
        if first == 0:
            mine.downloads.clear()
        if len(mine.downloads) < MOST_DOWNLOADS:
            mine.downloads.append((first, end))

    def property_accessed(self, event: PropertyAccess) -> None:
        """The host accessed a property."""
        if event.property == "PMRCTL" and event.write and event.value is not None:
            self.of(event.function).memory_region = bool(event.value & 1)

    def reset(self, event: Reset) -> None:
        """A Controller Level Reset; which of these outlive another one than by CC.EN is not told."""
        for function, one in self.functions.items():
            if event.how == "NSSR" or function == event.function:
                one.downloads.clear()
                one.self_test = one.boot_partitions = one.directives = None
                one.formats.clear()
                if event.how != "CC.EN cleared" or event.inferred:
                    one.memory_region = None
                    one.prohibited.clear()


def directive(command: Command) -> tuple[int, int]:
    """Return DTYPE and DOPER of a Directive Send or Receive."""
    return bits_of(command, 11, 15, 8), bits_of(command, 11, 7, 0)


def download_range(command: Command) -> tuple[int, int]:
    """Return (first byte, one past the last) of a Firmware Image Download."""
    first = 4 * bits_of(command, 11, 31, 0)
    return first, first + 4 * (bits_of(command, 10, 31, 0) + 1)


def namespaces_listed(command: Command) -> list[int]:
    """Return the NSIDs of a namespace list, as far as they were seen in a row."""
    found: list[int] = []
    for at in range(0, 4 * NAMESPACES_LISTED, 4):
        raw = None if command.data is None else command.data.bytes(at, at + 4)
        if raw is None or not any(raw):
            break
        found.append(int.from_bytes(raw, "little"))
    return found
