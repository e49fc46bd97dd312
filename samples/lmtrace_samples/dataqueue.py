"""User Data Migration Queues: where a controller logs what another one changes (8.1.6; NVM Command Set 1.2, 5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.migration import CDQ_ENTRY, CDQ_ENTRY_SIZE, EntrySequence
from lmtrace_samples.function import Function
from lmtrace_samples.simulation import NS, US
from lmtrace_samples.tlp import PAGE

if TYPE_CHECKING:
    from lmtrace_samples.management import ManagementController

WHOLE_NAMESPACE, NO_RANGE = 1, 2
GRAIN = 4
"""Blocks to which a controller may round what it logs."""
MOST_TOGETHER = 3
"""Changes that are told together at most."""


class DataQueue:
    """One queue of Type 0 entries in the memory of the controller that owns it."""

    def __init__(self, cdqid: int, owner: ManagementController, cntlid: int, pages: list[int], slots: int) -> None:
        self.cdqid = cdqid
        self.owner = owner
        self.cntlid = cntlid
        self.pages = pages
        self.slots = slots
        self.head = 0
        self.tail = 0
        self.phase = 1
        self.live = True
        self.logging = False
        self.first_due = False
        self.closed = False
        self.trigger: int | None = None
        self.waiting: list[tuple[int, int, int, bool, Function]] = []
        """Changes that are to be told together, or a little later."""

    @property
    def used(self) -> int:
        """Entries the host has not consumed."""
        return (self.tail - self.head) % self.slots

    @property
    def full(self) -> bool:
        """Whether no further entry may be posted."""
        return self.used == self.slots - 1

    def has_room(self) -> bool:
        """Hook: a full queue takes nothing before the host moves its head."""
        return not self.full

    def start(self) -> None:
        """Log from now on; the first entry says so, at once or with the first change."""
        self.logging = True
        self.reopen()

    def reopen(self) -> None:
        """Hook: the next entry is the first of a period."""
        self.closed = False
        self.first_due = True
        if self.owner.choices.marker_entries:
            self.first_marker()

    def first_marker(self) -> None:
        """Post an entry that only says that logging has begun, or that calls all of a namespace changed."""
        namespaces = self.owner.subsystem.controllers[self.cntlid].namespaces
        whole = self.owner.choices.whole_marker and bool(namespaces)
        self.post(EntrySequence.FIRST, min(namespaces) if whole else 0, 0, 0, False, None, whole)

    def stop(self) -> None:
        """Hook: log no more, and say so in a last entry."""
        if self.logging:
            self.close(EntrySequence.STOPPED)
            self.logging = False

    def close(self, reason: EntrySequence) -> None:
        """Hook: end a period with an entry that tells why, unless it has ended already."""
        if not self.live or self.closed or not self.logging:
            return
        self.tell()
        if self.first_due:
            self.first_marker()
        if self.logging:
            self.post(reason)
            self.closed = True

    def changed(self, nsid: int, first: int, count: int, deallocated: bool, function: Function) -> None:
        """Hook: log a change of user data, at once or together with others, before or behind the completion."""
        if not self.logging or self.closed:
            return
        style, clock = self.owner.choices.log_style, self.owner.clock
        if style == "rounded" and not deallocated:
            end = -(-(first + count) // GRAIN) * GRAIN
            first = first // GRAIN * GRAIN
            count = min(end, self.owner.subsystem.namespaces[nsid].blocks) - first
        self.waiting.append((nsid, first, count, deallocated, function))
        if style == "late":
            clock.after(800 * NS, self.tell)
        elif style == "merged" and len(self.waiting) < MOST_TOGETHER:
            clock.after(6 * US, self.tell)
        else:
            self.tell()

    def tell(self) -> None:
        """Post entries for the changes that wait; those that touch become one."""
        waiting, self.waiting = self.waiting, []
        if not self.live or not self.logging or self.closed:
            return
        merged: list[tuple[int, int, int, bool, Function]] = []
        for one in sorted(waiting, key=lambda one: (one[0], one[3], one[1])):
            if merged and (one[0], one[3]) == (merged[-1][0], merged[-1][3]) and one[1] <= sum(merged[-1][1:3]):
                nsid, first, count, deallocated, function = merged[-1]
                merged[-1] = (nsid, first, max(count, one[1] + one[2] - first), deallocated, function)
            else:
                merged.append(one)
        for nsid, first, count, deallocated, function in merged:
            if self.logging:
                self.post(EntrySequence.ORDINARY, nsid, first, count, deallocated, function)

    def post(
        self,
        sequence: EntrySequence,
        nsid: int = 0,
        first: int = 0,
        count: int = 0,
        deallocated: bool = False,
        function: Function | None = None,
        whole: bool = False,
    ) -> None:
        """Write one entry; the one that takes the last usable slot stops the logging."""
        if not self.has_room():
            return
        if self.first_due:
            sequence, self.first_due = EntrySequence.FIRST, False
        filling = self.used == self.slots - 2
        if filling and sequence in (EntrySequence.ORDINARY, EntrySequence.FIRST):
            sequence = EntrySequence.FULL
        entry = CDQ_ENTRY.encode(
            NSID=nsid,
            NLB=count - 1 if count else 0,
            SLBA=first,
            CDQP=self.phase,
            ESA=sequence,
            DLBA=deallocated,
            LBACIR=0 if count else WHOLE_NAMESPACE if whole else NO_RANGE,
        )
        self.write(self.tail, entry, function or self.owner.function)
        slot, self.tail = self.tail, (self.tail + 1) % self.slots
        if self.tail == 0:
            self.phase ^= 1
        if slot == self.trigger:
            self.trigger = None
            self.owner.report_event(4, self.cdqid)
        if sequence == EntrySequence.FULL:
            self.logging = False
            self.owner.report_event(4 | 1 << 8, self.cdqid)

    def address(self, slot: int) -> int:
        """Return where a slot lies in host memory."""
        page, offset = divmod(slot * CDQ_ENTRY_SIZE, PAGE)
        return self.pages[page] + offset

    def write(self, slot: int, entry: bytes, function: Function) -> None:
        """Write an entry, in one request or in two with the phase tag in the second."""
        owner = self.owner
        address = self.address(slot)
        if owner.choices.split_entries:
            function.write_tlp(address, entry[:16])
            function.write_tlp(address + 16, entry[16:])
        else:
            function.write_tlp(address, entry)
        if owner.record.keep:
            owner.record.entries.append((owner.clock.now, owner.function.link.name, self.cdqid, slot, entry))
