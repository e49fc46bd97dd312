"""Faults of data pointers and of the data that they describe (nvme-checklist G08, G12, G13 and G14)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import Admin, Nvm
from lmtrace_samples.data_pointers import SGLS_OFFERED
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.management import ManagementController
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

SCENARIO = "data-pointers"
Pieces = list[tuple[int, int]]


def _asks(name: str, rule: str, reason: str, text: str, sgls: int = 0) -> None:
    """Register the fault of a host that asks for what it must not; ``sgls`` is what the controller offers then."""

    def change(world: World) -> None:
        world.provoked.add(reason)
        world.sides[0].manager.sgls = sgls

    change.__doc__ = text
    fault(name, rule, SCENARIO, party="host")(change)


def _forgets(name: str, rule: str, reason: str, text: str, shared: bool = False) -> None:
    """Register the fault of a controller that does not refuse for ``reason``; ``shared`` is as of `fault`."""

    def change(world: World) -> None:
        world.sides[0].manager.pointers.forgotten.add(reason)
        if shared:
            world.provoked.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO, shared=shared)(change)


def _moves(name: str, rule: str, text: str, change: Callable[[Pieces], Pieces], returns: bool) -> None:
    """Register the fault of a controller that moves the pieces of a large buffer otherwise."""

    def apply(world: World) -> None:
        def order(original: Callable[[Pieces, bool], Pieces], pieces: Pieces, way: bool) -> Pieces:
            whole = original(pieces, way)
            return change(whole) if way == returns and len(whole) > 3 else whole

        instead(world.sides[0].manager, "order", order)

    apply.__doc__ = text
    fault(name, rule, SCENARIO)(apply)


def _enters(
    name: str, rule: str, text: str, change: Callable[[bytes], bytes], opcode: int, admin: bool = False
) -> None:
    """Register the fault of a host that spoils the entries of one opcode."""

    def apply(world: World) -> None:
        def entry(original: Callable[[int, bytes], bytes], qid: int, sqe: bytes) -> bytes:
            made = original(qid, sqe)
            return change(made) if made[0] == opcode and (qid == 0) == admin else made

        instead(world.sides[0].drivers[0], "entry", entry)

    apply.__doc__ = text
    fault(name, rule, SCENARIO, party="host")(apply)


def _offers(name: str, rule: str, party: str, text: str, change: Callable[[ManagementController], None]) -> None:
    """Register the fault that shows where a controller offers something else."""

    def apply(world: World) -> None:
        change(world.sides[0].manager)

    apply.__doc__ = text
    fault(name, rule, SCENARIO, party=party)(apply)


def _flags(bits: int) -> Callable[[bytes], bytes]:
    return lambda sqe: sqe[:1] + bytes([sqe[1] | bits]) + sqe[2:]


# G08
_enters("command-id-of-none", "NVM21-4.1.1-n1", "The host gives a Verify the identifier FFFFh.",
        lambda sqe: sqe[:2] + b"\xff\xff" + sqe[4:], Nvm.VERIFY)  # fmt: skip
_enters("reserved-bits-of-entry", "NVM21-4.1.1-n4", "The host sets reserved bits of CDW0.", _flags(4), Nvm.VERIFY)
_enters("admin-command-by-sgl", "NVM21-4.1.1-n5", "The host sends Delete I/O SQ with PSDT 01b.", _flags(0x40),
        Admin.DELETE_IO_SQ, admin=True)  # fmt: skip
_enters("reserved-pointer-kind", "NVM21-4.1.1-n6", "The host sends Verify with PSDT 11b.", _flags(0xC0), Nvm.VERIFY)
_enters("reserved-fuse", "NVM21-4.1.1-n7", "The host sends Verify with FUSE 11b.", _flags(3), Nvm.VERIFY)
_enters("admin-command-fused", "NVM21-3.4.2-n3", "The host sends Delete I/O SQ with FUSE 01b.", _flags(1),
        Admin.DELETE_IO_SQ, admin=True)  # fmt: skip
_forgets("fused-write-goes-on", "NVM21-3.4.2-n1", "fused", "A fused write succeeds although the compare failed.")
_asks("half-a-fused-pair", "NVM21-3.4.2-n2", "alone", "The host sends the second command of a fused pair alone.")
_asks("sgl-without-support", "NVM21-4.1.1-n8", "none", "The host uses SGLs that nobody offers.", SGLS_OFFERED & ~1)
_forgets("reserved-opcode-succeeds", "NVM21-4.1.1-n11", "opcode", "A command with a reserved opcode succeeds.")
_forgets("absent-namespace-read", "NVM21-4.1.1-n12", "namespace", "A read of an invalid namespace succeeds.", True)
_forgets("broadcast-read", "NVM21-4.1.1-n14", "broadcast", "A read of all namespaces succeeds.")
_asks("namespace-beyond-all", "NVM21-4.1.1-n15", "namespace", "The host reads a namespace beyond NN.")
_asks("metadata-within-dword", "NVM21-4.1.1-n17", "metadata", "The host gives metadata an odd address.")
_forgets("namespace-named-needlessly", "NVM21-4.1.1-n13", "needless", "An Abort that names a namespace succeeds.", True)


@fault("verify-not-offered", "NVM21-4.1.1-n10", SCENARIO)
def verify_not_offered(world: World) -> None:
    """ONCS does not offer the Verify command, which succeeds."""
    instead(
        world.sides[0].manager, "identify_fields",
        lambda original: {**original(), "ONCS": original()["ONCS"] & ~(1 << 7)},
    )  # fmt: skip


# G12
_asks("prp1-within-dword", "NVM21-4.3.1-n1", "first", "The host gives a read a PRP1 that is not a multiple of 4.")
_asks("second-page-offset", "NVM21-4.3.1-n3", "second", "The host names the second page of a buffer from within.")
_forgets("second-page-offset-taken", "NVM21-4.3.1-n4", "second", "A second page with an offset is taken.", True)
_asks("prp-list-unaligned", "NVM21-4.3.1-n5", "list", "The host places a PRP list at 4 bytes behind a multiple of 8.")
_asks("prp-entry-offset", "NVM21-4.3.1-n6", "entry", "The host puts an offset into an entry of a PRP list.")
_forgets("prp-entry-offset-taken", "NVM21-4.3.1-n7", "entry", "An entry with an offset is taken.", True)
_asks("prp-chain-offset", "NVM21-4.3.1-n10", "chain", "The host chains to a list page from within.")
_asks("page-given-twice", "NVM21-4.3.1-n16", "repeated", "The host gives a read the same page twice.")
_asks("page-left-zero", "NVM21-4.3.1-n17", "zero", "The host leaves an entry of a PRP list zero.")


@fault("prp-list-read-early", "NVM21-4.3.1-n8", SCENARIO)
def prp_list_read_early(world: World) -> None:
    """The controller begins to read a PRP list 8 bytes before it."""
    controller = world.sides[0].manager

    def read_list(original: Callable[..., Steps[bytes]], pointer: int, length: int) -> Steps[bytes]:
        early = 8 if pointer % 4096 >= 8 else 0
        data = yield from controller.function.read([(pointer - early, length + early)])
        return data[early:]

    instead(controller, "read_list", read_list)


# G13
_asks("sgl-type-undefined", "NVM21-4.3.2-n1", "type", "The host uses a keyed data block, which PCIe does not have.")
_forgets("sgl-type-taken", "NVM21-4.3.2-n2", "type", "A descriptor type that PCIe does not have is taken.", True)
_asks("sgl-subtype-offset", "NVM21-4.3.2-n3", "subtype", "The host uses an SGL descriptor with an offset.")
_asks("sgl-segment-length", "NVM21-4.3.2-n5", "segment", "The host describes a segment of 17 bytes.")
_forgets("sgl-segment-length-taken", "NVM21-4.3.2-n6", "segment", "A segment of 17 bytes is taken.", True)
_forgets("segment-in-between-taken", "NVM21-4.3.2-n7", "not-last", "A segment before the end of another is taken.")
_forgets("segment-in-last-taken", "NVM21-4.3.2-n8", "in-last", "A segment that the last one names is taken.")
_forgets("short-sgl-taken", "NVM21-4.3.2-n9", "short", "A read with an SGL that is too short succeeds.")
_forgets("block-beyond-memory", "NVM21-4.3.2-n17", "beyond", "A data block beyond 64 bits of address is taken.")
_asks("sgl-of-bytes", "NVM21-4.3.2-n12", "bytes", "The host gives single bytes to a controller that moves dwords.",
      SGLS_OFFERED & ~1 | 2)  # fmt: skip
_asks("bit-bucket-not-offered", "NVM21-4.3.2-n14", "none", "The host uses a bit bucket that nobody offers.",
      SGLS_OFFERED & ~(1 << 16))  # fmt: skip
_asks("metadata-sgl-not-offered", "NVM21-4.1.1-n19", "none", "The host names metadata by a descriptor all the same.",
      SGLS_OFFERED & ~(1 << 19))  # fmt: skip
_asks("null-descriptor", "NVM21-4.3.2-n20", "null", "The host leaves an SGL descriptor zero.")


def _no_longer(controller: ManagementController) -> None:
    controller.longer_sgls = False


def _no_longer_told(controller: ManagementController) -> None:
    controller.longer_sgls, controller.sgls = False, SGLS_OFFERED & ~(1 << 18)


_offers("long-sgl-refused", "NVM21-4.3.2-n10", "controller", "A long SGL is refused by a controller that takes them.",
        _no_longer)  # fmt: skip
_offers("long-sgl-refused-needlessly", "NVM21-4.3.2-n11", "controller", "A controller refuses an SGL for its length.",
        _no_longer_told)  # fmt: skip


@fault("sgl-segment-read-on", "NVM21-4.3.2-n18", SCENARIO)
def sgl_segment_read_on(world: World) -> None:
    """The controller reads 32 bytes behind each segment of an SGL."""
    instead(world.sides[0].manager.pointers, "segment_span", lambda original, address, size: (address, size + 32))


# G14
_moves("page-moved-for-another", "NVM21-Xlen-n3", "Of a large buffer one page is written twice and another never.",
       lambda pieces: [*pieces[:-2], (pieces[-3][0], pieces[-2][1]), pieces[-1]], True)  # fmt: skip
_moves("page-read-for-another", "NVM21-Xlen-n4", "Of a large buffer one page is read twice and another never.",
       lambda pieces: [*pieces[:-2], (pieces[-3][0], pieces[-2][1]), pieces[-1]], False)  # fmt: skip
_forgets("transfer-beyond-limit-done", "NVM21-5.1.13-n3", "limit", "A read beyond MDTS succeeds.", True)
_asks("transfer-beyond-limit-asked", "NVM21-5.1.13-n4", "limit", "The host reads more than MDTS allows.")


@fault("all-moved-twice", "NVM21-Xlen-n7", SCENARIO)
def all_moved_twice(world: World) -> None:
    """The data of every read move twice."""

    def to_host(original: Callable[..., Steps[None]], command: Command, data: bytes) -> Steps[None]:
        yield from original(command, data)
        if command.queue.qid:
            yield from original(command, data)

    instead(world.sides[0].manager, "to_host", to_host)


@fault("metadata-cut", "NVM21-Xlen-n2", SCENARIO)
def metadata_cut(world: World) -> None:
    """Only half of the metadata move."""
    instead(world.sides[0].manager, "metadata_length", lambda original, length: length // 2)


@fault("block-written-too-far", "NVM21-Xlen-n8", SCENARIO)
def block_written_too_far(world: World) -> None:
    """Data blocks of 100 bytes are filled with 128."""

    def order(original: Callable[[Pieces, bool], Pieces], pieces: Pieces, way: bool) -> Pieces:
        return [(address, 128 if way and length == 100 else length) for address, length in original(pieces, way)]

    instead(world.sides[0].manager, "order", order)


@fault("ranges-read-too-far", "NVM21-4.1.1-n21", SCENARIO)
def ranges_read_too_far(world: World) -> None:
    """A Dataset Management command is read a whole page of ranges."""

    def from_host(original: Callable[..., Steps[bytes]], command: Command, length: int) -> Steps[Any]:
        ranges = command.queue.qid and command.opcode == Nvm.DATASET_MANAGEMENT
        data = yield from original(command, 128 if ranges else length)
        return data[:length]

    instead(world.sides[0].manager, "from_host", from_host)
