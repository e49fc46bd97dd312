"""Faults of memory tracking: what is tracked that may not be, and what the reports leave out or add (6.12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import INVALID_FIELD, NOT_ENOUGH_RESOURCES
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.memory_reader import MemoryReader
from lmtrace_samples.queues import Refused
from lmtrace_samples.simulation import Steps
from lmtrace_samples.tracking import INTERNAL_ERROR, MemoryTracking, Tracker
from lmtrace_samples.world import World

REFUSALS = "memory-tracking-refusals"
MIGRATION = "memory-tracking"
ELSEWHERE = 0x7000_0000
ROOM = 8

forgets(
    "unknown-ranges-version-accepted", "HMLM-5.1.27.1.2-n1", REFUSALS, "memory-version",
    "Ranges of a version that does not exist are tracked.",
)  # fmt: skip
forgets(
    "too-coarse-tracking-accepted", "HMLM-5.1.27.1.2-n2", REFUSALS, "memory-coarse",
    "A granularity above MAXMRTG is accepted.",
)  # fmt: skip
forgets(
    "too-fine-tracking-accepted", "HMLM-5.1.27.1.2-n3", REFUSALS, "memory-fine",
    "A granularity below MINMRTG is accepted.",
)  # fmt: skip
forgets(
    "tracking-started-twice", "HMLM-5.1.27.1.2-n6", REFUSALS, "memory-tracked",
    "Tracking of a controller that is tracked begins anew.",
)  # fmt: skip
forgets(
    "controller-tracks-itself", "HMLM-5.1.27.1.2-n7", REFUSALS, "memory-self",
    "A controller accepts to track itself.",
)  # fmt: skip
forgets(
    "tracking-changed-while-suspended", "HMLM-5.1.27.1.2-n8", REFUSALS, "memory-suspended",
    "Tracking of a suspended controller is started and stopped.",
)  # fmt: skip
forgets(
    "odd-length-accepted", "HMLM-5.1.27.1.2-n9", REFUSALS, "memory-power",
    "A range whose length is no power of two is accepted in spite of MRTLL.",
)  # fmt: skip
forgets(
    "misaligned-range-accepted", "HMLM-5.1.27.1.2-n10", REFUSALS, "memory-aligned",
    "A range that is not aligned to the granularity is accepted.",
)  # fmt: skip
forgets(
    "controller-memory-tracked", "HMLM-5.1.27.1.2-n11", REFUSALS, "memory-host",
    "A range in the memory buffer of the tracked controller is accepted.",
)  # fmt: skip


def _tracker(world: World) -> Tracker:
    return world.sides[0].manager.tracker


def _trackings(world: World, change: Callable[[MemoryTracking], None]) -> None:
    """Change every tracking that begins."""

    def start(original: Callable[[MemoryTracking], None], tracking: MemoryTracking) -> None:
        change(tracking)
        original(tracking)

    instead(_tracker(world), "start", start)


# -- what is asked for --------------------------------------------------------------------------------------------


@fault("more-ranges-than-controller-tracks", "HMLM-5.1.27.1.2-n4", REFUSALS)
def more_ranges_than_controller_tracks(world: World) -> None:
    """A controller tracks more ranges than CMMRTD, though no more than the subsystem may track."""
    manager = world.sides[0].manager
    manager.forgotten |= {"memory-count", "memory-all-counts"}
    instead(manager, "identify_fields", lambda original: original() | {"NMMRTD": 64})


@fault("more-ranges-than-subsystem-tracks", "HMLM-5.1.27.1.2-n5", REFUSALS)
def more_ranges_than_subsystem_tracks(world: World) -> None:
    """More ranges than NMMRTD are tracked, all by the one controller that also has CMMRTD."""
    world.sides[0].manager.forgotten |= {"memory-count", "memory-all-counts"}


@fault("advice-with-reserved-bits", "HMLM-5.1.27.1.2-n12", REFUSALS)
def advice_with_reserved_bits(world: World) -> None:
    """The refusal for lack of resources has bits set above MRTG."""

    def scarce(original: Callable[..., None], exponent: int, count: int) -> None:
        raise Refused(NOT_ENOUGH_RESOURCES, 1 << 16 | exponent, count)

    instead(_tracker(world), "scarce", scarce)


@fault("advice-of-more-ranges", "HMLM-5.1.27.1.2-n12", REFUSALS)
def advice_of_more_ranges(world: World) -> None:
    """The refusal for lack of resources says that more ranges would do than were asked for."""

    def scarce(original: Callable[..., None], exponent: int, count: int) -> None:
        raise Refused(NOT_ENOUGH_RESOURCES, exponent, 100)

    instead(_tracker(world), "scarce", scarce)


@fault("advice-ignored", "HMLM-5.1.27.1.2-n13", REFUSALS, party="host")
def advice_ignored(world: World) -> None:
    """The host repeats the request that was refused for lack of resources."""
    world.provoked.add("tracking-stubborn")


@fault("stop-judged-by-its-buffer", "HMLM-5.1.27.1.2-n14", REFUSALS)
def stop_judged_by_its_buffer(world: World) -> None:
    """A stop is refused because of what its data pointer points to."""

    def look(original: Callable[..., None], command: Any) -> None:
        raise Refused(INVALID_FIELD)

    instead(_tracker(world), "look_at_stop", look)


@fault("no-range-asked-for", "HMLM-5.1.27.1.2-n15", REFUSALS, party="host")
def no_range_asked_for(world: World) -> None:
    """The host asks to track no range at all, and one range twice."""
    world.provoked |= {"tracking-nothing", "tracking-twice"}


@fault("interrupt-addresses-tracked", "HMLM-5.1.27.1.2-n15", REFUSALS, party="host")
def interrupt_addresses_tracked(world: World) -> None:
    """The host asks to track a range that interrupt messages go to."""
    world.provoked.add("tracking-interrupts")


@fault("reserved-bytes-in-ranges", "HMLM-5.1.27.1.2-n15", REFUSALS, party="host")
def reserved_bytes_in_ranges(world: World) -> None:
    """The host sets reserved bits of a Track Memory Changes structure."""
    world.provoked.add("tracking-reserved")


@fault("tracking-started-late", "HMLM-5.1.27.1.2-n16", REFUSALS, party="host")
def tracking_started_late(world: World) -> None:
    """The host asks to track a controller that is suspended already."""
    world.provoked.add("tracking-late")


# -- reports nobody may get ---------------------------------------------------------------------------------------


@fault("untracked-controller-reported", "HMLM-5.1.26-n1", REFUSALS)
def untracked_controller_reported(world: World) -> None:
    """A report about a controller that is not tracked names ranges."""
    tracker = _tracker(world)
    tracker.manager.forgotten.add("receive-untracked")

    def report(
        original: Callable[..., bytes], cntlid: int, exponent: int, changes: list[tuple[int, int]], *rest: bool
    ) -> bytes:
        return original(cntlid, exponent, changes if tracker.of(cntlid) else [(ELSEWHERE, 1)], *rest)

    _reports(world, report)


# -- the form of reports ------------------------------------------------------------------------------------------


def _reports(world: World, change: Callable[..., bytes]) -> None:
    """Let ``change`` make the reports: it is given what is right, CNTLID, granularity, ranges, MTR, SUSP."""
    instead(_tracker(world), "report", change)


@fault("report-about-another-controller", "HMLM-5.1.26.1.1-n1", MIGRATION)
def report_about_another_controller(world: World) -> None:
    """A report names another controller than the one that was asked about."""
    _reports(world, lambda original, cntlid, *rest: original(cntlid + 1, *rest))


@fault("reserved-bytes-in-report", "HMLM-5.1.26.1.1-n1", MIGRATION)
def reserved_bytes_in_report(world: World) -> None:
    """The reserved bytes at the end of a report's descriptors are not 0."""

    def report(original: Callable[..., bytes], *given: Any) -> bytes:
        data = original(*given)
        return data[:-1] + b"\1" if len(data) > 16 else data

    _reports(world, report)


