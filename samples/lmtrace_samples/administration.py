"""What a controller that can be administered tells of itself: Identify, with its features and log pages (5.1.13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.admin_data import (
    BROADCAST,
    DESCRIPTOR_CSI,
    DESCRIPTOR_NGUID,
    IDENTIFY_NAMESPACE,
    LAST_NAMESPACE,
)
from lmtrace.spec.migration import HMLM_OPCODES
from lmtrace.spec.nvme import IDENTIFY_CONTROLLER, INVALID_FIELD, INVALID_NAMESPACE, Admin, Cns, Status
from lmtrace_samples.features import EVENTS, NEEDED_PAGES, WANTED_PAGES, WRITE_CACHE, Features
from lmtrace_samples.log_pages import ERRORS, LogPages
from lmtrace_samples.queues import Refused
from lmtrace_samples.simulation import Steps
from lmtrace_samples.tlp import PAGE

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command, Result

FIELDS = {
    "OAES": EVENTS, "LPA": 0b110, "ELPE": ERRORS - 1, "NPSS": 1, "HMPRE": WANTED_PAGES, "HMMIN": NEEDED_PAGES,
    "VWC": WRITE_CACHE, "ONCS": 0b1_1001_1111, "OACS": 1 << 7 | 1 << 9, "TRATTR": 0, "MCUDMQ": 0, "MNSUDMQ": 0,
    "MCMR": 0, "NMCMR": 0, "MCDQPC": 0,
}  # fmt: skip
"""Fields of Identify Controller that are others than those of a controller that migrates."""
ABSENT = 3
"""An NSID that no namespace has."""
COMMAND_SETS = 1 << 0
"""The combination of I/O command sets: the NVM Command Set alone."""


class Administration:
    """Identify, features and log pages of one controller, which takes part in no migration."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.forgotten: set[str] = set()
        self.features = Features(controller)
        self.logs = LogPages(controller)
        self.fields = dict(FIELDS)
        self.told = 0
        """How often Identify Controller was answered."""

    def offer(self) -> None:
        """Let the controller be administered: from now on it tells all this."""
        admin = self.controller.admin
        for opcode in [one for one in admin if one in HMLM_OPCODES]:
            del admin[opcode]
        admin |= {
            Admin.IDENTIFY: self.identify, Admin.GET_LOG_PAGE: self.logs.get, Admin.SET_FEATURES: self.features.set,
            Admin.GET_FEATURES: self.features.get,
        }  # fmt: skip
        self.controller.failed = self.logs.ended

    def forget(self, reason: str) -> None:
        """Let the controller forget a reason to refuse."""
        for one in (self.forgotten, self.features.forgotten, self.logs.forgotten):
            one.add(reason)

    def check(self, reason: str, broken: bool, status: Status = INVALID_FIELD) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def identify(self, command: Command) -> Steps[Result]:
        """Do what Identify asks for."""
        cns = command.bits(10, 7, 0)
        self.check("list-behind", command.nsid > LAST_NAMESPACE and cns in _LISTS, INVALID_NAMESPACE)
        data = self.structure(cns, command)
        yield from self.controller.to_host(command, data.ljust(PAGE, b"\0"))
        return None

    def structure(self, cns: int, command: Command) -> bytes:
        """Hook: the structure of a CNS value; raises Refused for one that does not exist here."""
        controller, subsystem, nsid = self.controller, self.controller.subsystem, command.nsid
        match cns:
            case Cns.NAMESPACE:
                self.check("namespace-invalid", not self._may_exist(nsid), INVALID_NAMESPACE)
                return self.namespace(nsid, nsid in controller.namespaces)
            case Cns.ALLOCATED_NAMESPACE:
                self.check("namespace-invalid", not self._may_exist(nsid), INVALID_NAMESPACE)
                return self.namespace(nsid, nsid in subsystem.namespaces)
            case Cns.CONTROLLER:
                self.told += 1
                return self.describe(controller.identify_data(cns, command), self.told)
            case Cns.ACTIVE_NAMESPACES | Cns.IO_ACTIVE_NAMESPACES if not command.bits(11, 31, 24):
                return _list(4, [one for one in sorted(controller.namespaces) if one > nsid])
            case Cns.ALLOCATED_NAMESPACES | Cns.IO_ALLOCATED_NAMESPACES if not command.bits(11, 31, 24):
                return _list(4, [one for one in sorted(subsystem.namespaces) if one > nsid])
            case Cns.NAMESPACE_DESCRIPTORS if nsid in controller.namespaces:
                nguid = controller.namespaces[nsid].identify()[104:120]
                return bytes([DESCRIPTOR_NGUID, 16, 0, 0]) + nguid + bytes([DESCRIPTOR_CSI, 1, 0, 0, 0])
            case Cns.IO_NAMESPACE | Cns.INDEPENDENT_NAMESPACE if nsid in controller.namespaces:
                return bytes(PAGE)
            case Cns.ATTACHED_CONTROLLERS:
                ids = [one.cntlid for one in subsystem.controllers.values() if nsid in one.namespaces]
                return self.controllers(ids, command)
            case Cns.CONTROLLER_LIST:
                return self.controllers(list(subsystem.controllers), command)
            case Cns.PRIMARY_CONTROLLER:
                return controller.cntlid.to_bytes(2, "little") + bytes(2) + bytes([3])
            case Cns.IO_COMMAND_SETS:
                return COMMAND_SETS.to_bytes(8, "little")
            case Cns.SECONDARY_CONTROLLERS | Cns.IO_CONTROLLER:
                return controller.identify_data(cns, command)
        self.check("structure-unknown", True)
        return bytes(PAGE)

    def _may_exist(self, nsid: int) -> bool:
        return 0 < nsid <= self.controller.identify_fields()["NN"] or nsid == BROADCAST

    def controllers(self, ids: list[int], command: Command) -> bytes:
        """Hook: a Controller List from the CNTLID on that was asked for."""
        found = sorted(one for one in ids if one >= command.bits(10, 31, 16))
        return _list(2, [len(found), *found])

    def namespace(self, nsid: int, there: bool) -> bytes:
        """Hook: Identify Namespace data, zeroes for a namespace that is not there."""
        namespace = self.controller.subsystem.namespaces.get(nsid)
        if namespace is None or not there:
            return bytes(PAGE)
        return put(namespace.identify(), IDENTIFY_NAMESPACE["NUSE"].lo // 8, namespace.blocks // 2, 8)

    def describe(self, data: bytes, count: int) -> bytes:
        """Hook: Identify Controller data, the ``count``-th time that they are told."""
        for name, value in self.fields.items():
            field = IDENTIFY_CONTROLLER[name]
            data = put(data, field.lo // 8, value, field.width // 8)
        return data


_LISTS = (Cns.ACTIVE_NAMESPACES, Cns.ALLOCATED_NAMESPACES)


def put(data: bytes, place: int, value: int, size: int) -> bytes:
    """Return data with a number of ``size`` bytes put into it."""
    return data[:place] + value.to_bytes(size, "little") + data[place + size :]


def _list(size: int, numbers: list[int]) -> bytes:
    return b"".join(one.to_bytes(size, "little") for one in numbers)
