"""Commands to zoned namespaces, against what is known of their zones (nvme-checklist G23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmtrace.spec import zones as spec
from lmtrace.spec.nvme import CommandSet, Nvm, Status
from lmtrace.spec.zones import REMAP_REFERENCE, SELECT_ALL, ZoneSend
from lmtrace_decoders.nvme import facts, spool
from lmtrace_decoders.nvme.namespaces import BROADCAST
from lmtrace_decoders.nvme.sgl import SglTransfer
from lmtrace_decoders.nvme.zone_model import (
    ACTIVE,
    ANY_STATE,
    CLOSE,
    CLOSED,
    DEAD,
    DEAD_SET,
    EMPTY,
    EXPLICIT,
    EXTENDED,
    FINISHED,
    FULL,
    OFFLINE,
    OPEN,
    OPENED,
    RESET,
    WITH_WRITE_POINTER,
    WRITTEN,
    Zone,
    ZonedNamespace,
    random_write_areas,
)
from lmtrace_decoders.nvme.zone_reports import Report

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.namespaces import Namespace
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

WRITES = (Nvm.WRITE, Nvm.WRITE_ZEROES, Nvm.ZONE_APPEND)
"""Commands that move the write pointer by the blocks that they write."""
CHANGERS = (*WRITES, Nvm.WRITE_UNCORRECTABLE, Nvm.COPY, Nvm.ZONE_MANAGEMENT_SEND)
SPANS = (*WRITES, Nvm.WRITE_UNCORRECTABLE, Nvm.READ, Nvm.COMPARE, Nvm.VERIFY)
"""Commands with a number of blocks."""
ABOUT_ZONES = (*SPANS, Nvm.COPY, Nvm.ZONE_MANAGEMENT_SEND, Nvm.ZONE_MANAGEMENT_RECEIVE)
MOST_COUNTED = 1 << 12
"""Zones of a namespace, up to which those in some state are counted."""
NOTHING_DONE = frozenset({Status(1, one) for one in range(0xB6, 0xC0)} | {Status(0, one) for one in (1, 2, 0x0B, 0x80)})
"""How a command ends that changed no zone."""
ACTED: dict[int, tuple[int, str]] = {
    ZoneSend.CLOSE: (EMPTY | CLOSED, CLOSE), ZoneSend.FINISH: (FULL, FINISHED), ZoneSend.OPEN: (EXPLICIT, OPEN),
    ZoneSend.RESET: (EMPTY, RESET), ZoneSend.OFFLINE: (OFFLINE, DEAD_SET),
    ZoneSend.SET_DESCRIPTOR_EXTENSION: (CLOSED, EXTENDED),
}  # fmt: skip
"""States of a zone after an action, and how that is called."""
MOVED_BY_ALL: dict[int, int] = {
    ZoneSend.CLOSE: OPENED, ZoneSend.FINISH: ACTIVE, ZoneSend.OPEN: CLOSED, ZoneSend.RESET: ACTIVE | FULL,
    ZoneSend.OFFLINE: DEAD & ~OFFLINE,
}  # fmt: skip
"""States of the zones that an action with Select All moves; others stay as they are."""


class Place(NamedTuple):
    """Where a command acts: its namespace, the model of it, and the zone of its first block."""

    namespace: Namespace
    model: ZonedNamespace
    zone: Zone | None
    settled: bool
    """Nothing that may change the zone was in flight with it."""


class Zones:
    """Follows every zoned namespace of one capture."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self._models: dict[int, ZonedNamespace] = {}
        self._lives: dict[tuple[int, int], Controller] = {}
        """The life of each function that used a namespace last: a reset may close zones."""
        self._begun: dict[int, Zone | None] = {}
        """Commands in flight that may change zones: which, None for all."""

    # -- what is known ------------------------------------------------------------------------------------------

    def model_of(self, command: Command) -> tuple[Namespace, ZonedNamespace] | None:
        """Return the zones of a command's namespace, None where it has none or their size is not known."""
        namespace = self._run.namespaces.of(command.controller.function, command.dword(1))
        if namespace.csi != CommandSet.ZONED or namespace.block is None or not namespace.told:
            return None
        size = namespace.zoned.of_format(namespace.block.number, "ZSZE")
        if not size:
            return None
        found = self._models.get(namespace.number)
        if found is None or found.size != size:
            found = self._models[namespace.number] = ZonedNamespace(size)
        if namespace.blocks is not None:
            found.total = None if namespace.blocks % size else namespace.blocks // size
        if found.areas is None:
            found.areas = random_write_areas(namespace.zoned)
        key = namespace.number, command.controller.function.number
        before = self._lives.get(key)
        if before is not command.controller:
            self._lives[key] = command.controller
            if before is not None:
                found.forget(command.fetch_tlp)
        return namespace, found

    def zone_extent(self, command: Command) -> tuple[int, int] | None:
        """Return the (first block, blocks) of the zone that a command names, None where it is not known."""
        found = self.model_of(command)
        return None if found is None else (_slba(command) // found[1].size * found[1].size, found[1].size)

    def forget(self, number: int, tlp: int) -> None:
        """Nothing is known of the zones of a namespace any more."""
        if number in self._models:
            self._models[number].forget(tlp)

    def changed(self, function: Function, nsid: int, tlp: int) -> None:
        """The controller told that it changed zones."""
        for one in self._run.namespaces.all_of(function, nsid):
            self.forget(one.number, tlp)

    def stranger(self, function: Function, tlp: int) -> None:
        """A command completed that was not seen: it may have changed any zone."""
        if self._models:
            self.changed(function, BROADCAST, tlp)

    # -- a command's life ---------------------------------------------------------------------------------------

    def began(self, command: Command) -> None:
        """A command was fetched."""
        if command.opcode not in CHANGERS or (found := self.model_of(command)) is None:
            return
        model = found[1]
        model.flying += 1
        if command.opcode == Nvm.ZONE_MANAGEMENT_SEND and command.dword(13) & SELECT_ALL:
            self._begun[command.number] = None
            model.busy += 1
            for zone in model:
                zone.pure = False
            return
        zone = model.zone(_slba(command))
        zone.begin(_blocks(command) if command.opcode in WRITES else None, command.fetch_tlp)
        if not model.settled(command.fetch_tlp):
            zone.pure = False
        self._begun[command.number] = zone

    def ended(self, command: Command, last: int) -> None:
        """A command's life ended without a completion: whether it did anything is not known."""
        if command.number not in self._begun or (found := self.model_of(command)) is None:
            return
        zone, model = self._begun.pop(command.number), found[1]
        self._over(model, zone, last)
        if zone is None:
            model.forget(last)
        else:
            zone.pure = False
            zone.unknown()

    def _over(self, model: ZonedNamespace, zone: Zone | None, tlp: int) -> None:
        model.flying, model.changed = max(model.flying - 1, 0), max(model.changed, tlp)
        if zone is None:
            model.busy, model.end = max(model.busy - 1, 0), max(model.end, tlp)
        else:
            zone.busy, zone.end = max(zone.busy - 1, 0), max(zone.end, tlp)

    def completed(self, command: Command, digests: np.ndarray | None, tlp: int) -> None:
        """A command completed: say how it stands against what is known, and learn from it."""
        if command.opcode not in ABOUT_ZONES:
            self._begun.pop(command.number, None)
            return
        found = self.model_of(command)
        if found is None:
            self._begun.pop(command.number, None)
            self._row(command, Place(self._named(command), ZonedNamespace(1), None, False), {}, tlp, True)
            return
        namespace, model = found
        changes = command.number in self._begun
        everything = changes and self._begun[command.number] is None
        zone = None if everything else self._begun.get(command.number) or model.zone(_slba(command))
        calm = model.settled(command.fetch_tlp, int(everything))
        settled = calm and (zone is None or zone.settled(int(changes), command.fetch_tlp))
        place = Place(namespace, model, zone, settled)
        more: dict[str, Any] = {}
        status = _status(command)
        known = self._known(command, place, status) if zone is not None else {}
        if command.opcode == Nvm.READ and status.ok:
            more |= self._above(command, place, digests)
        elif command.opcode == Nvm.ZONE_MANAGEMENT_RECEIVE and status.ok:
            more |= Report(self._run, command, place, tlp).take()
        if changes:
            known |= self._learn(command, place, status, tlp)
        self._row(command, place, known | more, tlp)

    def _learn(self, command: Command, place: Place, status: Status, tlp: int) -> dict[str, Any]:
        """Take what a command that may change zones did; return what is wrong with the blocks it wrote."""
        writer, model, zone = self._run.output.first_transaction + command.number, place.model, place.zone
        if command.number in self._begun:
            del self._begun[command.number]
        if zone is None:
            self._over(model, None, tlp)
            if status.ok:
                self._all(command, place, writer, tlp)
            elif status not in NOTHING_DONE or status == spec.TOO_MANY_OPEN_ZONES:
                model.forget(tlp)
            return {}
        more: dict[str, Any] = {}
        if status.ok and command.opcode in WRITES:
            span = _written(command), _blocks(command)
            if zone.pure and zone.area is False:
                more["flaw"] = zone.flaw(*span)
            zone.ranges.append(span)
        elif not status.ok and status not in NOTHING_DONE:
            zone.pure = False
        elif status == spec.INVALID_ZONE_OPERATION:
            zone.area = None  # it has a Zone Random Write Area of which nobody saw
        alone = place.settled and zone.count == 1
        self._over(model, zone, tlp)
        if zone.busy:
            return more
        if zone.area is not False:
            self._in_area(command, zone, status, alone, writer)
        elif zone.pure:
            if zone.landed(writer) and not more.get("flaw"):
                more["flaw"] = "gap"
        elif status.ok and alone and command.opcode == Nvm.ZONE_MANAGEMENT_SEND:
            self._act(command, zone, writer)
        elif not (alone and status in NOTHING_DONE):
            zone.unknown()
        return more

    def _in_area(self, command: Command, zone: Zone, status: Status, alone: bool, writer: int) -> None:
        """A command ended in a zone that has a Zone Random Write Area, or may have one."""
        if alone and status in NOTHING_DONE:
            return
        if not (alone and status.ok):
            zone.unknown()
        elif command.opcode == Nvm.ZONE_MANAGEMENT_SEND:
            self._act(command, zone, writer)
        else:
            size, area = self._area_size(command), zone.area
            stays = (
                area
                and size is not None
                and zone.wp is not None
                and (_written(command) + _blocks(command) <= zone.wp + size)
            )
            opened = stays and not zone.possible & ~OPENED
            after = zone.possible if opened else ACTIVE | FULL
            zone.becomes(after, zone.wp if stays else None, WRITTEN, writer)

    def _area_size(self, command: Command) -> int | None:
        return self._named(command).zoned.value("ZRWASZ")

    def _act(self, command: Command, zone: Zone, writer: int) -> None:
        """An action on one zone succeeded."""
        action, wp = command.dword(13) & spec.SEND_ACTION, zone.wp
        if action not in ACTED:
            area, possible, capacity = zone.area, zone.possible, zone.capacity
            zone.unknown()
            zone.area, zone.capacity = area, capacity
            zone.possible = ANY_STATE if possible & ~OPENED else possible | FULL
            return
        possible, cause = ACTED[action]
        if action == ZoneSend.CLOSE and wp is not None and wp > zone.start:
            possible = CLOSED
        if action == ZoneSend.RESET:
            if not self._lacks(command, "ZOC", spec.VARIABLE_CAPACITY):
                zone.capacity = None
            zone.area, zone.extension, wp = False, None, zone.start
        elif action == ZoneSend.FINISH:
            zone.area = False
        elif action in (ZoneSend.OPEN, ZoneSend.SET_DESCRIPTOR_EXTENSION):
            asks = bool(command.dword(13) & spec.RANDOM_WRITE_AREA)
            if asks:
                zone.area = True
            elif action == ZoneSend.SET_DESCRIPTOR_EXTENSION:
                zone.area = False
        if action == ZoneSend.SET_DESCRIPTOR_EXTENSION:
            size = command.expected
            zone.extension = command.buffer.bytes(0, size) if command.buffer is not None and size else None
        if zone.area is not False and action in (ZoneSend.CLOSE, ZoneSend.OPEN) and zone.possible != EMPTY:
            wp = None if action == ZoneSend.CLOSE else wp
        zone.becomes(possible, wp if possible & WITH_WRITE_POINTER else None, cause, writer)

    def _all(self, command: Command, place: Place, writer: int, tlp: int) -> None:
        """An action on every zone succeeded."""
        action, model = command.dword(13) & spec.SEND_ACTION, place.model
        moved = MOVED_BY_ALL.get(action)
        if moved is None or not place.settled:
            model.forget(tlp)
            return
        for zone in model:
            if not zone.settled(0, command.fetch_tlp):
                zone.unknown()
            elif zone.possible & moved:
                stays = zone.possible & ~moved
                certain = not stays
                self._act(command, zone, writer)
                zone.possible |= stays
                zone.of_all = certain
                if not certain:
                    wp = zone.start if action == ZoneSend.RESET else zone.wp
                    zone.becomes(zone.possible, wp, None, writer)
            zone.end = tlp
        possible, reset, _, _ = model.others
        if possible & moved:
            possible = possible & ~moved | ACTED[action][0]
            model.others = possible, reset or action == ZoneSend.RESET, writer, tlp

    # -- the table ----------------------------------------------------------------------------------------------

    def _named(self, command: Command) -> Namespace:
        return self._run.namespaces.of(command.controller.function, command.dword(1))

    def _above(self, command: Command, place: Place, digests: np.ndarray | None) -> dict[str, Any]:
        """Look at the blocks that a read returned from above the write pointer."""
        zone, block = place.zone, place.namespace.block
        if digests is None or zone is None or block is None or not place.settled or zone.wp is None or zone.area:
            return {}
        if block.metadata or zone.area is None or zone.possible & ~WITH_WRITE_POINTER:
            return {}
        first = max(zone.wp - _slba(command), 0)
        rows = digests[first : max(zone.start + place.model.size - _slba(command), 0)]
        whole = rows["seen"] == block.data
        wanted = self._run.scoreboard.deallocated_digest(block)
        odd = None if wanted is None else int((whole & (rows["value"] != wanted)).sum())
        return {"above": int(whole.sum()), "above_odd": odd}

    def _known(self, command: Command, place: Place, status: Status) -> dict[str, Any]:
        """Return what is known of the zone, before the command is taken into account."""
        zone, model = place.zone, place.model
        assert zone is not None
        certain = place.settled
        excursions = not self._lacks(command, "ZOC", spec.ACTIVE_EXCURSIONS)
        possible = zone.due(excursions, False) & ~DEAD | zone.possible if certain else ANY_STATE
        row: dict[str, Any] = {
            "zone": zone.start, "zone_size": model.size, "capacity": zone.capacity, "states": possible,
            "wp": zone.wp if certain and not zone.possible & ~WITH_WRITE_POINTER else None, "area": zone.area,
        }  # fmt: skip
        pure = zone.pure and zone.area is False and zone.before[1] is not None
        if command.opcode == Nvm.ZONE_APPEND and status.ok:
            row["alba"] = _written(command)
            if pure and zone.before[1] is not None:
                row["wp_least"] = zone.before[1]
                row["wp_most"] = zone.before[1] + zone.wanted - _blocks(command)
        if self._opens(command, status) and model.total is not None and model.total <= MOST_COUNTED:
            for name, some, surely in (("open", OPENED, EXPLICIT), ("active", ACTIVE, ACTIVE)):
                counted, sure = model.others_in(some, zone.start), model.others_in(surely, zone.start)
                if counted is not None and sure is not None:
                    row[f"{name}_most"] = counted[1]
                    row[f"{name}_least"] = None if excursions else sure[0]
        return row

    def _opens(self, command: Command, status: Status) -> bool:
        """Whether a command may need an open or active zone more, or was refused for want of one."""
        if status in (spec.TOO_MANY_ACTIVE_ZONES, spec.TOO_MANY_OPEN_ZONES):
            return True
        if not status.ok or self._named(command).zoned.unlimited:
            return False
        zone = self._begun.get(command.number)
        if zone is None:
            return False
        if command.opcode in WRITES:
            return not zone.possible & OPENED
        return command.dword(13) & spec.SEND_ACTION in (ZoneSend.OPEN, ZoneSend.SET_DESCRIPTOR_EXTENSION)

    def _lacks(self, command: Command, field: str, bit: int) -> bool:
        """Whether Identify told that a namespace does not do something."""
        value = self._named(command).zoned.value(field)
        return value is not None and not value & bit

    def _row(self, command: Command, place: Place, known: dict[str, Any], tlp: int, vague: bool = False) -> None:
        run, function, namespace = self._run, command.controller.function, place.namespace
        status, word, opcode = _status(command), command.dword(13), command.opcode
        send, receive = opcode == Nvm.ZONE_MANAGEMENT_SEND, opcode == Nvm.ZONE_MANAGEMENT_RECEIVE
        across = namespace.zoned.value("OZCS")
        row: dict[str, Any] = {
            "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
            "controller": function.cntlid, "transaction_id": run.output.first_transaction + command.number,
            "opcode": opcode, "nsid": command.dword(1), "sct": status.sct, "sc": status.sc, "slba": _slba(command),
            "blocks": _blocks(command) if opcode in SPANS else None,
            "action": word & 0xFF if send or receive else None,
            "select_all": bool(word & SELECT_ALL) if send else None,
            "partial": bool(word & spec.PARTIAL_REPORT) if receive else None,
            "filter": word >> 8 & 0xFF if receive else None,
            "remap": bool(command.dword(12) & REMAP_REFERENCE) if opcode == Nvm.ZONE_APPEND else None,
            "zone": None, "zone_size": None if vague else place.model.size, "capacity": None, "states": ANY_STATE,
            "wp": None, "area": None, "area_size": namespace.zoned.value("ZRWASZ"), "alba": None, "wp_least": None,
            "wp_most": None, "flaw": None, "across": None if across is None else bool(across & spec.ACROSS_BOUNDARIES),
            "append_limit": function.append_limit, "bytes": command.expected if command.certain else None,
            "moved": _moved(command), "protection": namespace.protection,
            "open_least": None, "open_most": None, "active_least": None, "active_most": None,
            "open_limit": namespace.zoned.limit("MOR"), "active_limit": namespace.zoned.limit("MAR"),
            "above": None, "above_odd": None, "zones_counted": None, "zones_fit": None, "zones_due": None,
            "listed_bytes": None, "report_flaw": None, "report_zone": None, "unwanted": None, "reported_open": None,
            "reported_active": None, "shared": namespace.shared, "time_ps": command.cqe_ps, "tlp_id": tlp,
            "learnt": spool.LEARNT[command.sq.learnt] if run.whole(function.link) else "inferred",
        }  # fmt: skip
        run.store.writer("zone_commands").add(row | known)


def _slba(command: Command) -> int:
    return command.qword(40)


def _blocks(command: Command) -> int:
    return (command.dword(12) & 0xFFFF) + 1


def _written(command: Command) -> int:
    """Return the first block that a write wrote: an append tells it when it completes."""
    if command.opcode == Nvm.ZONE_APPEND and command.cqe is not None:
        return int.from_bytes(command.cqe[:8], "little")
    return _slba(command)


def _status(command: Command) -> Status:
    assert command.cqe is not None
    word = (command.cqe[14] | command.cqe[15] << 8) >> 1
    return Status(word >> 8 & 7, word & 0xFF)


def _moved(command: Command) -> int | None:
    """Return the bytes that moved of a command's data, None where that is not certain."""
    if (
        not command.data_decoded
        or not command.certain
        or isinstance(command.transfer, SglTransfer)
        or facts.known(command, "buffer_shared") is True
    ):
        return None
    return command.moved[0] if command.opcode & 3 == 1 else command.moved[1] - command.moved_beside[1]


__all__ = ["WRITTEN", "Place", "Zones"]
