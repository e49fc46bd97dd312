"""What a controller writes into a data queue, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.layout import describe_bits
from lmtrace.spec.migration import CDQ_ENTRY, CDQ_ENTRY_SIZE, EntrySequence
from lmtrace_samples.dataqueue import NO_RANGE, DataQueue
from lmtrace_samples.fault import instead
from lmtrace_samples.function import Function
from lmtrace_samples.mutation import CONTROLLER, Chance, Proof, mutation
from lmtrace_samples.world import World

ORDINARY, FIRST, STOPPED = EntrySequence.ORDINARY, EntrySequence.FIRST, EntrySequence.STOPPED
SUSPENDED, FULL = EntrySequence.SUSPENDED, EntrySequence.FULL
CLOSING = (STOPPED, SUSPENDED, FULL)
RESERVED_RANGE = 3
ENDS = {STOPPED: "HMLM-NCS.5.6-n10", SUSPENDED: "HMLM-NCS.5.6-n11", FULL: "HMLM-NCS.5.6-n12"}
MISSING = {
    FIRST: "HMLM-NCS.4.1.8-n3 HMLM-5.1.17.1.2-n15",
    STOPPED: "HMLM-NCS.4.1.8-n4",
    SUSPENDED: "HMLM-5.1.17.1.1-n19",
    FULL: "HMLM-NCS.5.6-n13",
}


@mutation
def written(world: World, chance: Chance) -> None:
    """Each entry as it is written."""
    for side in world.sides:
        instead(side.manager, "new_data_queue", _made(world, chance))


def _made(world: World, chance: Chance) -> Callable[..., DataQueue]:
    def made(original: Callable[..., DataQueue], *given: Any) -> DataQueue:
        queue = original(*given)
        ranges = Ranges(queue)
        instead(queue, "changed", ranges.change)
        instead(queue, "write", _write(queue, world, chance, ranges))
        return queue

    return made


class Ranges:
    """What the entries of one queue name, to tell whether what one of them lacks is a loss that shows."""

    def __init__(self, queue: DataQueue) -> None:
        self.queue = queue
        self.blocks: list[range] = []
        self.kinds: list[int] = []
        self.changed: list[range] = []

    def change(self, original: Callable[..., None], nsid: int, first: int, count: int, *rest: Any) -> None:
        """Note blocks that change while they are logged, before they are rounded or put together with others."""
        if self.queue.logging and not self.queue.closed:
            self.changed.append(range(first, first + count))
        original(nsid, first, count, *rest)

    def add(self, entry: bytes) -> int:
        """Note the range of an entry, and return its number."""
        first, count = CDQ_ENTRY["SLBA"].of(entry), CDQ_ENTRY["NLB"].of(entry) + 1
        self.blocks.append(range(first, first + count if CDQ_ENTRY["LBACIR"].of(entry) == 0 else first))
        self.kinds.append(CDQ_ENTRY["ESA"].of(entry))
        return len(self.blocks) - 1

    def lacks(self, number: int, blocks: range) -> Proof:
        """Return whether some of these blocks changed and are named by no entry but the one of this number.

        Nobody can tell unless the log is ended in order: what a reset or a full queue ends has no last entry.
        """

        def proof() -> bool:
            end = next((kind for kind in self.kinds[number + 1 :] if kind in CLOSING), None)
            others = [one for index, one in enumerate(self.blocks) if index != number]
            changed = [block for block in blocks if any(block in one for one in self.changed)]
            return end in (STOPPED, SUSPENDED) and any(all(block not in one for one in others) for block in changed)

        return proof


def _write(queue: DataQueue, world: World, chance: Chance, ranges: Ranges) -> Callable[..., None]:
    def write(original: Callable[..., None], slot: int, entry: bytes, function: Function) -> None:
        number = ranges.add(entry)
        kind = EntrySequence(CDQ_ENTRY["ESA"].of(entry))
        changed = (
            _fields(entry, chance)
            or _sequence(kind, entry, chance)
            or (
                _range(queue, world, entry, chance, ranges, number)
                if CDQ_ENTRY["LBACIR"].of(entry) == 0
                else _marker(entry, chance)
            )
        )
        if changed is not None:
            original(slot, changed, function)
        elif not _placed(original, queue, slot, entry, function, chance, ranges.lacks(number, ranges.blocks[number])):
            original(slot, entry, function)

    return write


def _with(entry: bytes, **values: int) -> bytes:
    """Return an entry with some fields changed."""
    return CDQ_ENTRY.encode(**CDQ_ENTRY.decode(entry) | values)


def _fields(entry: bytes, chance: Chance) -> bytes | None:
    """What no entry may have."""
    rng = chance.rng()
    bit = rng.choice([bit for bit in range(256) if CDQ_ENTRY.reserved_mask >> bit & 1])
    text = f"An entry has a reserved bit set: {describe_bits([bit])}."
    if chance.strikes("reserved-entry-bit", CONTROLLER, "HMLM-NCS.5.6-n1", text):
        return (int.from_bytes(entry, "little") | 1 << bit).to_bytes(CDQ_ENTRY_SIZE, "little")
    code = rng.choice((4, 5, 6))
    text = f"An entry has the reserved sequence code {code}."
    if chance.strikes("reserved-sequence", CONTROLLER, "HMLM-NCS.5.6-n2", text):
        return _with(entry, ESA=code)
    text = "An entry has a reserved code for its range."
    if chance.strikes("reserved-range", CONTROLLER, "HMLM-NCS.5.6-n3", text):
        return _with(entry, LBACIR=RESERVED_RANGE)
    if chance.strikes("phase-tag", CONTROLLER, "HMLM-8.1.6.2-n2", "An entry has the phase tag of the other pass."):
        return _with(entry, CDQP=CDQ_ENTRY["CDQP"].of(entry) ^ 1)
    return None


def _sequence(kind: EntrySequence, entry: bytes, chance: Chance) -> bytes | None:
    """Entries that say something else of the log than is true."""
    if kind == ORDINARY:
        text = "An entry in mid log says that the log begins."
        if chance.strikes("first-in-mid-log", CONTROLLER, "HMLM-NCS.5.6-n9", text):
            return _with(entry, ESA=FIRST)
    for end, rule in ENDS.items():
        if kind != end and kind != FIRST:
            text = f"An entry that is {kind.name.lower()} says {end.name.lower()}."
            rules = f"{rule} {MISSING[kind]}" if kind in MISSING else rule
            # A host that reads of a full log has to copy all anew, and does not.
            shared = end == FULL
            if chance.strikes(f"{kind.name.lower()}-as-{end.name.lower()}", CONTROLLER, rules, text, shared=shared):
                return _with(entry, ESA=end)
    if kind != ORDINARY:
        text = f"An entry that is {kind.name.lower()} says that it is an ordinary one."
        rules = MISSING[kind] + (" HMLM-NCS.5.6-n4" if CDQ_ENTRY["LBACIR"].of(entry) else "")
        if chance.strikes(f"{kind.name.lower()}-as-ordinary", CONTROLLER, rules, text):
            return _with(entry, ESA=ORDINARY)
    return None


def _range(queue: DataQueue, world: World, entry: bytes, chance: Chance, ranges: Ranges, number: int) -> bytes | None:
    """Ranges that are not those that changed."""
    rng = chance.rng()
    fields = CDQ_ENTRY.decode(entry)
    side = next(one for one in world.sides if one.subsystem is queue.owner.subsystem)
    namespace = side.subsystem.namespaces[fields["NSID"]]
    nsid = rng.choice((0, 2, 9, 0xFFFFFFFF))
    if nsid not in side.subsystem.controllers[queue.cntlid].namespaces:
        text = f"An entry names namespace {nsid:X}h, which the controller does not have."
        if chance.strikes("entry-namespace", CONTROLLER, "HMLM-NCS.5.6-n7", text):
            return _with(entry, NSID=nsid)
    far = namespace.blocks - rng.randrange(0, fields["NLB"] + 1)
    if chance.strikes("range-beyond", CONTROLLER, "HMLM-NCS.5.6-n8", "A range ends behind the namespace."):
        return _with(entry, SLBA=far)
    if chance.strikes("range-without-end", CONTROLLER, "HMLM-NCS.5.6-n8", "A range is longer than the namespace."):
        return _with(entry, NLB=fields["NLB"] | 1 << rng.randrange(16, 32))
    text = "An entry with a range says that it is about the whole namespace, from a block on."
    if fields["SLBA"] and chance.strikes("whole-namespace", CONTROLLER, "HMLM-NCS.5.6-n6 HMLM-NCS.5.6-n4", text):
        return _with(entry, LBACIR=1)
    if chance.strikes("range-without-range", CONTROLLER, "HMLM-NCS.5.6-n5", "An entry with a range says it has none."):
        return _with(entry, LBACIR=NO_RANGE)
    alone = ranges.lacks(number, ranges.blocks[number])
    moved = (fields["SLBA"] + rng.choice((-16, -9, 9, 16, 33))) % (namespace.blocks - fields["NLB"])
    if abs(moved - fields["SLBA"]) > fields["NLB"]:
        text = f"An entry names blocks from {moved} on instead of those from {fields['SLBA']} on, which changed."
        if chance.strikes("range-elsewhere", CONTROLLER, "HMLM-NCS.4.1.8-n5 HMLM-NCS.5.6-n14", text, proof=alone):
            return _with(entry, SLBA=moved)
    text = "An entry leaves out the last of the blocks that changed."
    last = ranges.blocks[number][-1:]
    proof = ranges.lacks(number, last)
    if fields["NLB"] and chance.strikes("range-too-short", CONTROLLER, "HMLM-NCS.4.1.8-n5", text, proof=proof):
        return _with(entry, NLB=fields["NLB"] - 1)
    return None


def _marker(entry: bytes, chance: Chance) -> bytes | None:
    """Entries without a range that have one."""
    rng = chance.rng()
    name = rng.choice(("NSID", "NLB", "SLBA"))
    value = rng.randrange(1, 9)
    text = f"An entry without a range has {name} {value}."
    if chance.strikes("marker-with-range", CONTROLLER, "HMLM-NCS.5.6-n5", text):
        return _with(entry, **{name: value})
    text = "An entry that only marks the log has the range code of one with blocks, and namespace 0."
    if chance.strikes("marker-as-range", CONTROLLER, "HMLM-NCS.5.6-n7", text):
        return _with(entry, LBACIR=0)
    return None


def _placed(
    write: Callable[..., None], queue: DataQueue, slot: int, entry: bytes, function: Function, chance: Chance,
    alone: Proof,
) -> bool:  # fmt: skip
    """Write an entry somewhere else, in another way, twice, or not at all; return whether it was."""
    kind = EntrySequence(CDQ_ENTRY["ESA"].of(entry))
    if kind not in CLOSING and slot + 2 < queue.slots:
        text = "The controller leaves a slot out."
        if chance.strikes("slot-left-out", CONTROLLER, "HMLM-8.1.6.1-n1", text):
            write(slot + 1, entry, function)
            queue.tail += 1
            return True
    if queue.used > 0 and slot:
        text = "The controller writes an entry over the one before it, which the host has not consumed."
        if chance.strikes("entry-overwritten", CONTROLLER, "HMLM-8.1.6.1-n3 HMLM-8.1.6.1-n1", text):
            write(slot - 1, entry, function)
            queue.tail = slot - 1
            return True
    text = "The controller writes an entry twice."
    if chance.strikes("entry-written-twice", CONTROLLER, "HMLM-8.1.6.1-n3 HMLM-8.1.6-n2", text):
        write(slot, entry, function)
        write(slot, entry, function)
        return True
    text = "The controller writes the half with the phase tag first."
    if chance.strikes("phase-written-first", CONTROLLER, "HMLM-8.1.6-n2", text):
        address, half = queue.address(slot), CDQ_ENTRY_SIZE // 2
        function.write_tlp(address + half, entry[half:])
        function.write_tlp(address, entry[:half])
        return True
    text = "The controller writes an entry behind the end of its data queue."
    if slot == queue.slots - 1 and chance.strikes("entry-behind-end", CONTROLLER, "HMLM-8.1.6.1-n4", text):
        write(slot + 1, entry, function)
        return True
    rules = "HMLM-NCS.4.1.8-n5" if kind == ORDINARY else MISSING[kind]
    text = f"An entry that is {kind.name.lower()} is never written."
    proof = alone if kind == ORDINARY else None
    if kind != FULL and chance.strikes(f"{kind.name.lower()}-dropped", CONTROLLER, rules, text, proof=proof):
        queue.tail = (slot - 1) % queue.slots
        if not slot:
            queue.phase ^= 1
        return True
    return False
