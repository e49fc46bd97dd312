"""What a controller returns as a state, what it makes of one, and what it tells of a data queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lmtrace.spec.layout import Layout, describe_bits
from lmtrace.spec.migration import (
    CONTROLLER_STATE_HEADER,
    IO_CQ_STATE,
    IO_SQ_STATE,
    NVME_CONTROLLER_STATE,
)
from lmtrace.spec.nvme import Admin, Feature
from lmtrace_samples.commands import Controller
from lmtrace_samples.engine import Engine
from lmtrace_samples.fault import instead
from lmtrace_samples.management import ManagementController
from lmtrace_samples.mutation import CONTROLLER, Chance, mutation
from lmtrace_samples.queues import Command, CompletionQueue
from lmtrace_samples.simulation import Steps
from lmtrace_samples.state import HEADER, Transfer
from lmtrace_samples.world import World

FORM = "HMLM-5.1.17.1.3-n1"
RULES = {
    "Controller State": {"VER": FORM, "CP": "HMLM-5.1.16.1.1-n7", "NVMECSS": "HMLM-5.1.17.1.3-n2"},
    "NVMe Controller State": {
        "VER": FORM, "NIOSQ": "HMLM-5.1.17.1.3-n2 HMLM-5.1.17.1.3-n4",
        "NIOCQ": "HMLM-5.1.17.1.3-n2 HMLM-5.1.17.1.3-n4",
    },
    "I/O Submission Queue State": {
        **dict.fromkeys(("IOSQPRP1", "IOSQQSIZE", "IOSQCQID", "PC", "QPRIO"), "HMLM-5.1.17.1.3-n5"),
        "IOSQQID": "HMLM-5.1.17.1.3-n4 HMLM-5.1.17.1.3-n3 HMLM-5.1.17.1.3-n5",
        "IOSQHP": "HMLM-5.1.17.1.3-n7", "IOSQTP": "HMLM-5.1.17.1.3-n7",
    },
    "I/O Completion Queue State": {
        **dict.fromkeys(("IOCQPRP1", "IOCQQSIZE", "PC", "IEN", "IV"), "HMLM-5.1.17.1.3-n6"),
        "IOCQQID": "HMLM-5.1.17.1.3-n4 HMLM-5.1.17.1.3-n3 HMLM-5.1.17.1.3-n6",
        "IOCQHP": "HMLM-5.1.17.1.3-n8", "IOCQTP": "HMLM-5.1.17.1.3-n8", "S0PT": "HMLM-5.1.17.1.3-n9",
    },
}  # fmt: skip
"""What a wrong field of a returned state breaks; what is not here breaks nothing that can be seen."""
WHILE_SUSPENDED = frozenset({"I/O Submission Queue State", "I/O Completion Queue State"})
"""Structures that are judged against the wire only when their controller was suspended."""


@mutation
def returned(world: World, chance: Chance) -> None:
    """Data that a managing controller writes into a host's buffer."""
    for side in world.sides:
        instead(side.manager, "to_host", _to_host(side.manager, chance))
        instead(side.manager, "commit", _commit(chance))


@dataclass(frozen=True)
class _Part:
    layout: Layout
    start: int


def _parts(state: bytes) -> Iterator[_Part]:
    yield _Part(CONTROLLER_STATE_HEADER, 0)
    if not CONTROLLER_STATE_HEADER["NVMECSS"].of(state[:HEADER]):
        return
    yield _Part(NVME_CONTROLLER_STATE, HEADER)
    head = NVME_CONTROLLER_STATE.decode(state, HEADER)
    at = HEADER + NVME_CONTROLLER_STATE.size
    for layout, count in ((IO_SQ_STATE, head["NIOSQ"]), (IO_CQ_STATE, head["NIOCQ"])):
        for _ in range(count):
            yield _Part(layout, at)
            at += layout.size


def _to_host(manager: ManagementController, chance: Chance) -> Callable[..., Steps[None]]:
    def to_host(original: Callable[..., Steps[None]], command: Command, data: bytes) -> Steps[None]:
        if command.queue.qid == 0 and command.opcode == Admin.MIGRATION_RECEIVE and data:
            data = _state(manager, command, data, chance)
        elif command.opcode == Admin.GET_FEATURES and command.bits(10, 7, 0) == Feature.CONTROLLER_DATA_QUEUE:
            data = _feature(data, chance)
        yield from original(command, data)

    return to_host


def _state(manager: ManagementController, command: Command, data: bytes, chance: Chance) -> bytes:
    """Change one field of what Get Controller State returns."""
    target = manager.subsystem.controllers[command.bits(11, 15, 0)]
    suspended = target.suspended_by is not None
    offset = command.cdw[13] << 32 | command.cdw[12]
    whole = manager.state(target, command.bits(10, 23, 16), command.bits(11, 23, 16), suspended)
    for part in _parts(whole):
        if part.start < offset or part.start + part.layout.size > offset + len(data):
            continue
        changed = _changed(part, whole, suspended, chance)
        if changed is not None:
            at = part.start - offset
            return data[:at] + changed + data[at + part.layout.size :]
    if len(data) < 4 * (command.cdw[15] + 1):
        return data
    text = "Get Controller State returns four bytes more than the host asked for."
    return data + bytes(4) if chance.strikes("state-too-long", CONTROLLER, "HMLM-5.1.16-n4", text) else data


