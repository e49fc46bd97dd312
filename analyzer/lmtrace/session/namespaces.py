"""What Identify data tell about namespaces: which a controller has attached, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.events import Command, Identify
from lmtrace.known import Known
from lmtrace.spec.admin_data import DESCRIPTOR_EUI64, DESCRIPTOR_NGUID, DESCRIPTOR_UUID, IDENTIFY_NAMESPACE
from lmtrace.spec.nvme import Admin, Cns

LIST_ENTRIES = 1024
BROADCAST = 0xFFFFFFFF
CHANGING = frozenset((Admin.NAMESPACE_MANAGEMENT, Admin.NAMESPACE_ATTACHMENT, Admin.FORMAT_NVM))
"""Commands after which what was read before says nothing any more."""


@dataclass(slots=True)
class Namespaces:
    """Namespaces by the function that told of them. What is not known is left open."""

    lists: dict[int, frozenset[int]] = field(default_factory=dict)
    """The attached namespaces of a function, where it was seen to list them all."""
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    """NSZE in blocks by function and NSID; 0 for a namespace that is not attached."""

    identifiers: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    """EUI64, NGUID and UUID by function, NSID and type of the descriptor."""
    owners: dict[tuple[int, int, bytes], int] = field(default_factory=dict)
    """The namespace that had such an identifier first, by function and type."""

    def begin(self, command: Command) -> None:
        """A command was fetched that may change namespaces."""
        if command.sqid == 0 and command.opcode in CHANGING and not command.failed:
            self.lists.clear()
            self.sizes.clear()
            self.identifiers.clear()
            self.owners.clear()

    def note(self, command: Command) -> None:
        """A command completed."""
        self.begin(command)
        if not isinstance(command, Identify) or not command.succeeded or command.data is None:
            return
        nsid = command.field("NSID")
        for kind, value in identifiers_of(command).items():
            self.identifiers[command.function, nsid, kind] = value
            self.owners.setdefault((command.function, kind, value), nsid)
        if command.cns == Cns.ACTIVE_NAMESPACES and nsid == 0:
            found = _listed(command)
            if found is not None:
                self.lists[command.function] = found
        elif command.cns == Cns.NAMESPACE and 0 < nsid < BROADCAST:
            raw = command.data.bytes(0, 8)
            if raw is not None:
                self.sizes[command.function, nsid] = int.from_bytes(raw, "little")

    def owner(self, function: int, nsid: int, kind: int, value: bytes) -> int | None:
        """Return another namespace that has an identifier, None if none has."""
        first = self.owners.get((function, kind, value))
        same = first is not None and first != nsid and self.identifiers.get((function, first, kind)) == value
        return first if same else None

    def attached(self, function: int | None, nsid: int) -> Known:
        """Whether a namespace is attached to the controller of a function."""
        if function is None:
            return Known.UNKNOWN
        size, listed = self.sizes.get((function, nsid)), self.lists.get(function)
        if size or (listed is not None and nsid in listed):
            return Known.YES
        return Known.UNKNOWN if size is None and listed is None else Known.NO

    def size(self, nsid: int, *functions: int | None) -> int | None:
        """Return the blocks of a namespace by what one of the functions told, the largest of them."""
        found = [self.sizes.get((function, nsid), 0) for function in functions if function is not None]
        return max(found, default=0) or None


def identifiers_of(command: Identify) -> dict[int, bytes]:
    """Return the identifiers of a namespace that Identify data hold, by type of their descriptor; none that is 0."""
    data, found = command.data, dict[int, bytes]()
    if data is None or not command.succeeded or not 0 < command.field("NSID") < BROADCAST:
        return found
    if command.cns == Cns.NAMESPACE:
        for kind, name in ((DESCRIPTOR_NGUID, "NGUID"), (DESCRIPTOR_EUI64, "EUI64")):
            value = data.field(IDENTIFY_NAMESPACE, name)
            if value:
                found[kind] = value.to_bytes(16 if kind == DESCRIPTOR_NGUID else 8, "little")
    elif command.cns == Cns.NAMESPACE_DESCRIPTORS:
        at = 0
        while (head := data.bytes(at, at + 2)) is not None and head[1]:
            value_there = data.bytes(at + 4, at + 4 + head[1])
            if value_there is None:
                break
            if head[0] in (DESCRIPTOR_EUI64, DESCRIPTOR_NGUID, DESCRIPTOR_UUID) and any(value_there):
                found[head[0]] = value_there
            at += 4 + head[1]
    return found


def _listed(command: Command) -> frozenset[int] | None:
    """Return the entries of a namespace list up to its end; None where that was not seen, or lies further on."""
    assert command.data is not None
    found: set[int] = set()
    for at in range(0, 4 * LIST_ENTRIES, 4):
        raw = command.data.bytes(at, at + 4)
        if raw is None:
            return None
        nsid = int.from_bytes(raw, "little")
        if nsid == 0:
            return frozenset(found)
        found.add(nsid)
    return None
