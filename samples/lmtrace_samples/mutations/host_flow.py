"""The steps of a managing host: which come, in which order, and what they carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lmtrace.spec.migration import CONTROLLER_STATE_HEADER, SequenceIndicator
from lmtrace.spec.nvme import SUCCESS, Property
from lmtrace_samples.driver import Ticket
from lmtrace_samples.fault import instead
from lmtrace_samples.manager import Manager
from lmtrace_samples.mutation import HOST, Chance, mutation
from lmtrace_samples.simulation import NS, Steps
from lmtrace_samples.world import World

MIDDLE, FIRST, LAST, ONLY = SequenceIndicator
CHANGED = "HMLM-5.1.17.1.3-n37"
GAP = "HMLM-5.1.17.1.3-n23"
WHOLE = "HMLM-5.1.17.1.3-n24"
TOGETHER = "HMLM-5.1.17.1.3-n22"
TOO_EARLY = "HMLM-5.1.16.1.1-n9"
WITH_ONE_STATE = frozenset({
    "migration", "state-in-one", "state-in-pieces", "migration-two-captures", "migration-two-links",
    "migration-after-full-log",
})  # fmt: skip
"""Scenarios in which a source is suspended once, and its state is set."""
CSATTR = 2
"""The byte of a state that may differ at the destination."""


@mutation
def suspension(world: World, chance: Chance) -> None:
    """Suspending the source, and leaving it alone."""
    early: list[bytes] = []

    def suspend(original: Callable[..., Steps[None]], manager: Manager, cntlid: int, delete: bool) -> Steps[None]:
        if world.name in WITH_ONE_STATE:
            text = "The host reads the state before it suspends the source."
            if chance.strikes("state-read-early", HOST, TOO_EARLY, text):
                early.append((yield from manager.get_state(cntlid, 1, int(world.choices.vendor_state > 0))))
            text = "The host only announces the suspension of the source, and goes on as if it were suspended."
            if chance.strikes("suspension-left-out", HOST, f"{TOO_EARLY} HMLM-5.1.17.1.1-n13", text):
                yield from manager.notify(cntlid)
                return
        yield from original(manager, cntlid, delete)

    def while_suspended(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        place = chance.rng().choice((Property.AQA, Property.ASQ, Property.ACQ))
        text = f"The host writes {place.name} of the suspended source."
        if chance.strikes("suspended-modified", HOST, f"HMLM-5.1.17.1.1-n11 {TOO_EARLY}", text):
            manager.side.drivers[cntlid].write(place, 0x1F_001F)

    def read_state(
        original: Callable[..., Steps[bytes]], manager: Manager, cntlid: int, pieces: int, vendor: int
    ) -> Steps[bytes]:
        if early:
            yield 1 * NS
            return early[0]
        text = "The host resumes the source before it reads its state."
        if world.name in WITH_ONE_STATE and chance.strikes("resumed-too-early", HOST, TOO_EARLY, text):
            yield from manager.resume(cntlid)
        others = [one.cntlid for one in manager.side.subsystem.controllers.values() if one.cntlid and one.enabled]
        other = chance.rng().choice([one for one in others if one != cntlid] or [cntlid])
        text = f"The host reads the state of controller {other}, which runs, for that of the source."
        if other != cntlid and chance.strikes("state-of-another", HOST, TOO_EARLY, text):
            cntlid = other
        instead(manager, "get", _get(pieces, chance))
        state = yield from original(manager, cntlid, pieces, vendor)
        vars(manager).pop("get", None)
        return state

    instead(world, "suspend", suspend)
    instead(world, "while_suspended", while_suspended)
    instead(world, "read_state", read_state)


def _get(pieces: int, chance: Chance) -> Callable[..., Steps[bytes]]:
    def get(
        original: Callable[..., Steps[bytes]], cntlid: int, offset: int, length: int, *more: Any, **named: Any
    ) -> Steps[bytes]:
        text = "The host leaves sixteen bytes out when it reads the state, and takes the next ones for them."
        rules = f"HMLM-5.1.16.1.1-n10 {CHANGED}"
        if pieces > 1 and offset and chance.strikes("state-read-with-gap", HOST, rules, text):
            offset += 16
        return (yield from original(cntlid, offset, length, *more, **named))

    return get


@mutation
def sending(world: World, chance: Chance) -> None:
    """Sending the state to the destination."""

    def set_state(
        original: Callable[..., Steps[None]], manager: Manager, cntlid: int, state: bytes, pieces: int, vendor: int
    ) -> Steps[None]:
        state = _spoilt(state, chance)
        instead(manager, "set", _set(state, chance))
        yield from original(manager, cntlid, state, pieces, vendor)
        vars(manager).pop("set", None)
        text = "The host sends the state again, over the queues that it has just restored."
        queues = CONTROLLER_STATE_HEADER["NVMECSS"].of(state) > 2
        if queues and chance.strikes("state-sent-twice", HOST, "HMLM-5.1.17.1.3-n12", text):
            yield from original(manager, cntlid, state, pieces, vendor)

    instead(world, "set_state", set_state)


def _spoilt(state: bytes, chance: Chance) -> bytes:
    """Change a bit of the state on its way."""
    rng = chance.rng()
    header = [at for at in range(CONTROLLER_STATE_HEADER.size) if at != CSATTR]
    for kind, places in (("header", header), ("body", range(CONTROLLER_STATE_HEADER.size, len(state)))):
        at, bit = rng.choice(places), rng.randrange(8)
        text = f"The host inverts bit {bit} of byte {at} of the state on its way."
        if chance.strikes(f"state-{kind}-changed", HOST, f"{CHANGED} HMLM-5.1.17.1.3-n31 {GAP} {WHOLE}", text):
            return state[:at] + bytes([state[at] ^ 1 << bit]) + state[at + 1 :]
    return state


def _set(state: bytes, chance: Chance) -> Callable[..., Steps[Ticket | None]]:
    def send(
        original: Callable[..., Steps[Ticket]],
        cntlid: int,
        sequence: int,
        offset: int,
        data: bytes,
        expect: Any = SUCCESS,
        version: int = 1,
        vendor: int = 0,
    ) -> Steps[Ticket | None]:
        for how in _ways(sequence, offset, data, len(state), version, vendor, chance):
            if how is None:
                yield 1 * NS
                return None
            sequence, offset, data, version, vendor = how
        return (yield from original(cntlid, sequence, offset, data, expect, version=version, vendor=vendor))

    return send


Part = tuple[int, int, bytes, int, int]


def _ways(
    sequence: int, offset: int, data: bytes, total: int, version: int, vendor: int, chance: Chance
) -> Iterator[Part | None]:
    """Yield how else a part is sent, or None when it is not sent at all."""
    lack = WHOLE if sequence == ONLY else GAP
    if sequence == MIDDLE:
        if chance.strikes("part-left-out", HOST, GAP, "The host leaves a part of the state out."):
            yield None
        if chance.strikes("only-in-sequence", HOST, TOGETHER, "The host sends a part in the middle as the only one."):
            yield ONLY, offset, data, version, vendor
    if sequence in (MIDDLE, LAST):
        text = "The host names another vendor format in the middle of a sequence."
        if chance.strikes("vendor-format-changed", HOST, TOGETHER, text):
            yield sequence, offset, data, version, vendor ^ 1
        text = "The host names another version in the middle of a sequence."
        if chance.strikes("version-changed", HOST, TOGETHER, text):
            yield sequence, offset, data, version ^ 1, vendor
    if data and sequence != FIRST:
        text = "The host sends a part sixteen bytes behind its place."
        if chance.strikes("part-displaced", HOST, lack, text):
            yield sequence, offset + 16, data, version, vendor
    if data and sequence in (LAST, ONLY):
        text = "The host leaves the last four bytes of the state out."
        if chance.strikes("end-left-out", HOST, lack, text):
            yield sequence, offset, data[:-4], version, vendor
        text = "The host sends eight bytes more than the state has."
        if chance.strikes("more-than-the-state", HOST, lack, text):
            yield sequence, offset, data + bytes(8), version, vendor
    if sequence != LAST:
        text = "The host sends a part without data that is not the last."
        if chance.strikes("empty-part", HOST, "HMLM-5.1.17.1.3-n17", text):
            yield sequence, offset, b"", version, vendor
    if sequence == FIRST:
        text = "The host begins the sequence with a part in the middle."
        if chance.strikes("first-as-middle", HOST, TOGETHER, text):
            yield MIDDLE, offset, data, version, vendor
    if sequence == LAST:
        text = "The host never ends the sequence, and resumes."
        if chance.strikes("sequence-not-ended", HOST, f"HMLM-8.1.12.1-n7 {TOGETHER}", text):
            yield MIDDLE, offset, data, version, vendor


@mutation
def ending(world: World, chance: Chance) -> None:
    """What comes after the migration, and before a reset."""

    def afterwards(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        text = "The host resumes the source although the destination runs."
        if chance.strikes("source-resumed-too", HOST, "HMLM-5.1.17.1.2-n13 HMLM-8.1.12.1-n11", text):
            yield from manager.resume(cntlid)
        queue = manager.side.subsystem.queue_of(cntlid)
        text = "The host ends without deleting the data queue of the source."
        seen = world.sides[0] is world.sides[-1]
        if seen and queue is not None and chance.strikes("data-queue-left", HOST, "HMLM-5.1.4.1.2-n4", text):
            yield world.clock.signal()

    def before_reset(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        text = "The host resets the managing controller while a controller is suspended through it."
        if chance.strikes("manager-reset-in-migration", HOST, "HMLM-8.2.6.3-n2", text):
            yield from manager.suspend(cntlid)
        yield from original(manager, cntlid)

    instead(world, "afterwards", afterwards)
    instead(world, "before_reset", before_reset)
