"""Admin commands as events, and those that are no live-migration commands but that rules are asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lmtrace.events.base import Event
from lmtrace.pieces import Pieces
from lmtrace.spec import admin_data
from lmtrace.spec.layout import Layout
from lmtrace.spec.nvme import IDENTIFY_CONTROLLER, OACS_HMLMS, SQE, SUBNQN, SUCCESS, Status, command_name
from lmtrace.spec.pcie import bdf_text


@dataclass(slots=True, kw_only=True)
class Command(Event):
    """An admin command: its entry, its data as far as seen, its completion. ``function`` took it.

    ``order`` and ``time`` are those of the completion; of the end of the command's life when ``status`` is None,
    that is when no completion was seen.
    """

    name: ClassVar[str] = "command"
    layout: ClassVar[Layout | None] = None
    sqe: bytes = bytes(64)
    sqid: int = 0
    fetched: int = 0
    fetch_time: int = 0
    status: Status | None = SUCCESS
    dnr: bool = False
    more: bool = False
    """M of its completion: there is more in the error log."""
    dw0: int = 0
    dw1: int = 0
    data: Pieces | None = None
    bytes_to_device: int = 0
    bytes_from_device: int = 0
    outcome: str = "completed"

    def field(self, name: str) -> int:
        """Return a field of the submission queue entry by the specification's name."""
        layout = self.layout if self.layout is not None and any(f.name == name for f in self.layout.fields) else SQE
        return layout[name].of(self.sqe)

    @property
    def opcode(self) -> int:
        """The opcode."""
        return self.sqe[0]

    @property
    def cid(self) -> int:
        """The command identifier."""
        return int.from_bytes(self.sqe[2:4], "little")

    @property
    def completed(self) -> bool:
        """Whether its completion was seen."""
        return self.status is not None

    @property
    def succeeded(self) -> bool:
        """Whether it completed with success."""
        return self.status is not None and self.status.ok

    @property
    def failed(self) -> bool:
        """Whether it completed with an error."""
        return self.status is not None and not self.status.ok

    @property
    def title(self) -> str:
        """Its name with its place, for messages."""
        name = self.layout.name if self.layout is not None else command_name(self.sqid, self.opcode)
        return f"{name} (SQ {self.sqid} of {bdf_text(self.function)}, CID {self.cid})"


@dataclass(slots=True, kw_only=True)
class Identify(Command):
    """Identify of any CNS (5.1.13)."""

    name: ClassVar[str] = "identify"
    layout: ClassVar[Layout | None] = admin_data.IDENTIFY

    @property
    def cns(self) -> int:
        """Which structure."""
        return self.sqe[40]


@dataclass(slots=True, kw_only=True)
class IdentifyController(Identify):
    """Identify Controller, CNS 01h (5.1.13.2.1)."""

    name: ClassVar[str] = "identify_controller"

    def value(self, name: str) -> int | None:
        """Return a field of the data, or None while not seen."""
        return None if self.data is None else self.data.field(IDENTIFY_CONTROLLER, name)

    @property
    def hmlms(self) -> bool | None:
        """OACS bit 11: Host Managed Live Migration Support."""
        oacs = self.value("OACS")
        return None if oacs is None else bool(oacs & OACS_HMLMS)

    @property
    def subnqn(self) -> bytes | None:
        """The NVM subsystem's qualified name, without padding."""
        raw = None if self.data is None else self.data.bytes(SUBNQN.start, SUBNQN.stop)
        return None if raw is None else raw.rstrip(b"\0 ")


@dataclass(slots=True, kw_only=True)
class IdentifyStateFormats(Identify):
    """Identify Supported Controller State Formats, CNS 20h (5.1.13.2.21)."""

    name: ClassVar[str] = "identify_state_formats"

    @property
    def versions(self) -> int | None:
        """NV, the entries of the version list."""
        raw = None if self.data is None else self.data.bytes(0, 1)
        return None if raw is None else raw[0]

    @property
    def uuids(self) -> int | None:
        """NUUID, the entries of the UUID list."""
        raw = None if self.data is None else self.data.bytes(1, 2)
        return None if raw is None else raw[0]


@dataclass(slots=True, kw_only=True)
class GetLogPage(Command):
    """Get Log Page (5.1.12)."""

    name: ClassVar[str] = "get_log_page"
    layout: ClassVar[Layout | None] = admin_data.GET_LOG_PAGE

    @property
    def lid(self) -> int:
        """Which log page."""
        return self.sqe[40]

    @property
    def offset(self) -> int:
        """LPOU and LPOL: the byte of the log page that comes first; with OT an index instead."""
        return int.from_bytes(self.sqe[48:56], "little")

    @property
    def length(self) -> int:
        """NUMDU and NUMDL: bytes asked for."""
        return 4 * ((self.field("NUMDU") << 16 | self.field("NUMDL")) + 1)

    def value(self, layout: Layout, name: str, at: int = 0) -> int | None:
        """Return a field of a structure at byte ``at`` of the log page, None while not seen."""
        one = layout[name]
        first, last = one.lo // 8, (one.lo + one.width + 7) // 8
        raw = self.part(at + first, at + last)
        return None if raw is None else one.of(bytes(first) + raw)

    def part(self, start: int, end: int) -> bytes | None:
        """Return bytes of the log page, None unless all of them were seen."""
        if self.data is None or self.field("OT") or start < self.offset:
            return None
        return self.data.bytes(start - self.offset, end - self.offset)


@dataclass(slots=True, kw_only=True)
class FeatureCommand(Command):
    """Set Features or Get Features, of any feature but those of live migration."""

    name: ClassVar[str] = "feature_command"

    @property
    def fid(self) -> int:
        """Which feature."""
        return self.sqe[40]

    @property
    def title(self) -> str:
        """Its name with its feature and place, for messages."""
        name = command_name(self.sqid, self.opcode)
        return f"{name} of feature {self.fid:02X}h ({bdf_text(self.function)}, CID {self.cid})"


@dataclass(slots=True, kw_only=True)
class SetFeatures(FeatureCommand):
    """Set Features (5.1.25)."""

    name: ClassVar[str] = "set_features"
    layout: ClassVar[Layout | None] = admin_data.SET_FEATURES

    @property
    def saves(self) -> bool:
        """SV: whether the value is to outlive power cycles and resets."""
        return bool(self.sqe[43] & 0x80)


@dataclass(slots=True, kw_only=True)
class GetFeatures(FeatureCommand):
    """Get Features (5.1.11)."""

    name: ClassVar[str] = "get_features"
    layout: ClassVar[Layout | None] = admin_data.GET_FEATURES

    @property
    def select(self) -> int:
        """SEL: 0 current, 1 default, 2 saved value, 3 supported capabilities."""
        return self.sqe[41] & 7


@dataclass(slots=True, kw_only=True)
class Sanitize(Command):
    """Sanitize (5.1.22)."""

    name: ClassVar[str] = "sanitize"

    @property
    def starts(self) -> bool:
        """Whether SANACT asks for a sanitize operation: block erase, overwrite or crypto erase."""
        return self.sqe[40] & 7 in (2, 3, 4)


@dataclass(slots=True, kw_only=True)
class VirtualizationManagement(Command):
    """Virtualization Management (8.2.6): it sets secondary controllers online and offline."""

    name: ClassVar[str] = "virtualization_management"

    @property
    def action(self) -> int:
        """ACT: 7 sets a secondary controller offline, 8 assigns it resources, 9 sets it online."""
        return self.sqe[40] & 0xF

    @property
    def target(self) -> int:
        """CNTLID of the controller it is about."""
        return int.from_bytes(self.sqe[42:44], "little")