def _changed(part: _Part, state: bytes, suspended: bool, chance: Chance) -> bytes | None:
    layout, rng = part.layout, chance.rng()
    held = state[part.start : part.start + layout.size]
    number = int.from_bytes(held, "little")
    reserved = [bit for bit in range(8 * layout.size) if layout.reserved_mask >> bit & 1]
    bit = rng.choice(reserved)
    text = f"{layout.name} has a reserved bit set: {describe_bits([bit])}."
    if chance.strikes("state-reserved-bit", CONTROLLER, FORM, text):
        return (number | 1 << bit).to_bytes(layout.size, "little")
    if layout.name in WHILE_SUSPENDED and not suspended:
        return None
    for name, rules in RULES[layout.name].items():
        field = layout[name]
        if name == "S0PT" and layout["IOCQTP"].of(held) == 0:
            continue
        if name == "IV" and not layout["IEN"].of(held):
            continue
        old = field.of(held)
        new = old ^ 1 << rng.randrange(min(field.width, 12 if name != "IOSQPRP1" and name != "IOCQPRP1" else 40))
        text = f"{layout.name} has {name} {new} instead of {old}."
        if chance.strikes(f"state-{name}", CONTROLLER, rules, text):
            number = number & ~(((1 << field.width) - 1) << field.lo) | new << field.lo
            return number.to_bytes(layout.size, "little")
    return None


def _feature(data: bytes, chance: Chance) -> bytes:
    """Change what Get Features tells of a data queue."""
    rng = chance.rng()
    head = int.from_bytes(data[:4], "little")
    wrong = head + rng.choice((1, 2, 5))
    text = f"Get Features tells head {wrong} of a data queue instead of {head}."
    if chance.strikes("feature-head", CONTROLLER, "HMLM-5.1.25.1.23-n8", text):
        return wrong.to_bytes(4, "little") + data[4:]
    place = rng.randrange(8, 512)
    text = f"Get Features returns something in byte {place}, which is reserved."
    if chance.strikes("feature-reserved", CONTROLLER, "HMLM-5.1.25.1.23-n8", text):
        return data[:place] + b"\x40" + data[place + 1 :]
    return data


def _commit(chance: Chance) -> Callable[..., None]:
    def commit(original: Callable[..., None], transfer: Transfer, target: Engine) -> None:
        original(transfer, target)
        if isinstance(target, Controller) and any(target.sqs):
            _restored(target, chance)

    return commit


def _restored(target: Controller, chance: Chance) -> None:
    """Let a controller make something else of a state than it says."""
    rng = chance.rng()
    sqs = [queue for qid, queue in sorted(target.sqs.items()) if qid]
    cqs = [queue for qid, queue in sorted(target.cqs.items()) if qid]
    for sq in sqs:
        step = rng.choice((1, 2, -1))
        text = f"The head of SQ {sq.qid} is restored {step:+d} slots off."
        if chance.strikes("restored-sq-head", CONTROLLER, "HMLM-5.1.17.1.2-n6 HMLM-5.1.17.1.3-n33", text):
            sq.head = (sq.head + step) % sq.size
        text = f"SQ {sq.qid} is restored at another address."
        if chance.strikes("restored-sq-base", CONTROLLER, "HMLM-5.1.17.1.2-n6 HMLM-5.1.17.1.3-n33", text):
            sq.base ^= 1 << rng.randrange(12, 24)
        others = [one.qid for one in cqs if one.qid != sq.cqid]
        text = f"SQ {sq.qid} is restored with another completion queue."
        if others and chance.strikes("restored-sq-cqid", CONTROLLER, "HMLM-5.1.17.1.2-n10", text):
            sq.cqid = rng.choice(others)
    for cq in cqs:
        _restored_completions(target, cq, chance)


def _restored_completions(target: Controller, cq: CompletionQueue, chance: Chance) -> None:
    rng = chance.rng()
    step = rng.choice((1, 2, -1))
    text = f"The tail of CQ {cq.qid} is restored {step:+d} slots off."
    if chance.strikes("restored-cq-tail", CONTROLLER, "HMLM-5.1.17.1.2-n8 HMLM-5.1.17.1.3-n33", text):
        cq.tail = (cq.tail + step) % cq.size
    text = f"CQ {cq.qid} is restored with the other phase."
    if cq.tail and chance.strikes("restored-cq-phase", CONTROLLER, "HMLM-5.1.17.1.2-n9", text):
        cq.phase ^= 1
    text = f"CQ {cq.qid} is restored at another address."
    if chance.strikes("restored-cq-base", CONTROLLER, "HMLM-5.1.17.1.2-n8 HMLM-5.1.17.1.3-n33", text):
        cq.base ^= 1 << rng.randrange(12, 24)
    text = f"CQ {cq.qid} is restored with another vector."
    if cq.enabled and chance.strikes("restored-cq-vector", CONTROLLER, "HMLM-5.1.17.1.2-n11", text):
        cq.vector ^= 2
    text = f"CQ {cq.qid} is restored with interrupts although it has none."
    if not cq.enabled and chance.strikes("restored-cq-interrupts", CONTROLLER, "HMLM-5.1.17.1.2-n11", text):
        cq.enabled, cq.vector = True, 3
