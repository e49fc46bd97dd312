"""Faults of the entries of a migration queue: what stands in them, and how a log begins and ends (6.7)."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace.spec.migration import EntrySequence
from lmtrace_samples.dataqueue import DataQueue
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.faults.cdq_operation import of_every_queue
from lmtrace_samples.function import Function
from lmtrace_samples.world import World

BLOCKS = slice(8, 16)
LBAMQA = 31
LBACIR, ESA = 6, 1
"""Places of the fields within that byte."""


def of_every_entry(world: World, change: Callable[[bytearray], None]) -> None:
    """Change every entry just before it is written."""

    def made(queue: DataQueue) -> None:
        def write(original: Callable[..., None], slot: int, entry: bytes, function: Function) -> None:
            changed = bytearray(entry)
            change(changed)
            original(slot, bytes(changed), function)

        instead(queue, "write", write)

    of_every_queue(world, made)


def sequence_of(entry: bytearray) -> int:
    """Return ESA of an entry."""
    return entry[LBAMQA] >> ESA & 7


def has_range(entry: bytearray) -> bool:
    """Whether an entry names a range."""
    return not entry[LBAMQA] >> LBACIR


@fault("entry-reserved-byte", "HMLM-NCS.5.6-n1", "migration")
def reserved_byte(world: World) -> None:
    """Entries have something in a reserved byte."""

    def change(entry: bytearray) -> None:
        entry[20] = 0xA5

    of_every_entry(world, change)


@fault("entry-reserved-sequence", "HMLM-NCS.5.6-n2", "migration")
def reserved_sequence(world: World) -> None:
    """Ordinary entries have a reserved sequence code."""

    def change(entry: bytearray) -> None:
        if sequence_of(entry) == EntrySequence.ORDINARY:
            entry[LBAMQA] |= 4 << ESA

    of_every_entry(world, change)


@fault("entry-reserved-range", "HMLM-NCS.5.6-n3", "migration")
def reserved_range(world: World) -> None:
    """Entries say with a reserved code what they say about their range."""

    def change(entry: bytearray) -> None:
        entry[LBAMQA] |= 3 << LBACIR

    of_every_entry(world, change)


@fault("ordinary-entry-without-range", "HMLM-NCS.5.6-n4", "migration")
def ordinary_without_range(world: World) -> None:
    """An ordinary entry holds no range."""

    def change(entry: bytearray) -> None:
        if sequence_of(entry) == EntrySequence.ORDINARY:
            entry[:16] = bytes(16)
            entry[LBAMQA] |= 2 << LBACIR

    of_every_entry(world, change)


@fault("marker-with-a-range", "HMLM-NCS.5.6-n5", "migration")
def marker_with_a_range(world: World) -> None:
    """An entry that holds no range names a namespace and blocks."""

    def change(entry: bytearray) -> None:
        if not has_range(entry):
            entry[0], entry[8] = 1, 64

    of_every_entry(world, change)


@fault("whole-namespace-with-a-start", "HMLM-NCS.5.6-n6", "migration")
def whole_namespace_with_a_start(world: World) -> None:
    """The first entry stands for the whole namespace, and has a first block too."""

    def change(entry: bytearray) -> None:
        if sequence_of(entry) == EntrySequence.FIRST:
            entry[0], entry[8] = 1, 64
            entry[LBAMQA] = entry[LBAMQA] & 0x3F | 1 << LBACIR

    of_every_entry(world, change)


@fault("unattached-namespace-logged", "HMLM-NCS.5.6-n7", "migration")
def unattached_namespace(world: World) -> None:
    """Entries name a namespace that only the managing controller has."""

    def change(entry: bytearray) -> None:
        if has_range(entry):
            entry[0] = 2

    of_every_entry(world, change)


@fault("range-beyond-namespace", "HMLM-NCS.5.6-n8", "migration")
def range_beyond_namespace(world: World) -> None:
    """An entry names blocks behind the end of its namespace."""

    def change(entry: bytearray) -> None:
        if has_range(entry):
            entry[BLOCKS] = (world.sides[0].subsystem.namespaces[1].blocks).to_bytes(8, "little")

    of_every_entry(world, change)


@fault("first-entry-in-mid-log", "HMLM-NCS.5.6-n9", "migration")
def first_entry_in_mid_log(world: World) -> None:
    """Every entry calls itself the first one."""

    def change(entry: bytearray) -> None:
        if sequence_of(entry) == EntrySequence.ORDINARY:
            entry[LBAMQA] |= EntrySequence.FIRST << ESA

    of_every_entry(world, change)


def ends_early(world: World, sequence: EntrySequence) -> None:
    """Let the third entry of each log say that the log has ended, which goes on."""

    def made(queue: DataQueue) -> None:
        def write(original: Callable[..., None], slot: int, entry: bytes, function: Function) -> None:
            changed = bytearray(entry)
            if slot == 2 and sequence_of(changed) == EntrySequence.ORDINARY:
                changed[LBAMQA] |= sequence << ESA
            original(slot, bytes(changed), function)

        instead(queue, "write", write)

    of_every_queue(world, made)


@fault("log-ended-without-stop", "HMLM-NCS.5.6-n10", "migration")
def ended_without_stop(world: World) -> None:
    """An entry says that the log was stopped, which it was not."""
    ends_early(world, EntrySequence.STOPPED)


@fault("log-ended-without-suspend", "HMLM-NCS.5.6-n11", "migration")
def ended_without_suspend(world: World) -> None:
    """An entry says that the controller was suspended, which it is not."""
    ends_early(world, EntrySequence.SUSPENDED)


@fault("log-ended-by-queue-not-full", "HMLM-NCS.5.6-n12", "migration")
def ended_by_queue_not_full(world: World) -> None:
    """An entry says that the queue is full, which it is not."""
    ends_early(world, EntrySequence.FULL)


@fault("log-goes-on-after-stop", "HMLM-NCS.5.6-n10", "rollback")
def goes_on_after_stop(world: World) -> None:
    """A stopped log goes on."""

    def made(queue: DataQueue) -> None:
        def stop(original: Callable[[], None]) -> None:
            original()
            queue.post(EntrySequence.ORDINARY, 1, 0, 1)

        instead(queue, "stop", stop)

    of_every_queue(world, made)


@fault("full-data-queue-not-told", "HMLM-NCS.5.6-n13", "log-full")
def full_queue_not_told(world: World) -> None:
    """The entry that fills the data queue does not say so."""

    def change(entry: bytearray) -> None:
        if sequence_of(entry) == EntrySequence.FULL:
            entry[LBAMQA] &= ~(7 << ESA)

    of_every_entry(world, change)


def without_marker(world: World, wanted: Callable[[DataQueue], bool]) -> None:
    """Let logs begin without an entry that says so, where ``wanted``."""

    def made(queue: DataQueue) -> None:
        def reopen(original: Callable[[], None]) -> None:
            if wanted(queue):
                queue.closed = False
            else:
                original()

        instead(queue, "reopen", reopen)

    of_every_queue(world, made)


@fault("started-log-without-first-entry", "HMLM-NCS.4.1.8-n3", "migration")
def started_without_first_entry(world: World) -> None:
    """A log that is started begins with an ordinary entry."""
    without_marker(world, lambda queue: not queue.closed)


@fault("resumed-log-without-first-entry", "HMLM-5.1.17.1.2-n15", "rollback")
def resumed_without_first_entry(world: World) -> None:
    """A log that goes on with a Resume begins with an ordinary entry."""
    without_marker(world, lambda queue: queue.closed)


def without_last_entry(world: World, left_out: EntrySequence) -> None:
    """Let logs that end for one reason end without an entry."""

    def made(queue: DataQueue) -> None:
        def close(original: Callable[..., None], reason: EntrySequence) -> None:
            if reason == left_out:
                queue.closed = True
            else:
                original(reason)

        instead(queue, "close", close)

    of_every_queue(world, made)


@fault("stopped-log-without-last-entry", "HMLM-NCS.4.1.8-n4", "rollback")
def stopped_without_last_entry(world: World) -> None:
    """A log that is stopped ends without an entry that says so."""
    without_last_entry(world, EntrySequence.STOPPED)


@fault("suspended-log-without-last-entry", "HMLM-5.1.17.1.1-n19", "migration")
def suspended_without_last_entry(world: World) -> None:
    """The log of a suspended controller ends without an entry that says so."""
    without_last_entry(world, EntrySequence.SUSPENDED)
