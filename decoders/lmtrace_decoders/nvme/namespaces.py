"""Namespaces as the commands on a link name them: their format, their command set, and which of them are one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmtrace_decoders.nvme.transfer import BlockFormat
from lmtrace_decoders.nvme.zone_model import ZonedFacts

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Controller, Function

BROADCAST = 0xFFFFFFFF
Group = tuple[int, int | bytes]
"""Controllers that share namespaces: link, and SUBNQN, or the physical function while that is not seen."""


@dataclass(slots=True, eq=False)
class Namespace:
    """One namespace. ``csi`` is -1 while its command set is not known."""

    number: int
    nsid: int
    block: BlockFormat | None = None
    csi: int = -1
    told: bool = False
    """Identify told its format, rather than how much its commands moved."""
    longest_key: int | None = None
    longest_value: int | None = None
    """KVKML and KVVML of the format of a Key Value namespace; None while not known, and where there is no limit."""
    blocks: int | None = None
    """NSZE, and what follows of Identify Namespace; None while not known, and after what may have changed it."""
    protection: int | None = None
    """DPS bits 2:0: the type of protection information, 0 for none."""
    protection_first: bool = False
    """DPS bit 3: protection information lies before the other metadata."""
    formats: bytes | None = None
    """Its extended LBA formats, as Identify of the NVM Command Set told them."""
    write_protected: tuple[bool, Controller] | None = None
    """Whether it is, and the life of a controller that told."""
    reports_unwritten: bool | None = None
    """NSFEAT bit 2: reads of deallocated or unwritten blocks can be made to fail."""
    copy_limits: tuple[int, int, int] | None = None
    """MSSRL, MCL, and MSRC as a count."""
    endurance_group: int | None = None
    shared: bool | None = None
    """NMIC: it may be attached to several controllers."""
    zoned: ZonedFacts = field(default_factory=ZonedFacts)
    """What is told of its zones."""
    moved: tuple[int, int] = (0, 0)
    """Bytes of a block by the last command, and how many commands in a row had that."""


class Namespaces:
    """Every namespace of one capture; a function's are those of its subsystem."""

    def __init__(self) -> None:
        self._groups: dict[int, Group] = {}
        self._namespaces: dict[tuple[Group, int], Namespace] = {}
        self._identities: dict[bytes, Namespace] = {}
        self._count = 0
        self._apart: dict[int, bool] = {}
        """Whether it is known which functions share namespaces, by link, until a function tells more."""

    def __len__(self) -> int:
        """Return how many numbers namespaces have."""
        return self._count

    def of(self, function: Function, nsid: int) -> Namespace:
        """Return a namespace by the controller that a command went to."""
        key = (self._group(function), nsid)
        found = self._namespaces.get(key)
        if found is None:
            found = self._namespaces[key] = Namespace(self._count, nsid)
            self._count += 1
        return found

    def all_of(self, function: Function, nsid: int) -> list[Namespace]:
        """Return the namespaces that an NSID names, all of the subsystem for 0 and FFFFFFFFh."""
        group = self._group(function)
        return [
            one for (key, number), one in self._namespaces.items() if key == group and nsid in (number, 0, BROADCAST)
        ]

    def subsystem_known(self, function: Function) -> bool:
        """Whether a controller told its subsystem."""
        return isinstance(self._group(function)[1], bytes)

    def told_apart(self, link: int) -> bool:
        """Whether it is known which functions of a link share namespaces: one alone, or all told their subsystem."""
        known = self._apart.get(link)
        if known is None:
            groups = {one for one in self._groups.values() if one[0] == link}
            known = self._apart[link] = len(groups) < 2 or all(isinstance(name, bytes) for _, name in groups)
        return known

    def subsystem_told(self, function: Function, subnqn: bytes) -> None:
        """A controller told its subsystem: it shares the namespaces of those of the same one on its link."""
        before, after = self._group(function), (function.link, subnqn.rstrip(b"\0 "))
        if not after[1] or before == after:
            return
        self._apart.clear()
        for number, group in list(self._groups.items()):
            if group == before:
                self._groups[number] = after
        for (group, nsid), namespace in list(self._namespaces.items()):
            if group == before:
                del self._namespaces[group, nsid]
                self._namespaces.setdefault((after, nsid), namespace)

    def identified(self, function: Function, nsid: int, identity: bytes) -> None:
        """A namespace told its NGUID or EUI64: the same one in the same subsystem may be reached on another link."""
        group = self._group(function)
        if not any(identity) or nsid in (0, BROADCAST) or not isinstance(group[1], bytes):
            return
        self._namespaces[group, nsid] = self._identities.setdefault(group[1] + identity, self.of(function, nsid))

    def _group(self, function: Function) -> Group:
        found = self._groups.get(function.number)
        if found is None:
            self._apart.clear()
            primary = function.facts.primary
            found = self._groups[function.number] = (function.link, function.bdf if primary is None else primary)
        return found
