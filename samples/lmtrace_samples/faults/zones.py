"""Faults of zoned namespaces (nvme-checklist G23)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import Cns
from lmtrace.spec.zones import ZONE_DESCRIPTOR, ZONED_FORMATS, ZoneState
from lmtrace_samples.administration import put
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command
from lmtrace_samples.world import World
from lmtrace_samples.zoned import ACTIVE, Zone, ZonedNamespace

SCENARIO = "zones"


def _forgets(name: str, rule: str, reason: str, text: str, shared: bool = False) -> None:
    """Register the fault of a controller that does not refuse for ``reason``; ``shared`` is as of `fault`."""

    def change(world: World) -> None:
        world.sides[0].manager.zones.forgotten.add(reason)
        if shared:
            world.provoked.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO, shared=shared)(change)


def _does(name: str, rule: str, method: str, text: str, action: Callable[..., Any]) -> None:
    """Register the fault of a controller that does something else with its zones."""

    def change(world: World) -> None:
        instead(world.sides[0].manager.zones, method, action)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


def _nothing(original: Callable[..., None], *arguments: object) -> None:
    """Do nothing."""


def _pointer_behind(original: Callable[..., bytes], zone: Zone, extended: bool) -> bytes:
    data, field = original(zone, extended), ZONE_DESCRIPTOR["WP"]
    behind = zone.state in ACTIVE and zone.wp > zone.start
    return put(data, field.lo // 8, zone.wp - 1, field.width // 8) if behind else data


def _opened_explicitly(original: Callable[..., None], namespace: ZonedNamespace, zone: Zone) -> None:
    before = zone.state
    original(namespace, zone)
    if zone.state != before:
        zone.state = ZoneState.EXPLICITLY_OPENED


def _opened_implicitly(original: Callable[..., None], zone: Zone) -> None:
    zone.state = ZoneState.IMPLICITLY_OPENED


def _closed(original: Callable[..., None], zone: Zone) -> None:
    zone.state = ZoneState.CLOSED


def _data_kept(original: Callable[..., None], namespace: ZonedNamespace, zone: Zone) -> None:
    zone.reset()


def _other_extension(original: Callable[..., None], zone: Zone, extension: bytes) -> None:
    original(zone, bytes([extension[0] ^ 1]) + extension[1:])


_forgets("written-beside-write-pointer", "NVM21-Z2.1.1-n1", "pointer", "Writes beside the write pointer succeed.")
_forgets("written-beyond-capacity", "NVM21-Z2.1.1-n2", "boundary", "A write beyond the capacity of a zone succeeds.")
_forgets("full-zone-overwritten", "NVM21-Z2.1.1-n3", "full", "A full zone is written.")
_forgets("read-only-zone-changed", "NVM21-Z2.1.1-n4", "read-only", "A zone that is read only is written.")
_forgets("offline-zone-read", "NVM21-Z2.1.1-n5", "read-offline", "A zone that is offline is read.")
_does("write-pointer-told-behind", "NVM21-Z2.1.1-n6", "descriptor", "Reports tell a write pointer one block low.",
      _pointer_behind)  # fmt: skip
_does("filled-zone-stays-open", "NVM21-Z2.1.1-n7", "filled", "A zone of which all was written stays open.", _nothing)
_does("write-opens-explicitly", "NVM21-Z2.1.1-n8", "open_for_write", "A write opens its zone explicitly.",
      _opened_explicitly)  # fmt: skip
_forgets("opened-one-too-many", "NVM21-Z2.1.1-n9", "open", "A zone is opened beyond MOR.")
_forgets("activated-one-too-many", "NVM21-Z2.1.1-n10", "active", "A zone becomes active beyond MAR.")
_does("open-zone-not-closed-for-another", "NVM21-Z2.1.1-n11", "close_for_another",
      "A zone is opened for a write, and none closed for it.", _nothing)  # fmt: skip
_forgets("read-across-two-zones", "NVM21-Z2.1.1-n12", "read-across", "A read crosses into the next zone.")
_does("data-survive-zone-reset", "NVM21-Z2.1.1-n13", "reset", "The data of a zone that was reset can still be read.",
      _data_kept)  # fmt: skip
_forgets("append-inside-zone-done", "NVM21-Z3.4.1-n2", "append-start", "An append with an SLBA inside a zone is done.",
         True)  # fmt: skip
_does("append-told-one-behind", "NVM21-Z3.4.1-n3", "place", "An append tells the block behind where it should be.",
      lambda original, zone, count: original(zone, count) + 1)  # fmt: skip
_does("appends-told-one-place", "NVM21-Z3.4.1-n3", "place", "Appends tell places that overlap.",
      lambda original, zone, count: max(original(zone, count) - 1, zone.start))  # fmt: skip
_forgets("append-too-large-done", "NVM21-Z3.4.1-n4", "append-limit", "An append beyond ZASL succeeds.")
_forgets("appended-beyond-capacity", "NVM21-Z3.4.1-n5", "append-boundary", "An append beyond the capacity succeeds.")
_forgets("append-without-remapping", "NVM21-Z3.4.1-n6", "append-remap", "An append without PIREMAP succeeds.")
_does("open-leaves-implicit", "NVM21-Z3.4.3-n1", "open", "Open leaves zones opened implicitly.", _opened_implicitly)
_does("close-does-nothing", "NVM21-Z3.4.3-n2", "close", "Close succeeds and does nothing.", _nothing)
_does("finish-only-closes", "NVM21-Z3.4.3-n3", "finish", "Finish only closes a zone.", _closed)
_does("zone-reset-does-nothing", "NVM21-Z3.4.3-n4", "reset", "Reset succeeds and does nothing.", _nothing)
_forgets(
    "zone-transition-taken", "NVM21-Z3.4.3-n5", "transition", "Actions are done in states that they do not go from."
)
_does("select-all-does-nothing", "NVM21-Z3.4.3-n6", "moved_by_all", "Actions on all zones are done to none.",
      lambda original, action: ())  # fmt: skip
_forgets("reset-inside-zone-done", "NVM21-Z3.4.3-n7", "zone-start", "A reset with an SLBA inside a zone is done.")
_forgets("reserved-zone-action-done", "NVM21-Z3.4.3-n8", "action", "A reserved action succeeds.")
_does("extension-altered", "NVM21-Z3.4.3-n9", "extend", "A descriptor extension is kept with another first byte.",
      _other_extension)  # fmt: skip
_does("report-cut-short", "NVM21-Z3.4.2-n1", "whole", "Reports end behind their last descriptor.",
      lambda original, report, size: report[:size])  # fmt: skip
_does("partial-report-counts-all", "NVM21-Z3.4.2-n2", "count", "Partial reports count zones that they do not list.",
      lambda original, zones, fit, partial: zones)  # fmt: skip
_does("zones-listed-backwards", "NVM21-Z3.4.2-n3", "order", "Reports list the last zone first.",
      lambda original, zones: zones[::-1])  # fmt: skip
_does("zones-of-every-state-listed", "NVM21-Z3.4.2-n4", "matches", "Reports of one state list zones of all.",
      lambda original, zone, wanted: True)  # fmt: skip
_forgets("reserved-report-returned", "NVM21-Z3.4.2-n5", "report", "A report of a reserved kind is returned.")
_does("changed-zones-not-listed", "NVM21-Z4.1.2-n1", "listed_changes", "The Changed Zone List is empty.",
      lambda original, namespace: [])  # fmt: skip
_forgets("written-outside-area", "NVM21-Z5.7-n1", "area", "Writes beside a Zone Random Write Area succeed.")


@fault("append-asked-inside-zone", "NVM21-Z3.4.1-n1", SCENARIO, party="host")
def append_asked_inside_zone(world: World) -> None:
    """The host gives an append an SLBA inside a zone."""
    world.provoked.add("append-start")


@fault("empty-zone-fills-itself", "NVM21-Z2.1.1-n14", SCENARIO)
def empty_zone_fills_itself(world: World) -> None:
    """The last zone is full all of a sudden."""
    count = 0

    def order(original: Callable[[list[Zone]], list[Zone]], zones: list[Zone]) -> list[Zone]:
        nonlocal count
        count += 1
        if count == 7 and zones:
            zones[-1].fill()
        return original(zones)

    instead(world.sides[0].manager.zones, "order", order)


@fault("zones-of-no-size", "NVM21-Z4.1.3-n1", SCENARIO)
def zones_of_no_size(world: World) -> None:
    """The zones of every format have no block."""

    def told(original: Callable[[int, Command], bytes], cns: int, command: Command) -> bytes:
        data = original(cns, command)
        return put(data, ZONED_FORMATS, 0, 8) if cns == Cns.IO_NAMESPACE else data

    instead(world.sides[0].manager, "identify_data", told)
