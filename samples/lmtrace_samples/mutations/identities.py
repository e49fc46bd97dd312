"""What controllers say that they are and can do, and what hosts do not care to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import OACS_HMLMS, Admin, Cns
from lmtrace_samples.commands import CONTROLLER_SCOPE, Controller
from lmtrace_samples.driver import Driver
from lmtrace_samples.fault import instead
from lmtrace_samples.management import ManagementController
from lmtrace_samples.mutation import CONTROLLER, HOST, Chance, mutation
from lmtrace_samples.simulation import NS, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

TRACKS_MEMORY, LOGS_CHANGES = 1, 2
RESERVED_ATTRIBUTES = 0xF8


@mutation
def claims(world: World, chance: Chance) -> None:
    """Fields of Identify data."""
    for side in world.sides:
        for controller in side.subsystem.controllers.values():
            instead(controller, "identify_fields", _fields(controller, side.drivers[0], chance))
        instead(side.manager, "identify_data", _data(chance))
        instead(side.manager, "feature_scopes", _scopes(chance))
        instead(side.drivers[0], "identify", _identify(side.drivers[0], chance))


def _fields(controller: Controller, manager: Driver, chance: Chance) -> Callable[..., dict[str, int]]:
    manages = isinstance(controller, ManagementController)

    def fields(original: Callable[[], dict[str, int]]) -> dict[str, int]:
        made, rng = original(), chance.rng()
        tracks = made.get("TRATTR", 0)
        who = f"Controller {controller.cntlid}"
        changes: list[tuple[str, str, dict[str, int], bool]] = []
        if manages:
            host_memory = {"HMPRE": rng.choice((1, 16, 1024))}
            changes.append(("host-memory-buffer", "HMLM-5.1.13.2.1-n3", host_memory, False))
        elif manager.queues:  # else nothing shows that the controller is a secondary one
            changes.append(("claims-management", "HMLM-5.1.13.2.1-n2", {"OACS": OACS_HMLMS}, False))
        if not tracks & TRACKS_MEMORY:
            name = rng.choice(("CMMRTD", "NMMRTD", "MINMRTG", "MAXMRTG"))
            changes.append(("tracking-limits", "HMLM-5.1.13.2.1-n4", {name: rng.randrange(1, 9)}, False))
        if not tracks & LOGS_CHANGES:
            name = rng.choice(("MCUDMQ", "MNSUDMQ"))
            changes.append(("queue-limits", "HMLM-5.1.13.2.1-n5", {name: rng.randrange(1, 9)}, False))
        else:
            none = rng.choice(("MCUDMQ", "MNSUDMQ"))
            changes.append(("queue-limit-zero", "HMLM-5.1.13.2.1-n8", {none: 0}, True))
            less = max(made.get("MNSUDMQ", 0) - 1, 0)
            changes.append(("fewer-queues", "HMLM-5.1.13.2.1-n8", {"MNSUDMQ": less}, True))
        if made.get("MCMR", 0) > 1:
            changes.append(("fewer-ranges", "HMLM-5.1.13.2.1-n6", {"NMCMR": made["MCMR"] - 1}, False))
        bit = rng.choice([bit for bit in range(8) if RESERVED_ATTRIBUTES >> bit & 1])
        changes.append(("reserved-attribute", "HMLM-5.1.13.2.1-n6", {"TRATTR": tracks | 1 << bit}, False))
        for kind, rules, change, info in changes:
            text = f"{who} claims {', '.join(f'{name} {value:X}h' for name, value in change.items())}."
            if chance.strikes(kind, CONTROLLER, rules, text, info=info):
                return made | change
        return made

    return fields


def _data(chance: Chance) -> Callable[..., bytes]:
    def data(original: Callable[..., bytes], cns: int, command: Any) -> bytes:
        made = original(cns, command)
        if cns != Cns.CONTROLLER_STATE_FORMATS:
            return made
        rng = chance.rng()
        version, place = rng.randrange(1, 0x10000), rng.randrange(len(made), PAGE)
        text = "The lists of state formats are longer than the data."
        if chance.strikes("formats-do-not-fit", CONTROLLER, "HMLM-5.1.13.2.21-n1", text):
            return bytes([rng.randrange(1, 256), 255]) + made[2:]
        text = f"The controller lists state version {version:X}h."
        if chance.strikes("version-unknown", CONTROLLER, "HMLM-5.1.13.2.21-n2", text, info=True, shared=True):
            return made[:2] + version.to_bytes(2, "little") + made[4:]
        text = f"Byte {place}, which is behind the lists of state formats, is not zero."
        if chance.strikes("formats-trailed", CONTROLLER, "HMLM-5.1.13.2.21-n1", text, info=True):
            return made.ljust(place, b"\0") + b"\x11"
        return made

    return data


def _scopes(chance: Chance) -> Callable[..., dict[int, int]]:
    def scopes(original: Callable[[], dict[int, int]]) -> dict[int, int]:
        made = original()
        text = "Feature 21h is listed with the scope of the controller."
        if chance.strikes("feature-misplaced", CONTROLLER, "HMLM-5.1.12.1.18-n1", text, info=True):
            return made | {0x21: CONTROLLER_SCOPE}
        return made

    return scopes


def _identify(driver: Driver, chance: Chance) -> Callable[..., Steps[bytes]]:
    unread = {
        Cns.CONTROLLER_STATE_FORMATS: ("HMLM-5.1.13.2.21-n3", Admin.MIGRATION_RECEIVE),
        Cns.IO_CONTROLLER: ("HMLM-5.1.13.2.1-n11", Admin.CONTROLLER_DATA_QUEUE),
    }
    relied: set[int] = set()

    def entry(original: Callable[[int, bytes], bytes], qid: int, sqe: bytes) -> bytes:
        made = original(qid, sqe)
        relied.update(made[:1] if qid == 0 else b"")
        return made

    def identify(original: Callable[..., Steps[bytes]], cns: int, *more: Any, **named: Any) -> Steps[bytes]:
        if cns in unread:
            rules, opcode = unread.pop(Cns(cns))
            text = f"The host does not read Identify data {cns:X}h before it relies on them."
            if chance.strikes("not-read", HOST, rules, text, info=True, proof=lambda: opcode in relied):
                yield 100 * NS
                return bytes(PAGE)
        return (yield from original(cns, *more, **named))

    instead(driver, "entry", entry)
    return identify
