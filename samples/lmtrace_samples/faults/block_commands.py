"""Faults of block commands: limits, contents, copies, protection and reservations (nvme-checklist G20)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import Nvm
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.reservations import Reservation
from lmtrace_samples.world import World

SCENARIO = "block-commands"


def _forgets(name: str, rule: str, reason: str, text: str, shared: bool = False) -> None:
    """Register the fault of a controller that does not refuse for ``reason``; ``shared`` is as of `fault`."""

    def change(world: World) -> None:
        world.sides[0].subsystem.blocks.forgotten.add(reason)
        if shared:
            world.provoked.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO, shared=shared)(change)


def _invents(name: str, rule: str, reason: str, text: str) -> None:
    """Register the fault of a controller that refuses for ``reason`` where there is none."""

    def change(world: World) -> None:
        world.sides[0].subsystem.blocks.invented.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


def _asks(name: str, rule: str, reason: str, text: str) -> None:
    """Register the fault of a host that asks for what it must not."""

    def change(world: World) -> None:
        world.provoked.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO, party="host")(change)


_asks("read-beyond-namespace", "NVM21-N3.3.4-n1", "beyond", "The host reads beyond the namespace.")
_forgets("read-beyond-namespace-served", "NVM21-N3.3.4-n2", "beyond", "A read beyond the namespace succeeds.", True)
_forgets("protected-namespace-written", "NVM21-N3.3.6-n2", "protected", "A write protected namespace is written.")
_forgets("read-only-media-written", "NVM21-N3.3.6-n3", "read-only", "Media that are read only are written.")
_asks("stream-not-enabled", "NVM21-N3.3.6-n4", "directive", "The host writes to a stream without enabling streams.")
_invents("unwritten-refused", "NVM21-N3.3.4-n3", "unwritten", "A read of written blocks fails as they are unwritten.")
_invents("tags-checked-without-any", "NVM21-N3.3.4-n4", "protection", "A guard is checked where there is none.")
_forgets("reference-tag-unchecked", "NVM21-N5.3-n2", "reference", "A wrong expected reference tag is taken.")
_invents("equal-data-miscompared", "NVM21-N3.3.1-n1", "miscompare", "A Compare of equal data fails.")
_forgets("other-data-compared", "NVM21-N3.3.1-n2", "miscompare", "A Compare of other data succeeds.")
_forgets("copy-over-limit", "NVM21-N3.3.2-n1", "copy-limit", "A Copy of more blocks than a range may have succeeds.")
_forgets("copy-format-taken", "NVM21-N3.3.2-n2", "copy-format", "A Copy with a format not offered succeeds.")
_forgets("copy-onto-itself", "NVM21-N3.3.2-n3", "copy-overlap", "A Copy onto a part of its source succeeds.")
_forgets("copy-between-formats", "NVM21-N3.3.2-n4", "copy-namespaces", "Blocks of another size are copied.")
_asks("ranges-beyond-namespace", "NVM21-N3.3.3-n2", "ranges-beyond", "The host manages blocks beyond the namespace.")
_forgets("spoilt-block-read", "NVM21-N3.3.7-n1", "spoilt", "A block that was made uncorrectable is read.")
_forgets("spoilt-block-verified", "NVM21-N3.3.5-n1", "spoilt-verify", "A Verify of an uncorrectable block succeeds.")
_asks("zeroes-over-limit", "NVM21-N3.3.8-n2", "zeroes", "The host writes more zeroes at once than WZSL allows.")
_asks("flush-of-all", "NVM21-7.2-n2", "flush-all", "The host flushes all namespaces, which is not supported.")
_invents("large-write-refused", "NVM21-N3.3.6-n5", "atomic", "A write larger than an atomic unit is refused for that.")
_forgets("placement-told", "NVM21-7.3-n1", "placement", "Reclaim unit handles are told though there are none.")
_asks("register-without-action", "NVM21-7.6-n1", "register-action", "The host sends a Register with a reserved action.")
_forgets("reservation-disregarded", "NVM21-7.5-n1", "reservation", "A host writes what another one has reserved.")


@fault("more-ranges-than-fit", "NVM21-N3.3.3-n1", SCENARIO, party="host")
def more_ranges_than_fit(world: World) -> None:
    """The host asks for 258 ranges of a Dataset Management."""

    def entry(original: Callable[[int, bytes], bytes], qid: int, sqe: bytes) -> bytes:
        made = original(qid, sqe)
        more = qid and made[0] == Nvm.DATASET_MANAGEMENT
        return made[:41] + bytes([1]) + made[42:] if more else made

    instead(world.sides[0].drivers[0], "entry", entry)


@fault("status-beyond-namespace", "NVM21-N5.2-n1", SCENARIO)
def status_beyond_namespace(world: World) -> None:
    """Get LBA Status tells of a block behind the last one."""

    def allocated(original: Callable[..., list[tuple[int, int]]], *arguments: Any) -> list[tuple[int, int]]:
        runs = original(*arguments)
        return [*runs[:-1], (runs[-1][0], runs[-1][1] + 1)]

    instead(world.sides[0].manager, "allocated", allocated)


@fault("holder-not-told", "NVM21-7.5-7.8-n1", SCENARIO)
def holder_not_told(world: World) -> None:
    """A Reservation Report leaves out the host that registered last."""
    world.sides[0].subsystem.blocks.reserved = _Silent


class _Silent(Reservation):
    """A reservation that leaves the last registrant out of its report."""

    def report(self) -> bytes:
        """Return the report as if the last host had not registered."""
        kept = dict(self.keys)
        if self.keys:
            self.keys.popitem()
        data = super().report()
        self.keys = kept
        return data
