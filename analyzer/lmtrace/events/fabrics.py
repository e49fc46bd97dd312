"""The Fabrics commands as events (NVMe Base 2.1, 6). They come on admin and I/O queues alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lmtrace.events.command import Command
from lmtrace.spec import fabrics
from lmtrace.spec.layout import Layout


@dataclass(slots=True, kw_only=True)
class FabricsCommand(Command):
    """A Fabrics command of any type."""

    name: ClassVar[str] = "fabrics_command"

    @property
    def fctype(self) -> int:
        """Its type."""
        return self.sqe[4]

    @property
    def title(self) -> str:
        """Its name with its place, for messages."""
        return f"{fabrics.fabrics_name(self.fctype)} (queue {self.sqid} of {self.place}, CID {self.cid})"


@dataclass(slots=True, kw_only=True)
class Connect(FabricsCommand):
    """Connect (6.3). Its data are those of `lmtrace.spec.fabrics.CONNECT_DATA`."""

    name: ClassVar[str] = "connect"
    layout: ClassVar[Layout | None] = fabrics.CONNECT

    @property
    def qid(self) -> int:
        """The queue that it connects."""
        return self.field("QID")

    @property
    def result(self) -> int:
        """CNTLID that a controller answered."""
        return fabrics.CONNECT_RESULT["CNTLID"].of(self.dw0.to_bytes(4, "little"))

    @property
    def authentication_asked(self) -> bool:
        """Whether the controller wants authentication before anything else."""
        raw = self.dw0.to_bytes(4, "little")
        return bool(fabrics.CONNECT_RESULT["ATR"].of(raw) or fabrics.CONNECT_RESULT["ASCR"].of(raw))

    @property
    def whole(self) -> bytes | None:
        """Its data, None unless all of them were seen."""
        return None if self.data is None else self.data.bytes(0, fabrics.CONNECT_DATA_SIZE)

    @property
    def wanted(self) -> int | None:
        """CNTLID that the host asks for."""
        return None if self.whole is None else fabrics.CONNECT_DATA["CNTLID"].of(self.whole)

    @property
    def host(self) -> tuple[bytes, bytes] | None:
        """HOSTID and HOSTNQN."""
        raw = self.whole
        return None if raw is None else (raw[:16], raw[512:768].split(b"\0")[0])


@dataclass(slots=True, kw_only=True)
class PropertySet(FabricsCommand):
    """Property Set (6.6)."""

    name: ClassVar[str] = "property_set"
    layout: ClassVar[Layout | None] = fabrics.PROPERTY_SET


@dataclass(slots=True, kw_only=True)
class PropertyGet(FabricsCommand):
    """Property Get (6.5)."""

    name: ClassVar[str] = "property_get"
    layout: ClassVar[Layout | None] = fabrics.PROPERTY_GET


@dataclass(slots=True, kw_only=True)
class Disconnect(FabricsCommand):
    """Disconnect (6.4)."""

    name: ClassVar[str] = "disconnect"
    layout: ClassVar[Layout | None] = fabrics.DISCONNECT


@dataclass(slots=True, kw_only=True)
class Authentication(FabricsCommand):
    """Authentication Send or Receive; what it carries is opaque."""

    name: ClassVar[str] = "authentication"