@fault("more-announced-by-nothing", "HMLM-5.1.26.1.1-n2", MIGRATION)
def more_announced_by_nothing(world: World) -> None:
    """A report without ranges says once that there are more."""
    said: list[bool] = []

    def report(
        original: Callable[..., bytes], cntlid: int, exponent: int, changes: list[Any], more: bool, suspended: bool
    ) -> bytes:
        wrong = not changes and not said
        if wrong:
            said.append(True)
        return original(cntlid, exponent, changes, more or wrong, suspended)

    _reports(world, report)


@fault("report-larger-than-its-buffer", "HMLM-5.1.26.1.1-n3", MIGRATION)
def report_larger_than_its_buffer(world: World) -> None:
    """A report announces more ranges than its buffer has room for."""
    world.choices.report_room, world.choices.lazy_reports = 2, False
    instead(_tracker(world), "room", lambda original, length: original(length) + 8)


@fault("misaligned-range-reported", "HMLM-5.1.26.1.1-n4", MIGRATION)
def misaligned_range_reported(world: World) -> None:
    """A reported range begins within a page."""

    def report(
        original: Callable[..., bytes], cntlid: int, exponent: int, changes: list[tuple[int, int]], *rest: bool
    ) -> bytes:
        return original(cntlid, exponent, [(start + 64, count) for start, count in changes], *rest)

    _reports(world, report)


@fault("untracked-range-reported", "HMLM-5.1.26.1.1-n4", MIGRATION)
def untracked_range_reported(world: World) -> None:
    """A report names a range that is not tracked."""

    def report(
        original: Callable[..., bytes], cntlid: int, exponent: int, changes: list[tuple[int, int]], *rest: bool
    ) -> bytes:
        return original(cntlid, exponent, [*changes, (ELSEWHERE, 1)] if 0 < len(changes) < ROOM else changes, *rest)

    world.choices.report_room = ROOM
    _reports(world, report)


