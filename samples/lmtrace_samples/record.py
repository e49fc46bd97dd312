"""What the model did, for whoever wants to compare: every command, every refusal, every step of a migration."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.spec.nvme import Status


@dataclass(slots=True)
class Done:
    """One command as its controller treated it. Times are picoseconds; what did not happen is None."""

    link: str
    function: int
    cntlid: int
    sqid: int
    slot: int
    sqe: bytes
    fetch_ps: int
    cqid: int = 0
    cqe_ps: int | None = None
    status: Status | None = None
    dw0: int = 0
    dw1: int = 0
    sqhd: int = 0
    phase: int = 0
    bytes_to_device: int = 0
    bytes_from_device: int = 0

    @property
    def opcode(self) -> int:
        """The command's opcode."""
        return self.sqe[0]

    @property
    def cid(self) -> int:
        """The command's identifier."""
        return int.from_bytes(self.sqe[2:4], "little")


@dataclass(slots=True)
class Step:
    """Something the scenario wants to be found: what, when, and about which controller."""

    time_ps: int
    name: str
    link: str
    cntlid: int


@dataclass(slots=True)
class Record:
    """Everything that happened. Without ``keep`` only the counters are filled, so that memory stays bounded."""

    keep: bool = False
    commands: list[Done] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    entries: list[tuple[int, str, int, int, bytes]] = field(default_factory=list)
    changes: list[tuple[int, int, int]] = field(default_factory=list)
    """CNTLID, address and bytes of each range of memory that was reported as changed."""
    fetched: int = 0
    completed: int = 0
    verified: int = 0
    mismatches: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)

    def outstanding(self) -> list[Done]:
        """Commands that were fetched and never completed."""
        return [done for done in self.commands if done.cqe_ps is None]
