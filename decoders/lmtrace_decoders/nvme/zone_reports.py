"""Zone reports: what they say of themselves, and of zones of which something is known (ZNS Command Set 1.2, 3.4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmtrace.spec import zones as spec
from lmtrace.spec.zones import FILTERS, REPORT_HEADER, ZONE_DESCRIPTOR, ZoneReceive, ZoneState
from lmtrace_decoders.nvme import facts, spool
from lmtrace_decoders.nvme.zone_model import ACTIVE, ANY_STATE, OPENED, REPORTED, WITH_WRITE_POINTER, Zone

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.reconstruct import Reconstruction
    from lmtrace_decoders.nvme.zones import Place

MOST_UNCHANGED = 256
"""Zones of one report that are told of though they are as the last report showed them."""


class Report:
    """The answer to one Zone Management Receive."""

    def __init__(self, run: Reconstruction, command: Command, place: Place, tlp: int) -> None:
        self._run, self._command, self._place, self._tlp = run, command, place, tlp
        action = command.dword(13) & spec.RECEIVE_ACTION
        self._extended = action == ZoneReceive.EXTENDED_REPORT
        self._extension = (place.namespace.block.zone if place.namespace.block else None) if self._extended else 0
        self._is_report = action in (ZoneReceive.REPORT, ZoneReceive.EXTENDED_REPORT)
        self._unchanged = 0
        self._open = self._active = 0
        self._flaw: tuple[str, int] | None = None
        self._unwanted: int | None = None

    def take(self) -> dict[str, Any]:
        """Judge the report, learn from it, and return what the table says of it."""
        command, model = self._command, self._place.model
        size = 4 * (command.dword(12) + 1)
        shared = facts.known(command, "buffer_shared") is True
        data = command.buffer
        if data is None or not self._is_report or self._extension is None or not command.data_decoded or shared:
            return {}
        head = data.bytes(0, min(8, size))
        if head is None or len(head) < 8:
            return {}
        count, step = int.from_bytes(head, "little"), ZONE_DESCRIPTOR.size + self._extension
        fit = max(size - REPORT_HEADER, 0) // step
        before, whole, last = None, True, 0
        asked = command.dword(13) >> 8 & 0xFF
        for index in range(min(count, fit)):
            at = REPORT_HEADER + step * index
            one = data.bytes(at, at + step)
            if one is None:
                whole, before = False, None
                continue
            before = self._descriptor(one, before, asked)
            last = index + 1
        row: dict[str, Any] = {
            "zones_counted": count, "zones_fit": fit, "listed_bytes": REPORT_HEADER + step * min(count, fit),
        }  # fmt: skip
        if model.total is not None and asked == 0:
            row["zones_due"] = max(model.total - command.qword(40) // model.size, 0)
        if self._flaw is not None:
            row["report_flaw"], row["report_zone"] = self._flaw
        row["unwanted"] = self._unwanted
        calm = not model.flying and model.changed < command.fetch_tlp
        if whole and calm and last:
            row["reported_open"], row["reported_active"] = self._open, self._active
        return row

    def _descriptor(self, data: bytes, before: int | None, asked: int) -> int:
        """Take one zone descriptor, behind that of the zone ``before``; return which zone it is of."""
        one, model = ZONE_DESCRIPTOR.decode(data[: ZONE_DESCRIPTOR.size]), self._place.model
        start, state, wp, size = one["ZSLBA"], one["ZS"], one["WP"], model.size
        flaw = None
        if start % size or (model.total is not None and start >= model.total * size):
            flaw = "place"
        elif before is not None and start <= before:
            flaw = "order"
        elif before is not None and asked == 0 and start != before + size:
            flaw = "spacing"
        elif one["ZT"] != spec.SEQUENTIAL_WRITE_REQUIRED:
            flaw = "type"
        elif not ANY_STATE >> state & 1:
            flaw = "state"
        elif one["ZCAP"] > size:
            flaw = "capacity"
        elif 1 << state & WITH_WRITE_POINTER and not (
            start <= wp <= start + one["ZCAP"] and (state != ZoneState.EMPTY or wp == start)
        ):
            flaw = "pointer"
        if flaw is not None and self._flaw is None:
            self._flaw = flaw, start
        if asked in FILTERS and not FILTERS[asked] >> state & 1 and self._unwanted is None:
            self._unwanted = start
        self._open += OPENED >> state & 1
        self._active += ACTIVE >> state & 1
        if flaw not in ("place", "type") and ANY_STATE >> state & 1:
            zone = model.zone(start)
            fetched = self._command.fetch_tlp
            if model.settled(fetched) and zone.settled(0, fetched):
                self._compare(zone, one, data[ZONE_DESCRIPTOR.size :])
        return start

    def _compare(self, zone: Zone, one: dict[str, int], extension: bytes) -> None:
        """Say how a zone stands against what is known of it, and take what it is."""
        state, command = one["ZS"], self._command
        wp = one["WP"] if 1 << state & WITH_WRITE_POINTER else None
        same = zone.possible == 1 << state and zone.wp == wp
        if zone.cause is not None and not (zone.cause == REPORTED and same and self._unchanged >= MOST_UNCHANGED):
            self._unchanged += zone.cause == REPORTED and same
            self._row(zone, one, wp, extension)
        writer = self._run.output.first_transaction + command.number
        if zone.cause is None or not same or zone.cause != REPORTED:
            zone.becomes(1 << state, wp, REPORTED, writer)
        zone.capacity, zone.area = one["ZCAP"], bool(one["ZA"] & spec.AREA_VALID)
        if extension and one["ZA"] & spec.EXTENSION_VALID:
            zone.extension = extension
        elif not one["ZA"] & spec.EXTENSION_VALID:
            zone.extension = None

    def _row(self, zone: Zone, one: dict[str, int], wp: int | None, extension: bytes) -> None:
        run, command, namespace = self._run, self._command, self._place.namespace
        function, state = command.controller.function, one["ZS"]
        value = namespace.zoned.value("ZOC")
        excursions = value is None or bool(value & spec.ACTIVE_EXCURSIONS)
        due = zone.due(excursions, bool(one["ZA"] & spec.FINISHED_BY_CONTROLLER))
        differs = None
        if zone.extension is not None:
            valid = bool(one["ZA"] & spec.EXTENSION_VALID)
            if not valid and 1 << state & ~WITH_WRITE_POINTER == 0:
                differs = True
            elif valid and extension and len(extension) == len(zone.extension):
                differs = extension != zone.extension
        row: dict[str, Any] = {
            "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
            "controller": function.cntlid, "transaction_id": run.output.first_transaction + command.number,
            "nsid": command.dword(1), "zone": zone.start, "state": state, "attributes": one["ZA"], "wp": wp,
            "capacity": one["ZCAP"], "states": due,
            "wp_due": None if zone.area is not False and zone.cause != "reset" else zone.wp,
            "full_due": zone.cause == "written" and zone.possible == 1 << ZoneState.FULL, "cause": zone.cause,
            "of_all": zone.of_all, "writer_id": zone.writer if zone.writer >= 0 else None,
            "extension_differs": differs, "shared": namespace.shared, "time_ps": command.cqe_ps, "tlp_id": self._tlp,
            "learnt": spool.LEARNT[command.sq.learnt] if run.whole(function.link) else "inferred",
        }  # fmt: skip
        run.store.writer("reported_zones").add(row)