@fault("running-controller-reported-suspended", "HMLM-5.1.26.1.1-n5", MIGRATION)
def running_controller_reported_suspended(world: World) -> None:
    """A report about a running controller says that it is suspended."""
    instead(_tracker(world), "says_suspended", lambda original, suspended: True)


@fault("suspended-controller-reported-running", "HMLM-5.1.26.1.1-n5", MIGRATION)
def suspended_controller_reported_running(world: World) -> None:
    """A report about a suspended controller does not say so."""
    instead(_tracker(world), "says_suspended", lambda original, suspended: False)


# -- what reports say ---------------------------------------------------------------------------------------------


@fault("completions-not-tracked", "HMLM-5.1.26.1.1-n6", MIGRATION)
def completions_not_tracked(world: World) -> None:
    """A controller tracks the data that another one writes, and not the completion queue entries."""

    def change(tracking: MemoryTracking) -> None:
        def wrote(original: Callable[[int, int], None], address: int, length: int) -> None:
            if length != 16:
                original(address, length)

        instead(tracking, "wrote", wrote)

    _trackings(world, change)


@fault("second-controller-not-tracked", "HMLM-5.1.26.1.1-n6", "memory-tracking-several")
def second_controller_not_tracked(world: World) -> None:
    """While one controller is tracked, the changes of another one go unnoticed."""

    def change(tracking: MemoryTracking) -> None:
        if world.sides[0].subsystem.trackings:
            instead(tracking, "wrote", lambda original, address, length: None)

    _trackings(world, change)


@fault("changes-after-the-last-report", "HMLM-5.1.26.1.1-n7", MIGRATION)
def changes_after_the_last_report(world: World) -> None:
    """A change is held back until after the report that said that there is no more."""
    said: list[bool] = []

    def change(tracking: MemoryTracking) -> None:
        def ready(original: Callable[[bool], list[int]], suspended: bool) -> list[int]:
            found = original(suspended)
            if suspended and found and not said:
                said.append(True)
                return []
            return found

        instead(tracking, "ready", ready)

    _trackings(world, change)


@fault("change-reported-again", "HMLM-5.1.26.1.1-n8", MIGRATION)
def change_reported_again(world: World) -> None:
    """A change is reported twice while the controller is suspended and changes nothing."""
    world.choices.report_room = 1

    def change(tracking: MemoryTracking) -> None:
        kept: list[bool] = []

        def consume(original: Callable[..., None], runs: list[tuple[int, int]]) -> None:
            original(runs)
            if runs and tracking.changed and tracking.target.suspended_by is not None and not kept:
                kept.append(True)
                tracking.changed[runs[0][0]] = 0

        instead(tracking, "consume", consume)

    _trackings(world, change)


@fault("failed-report-consumes-changes", "HMLM-5.1.26.1.1-n9", MIGRATION)
def failed_report_consumes_changes(world: World) -> None:
    """A Track Receive fails, and what it would have reported is forgotten."""
    failed: list[bool] = []

    def may_report(original: Callable[..., None], tracking: MemoryTracking | None, suspended: bool) -> None:
        if suspended and tracking is not None and tracking.changed and not failed:
            failed.append(True)
            tracking.changed.clear()
            raise Refused(INTERNAL_ERROR)

    instead(_tracker(world), "may_report", may_report)


@fault("changes-left-unread", "HMLM-5.1.26.1.1-n10", MIGRATION, party="host")
def changes_left_unread(world: World) -> None:
    """The host reads one report of the suspended source, which says that there is more, and resumes the destination."""

    def finish(original: Callable[..., Steps[None]], memory: MemoryReader) -> Steps[None]:
        yield from memory.receive(1)

    instead(world, "finish_memory", finish)


@fault("last-changes-not-read", "HMLM-5.1.26.1.1-n11", MIGRATION, party="host")
def last_changes_not_read(world: World) -> None:
    """The host resumes the destination without reading what the source changed last."""

    def finish(original: Callable[..., Steps[None]], memory: MemoryReader) -> Steps[None]:
        yield 0

    instead(world, "finish_memory", finish)


# -- resets -------------------------------------------------------------------------------------------------------


@fault("tracking-outlives-manager-reset", "HMLM-8.1.12-n3", "memory-tracking-reset")
def tracking_outlives_manager_reset(world: World) -> None:
    """A managing controller goes on tracking after its reset."""
    instead(_tracker(world), "reset", lambda original: None)


@fault("tracking-outlives-subsystem-reset", "HMLM-3.7.1-n1", "memory-tracking-reset")
def tracking_outlives_subsystem_reset(world: World) -> None:
    """A managing controller goes on tracking after an NVM Subsystem Reset."""
    side = world.sides[0]
    everything: list[bool] = []

    def subsystem_reset(original: Callable[[], None]) -> None:
        everything.append(True)
        original()

    instead(side.subsystem, "reset", subsystem_reset)
    instead(_tracker(world), "reset", lambda original: None if everything else original())
