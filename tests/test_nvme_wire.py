"""Cases built TLP by TLP: what controllers may do and the real captures do not show."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmtrace.bindings import Given
from lmtrace.spec.nvme import CQE, SQE, Property
from lmtrace.spec.pcie import Kind
from lmtrace.stage import TLP_ROW, Flag
from lmtrace_decoders.data_queue import DataQueue
from nvme_decoded import Decoded
from nvme_wire import ACQ, ASQ, BAR, DOWN, UP, VECTORS, Wire

SQ, CQ = 0x20_0000, 0x20_4000
IO = {"NSID": 1, "CDW12": 7}
ROUND_TRIP = 1000
"""From a read to its answer, in ps: the lost request of an answer was sent as long before."""


def io_rig(**cc: int) -> Wire:
    """Return a wire with a controller that runs and one I/O queue pair, admin slots 0 and 1 used."""
    wire = Wire()
    wire.enable(**cc)
    wire.queue_pair(0, 1, SQ, CQ)
    return wire


def test_entries_fetched_in_pieces_and_bursts_that_wrap(tmp_path: Path) -> None:
    wire = io_rig()
    first = SQE.encode(OPC=0, CID=1, NSID=1)
    wire.ring(1, 1)
    wire.fetch(SQ, first[:16])
    wire.fetch(SQ + 16, first[16:])
    wire.complete(CQ, 0, CID=1, SQID=1, SQHD=1)
    burst = [SQE.encode(OPC=0, CID=10 + n, NSID=1) for n in range(16)]
    wire.ring(1, 0)
    wire.fetch(SQ + 64, b"".join(burst[1:16]), split=128)
    for n in range(1, 16):
        wire.complete(CQ, n, CID=10 + n, SQID=1, SQHD=0)
    wire.ring(1, 15, head=True)
    wire.ring(1, 2)
    wire.fetch(SQ, b"".join(SQE.encode(OPC=0, CID=n, NSID=1) for n in (40, 41)))
    wire.complete(CQ, 0, CID=41, SQID=1, SQHD=2, P=0)
    with wire.decoded(tmp_path) as run:
        rows = [row for row in run.table("transactions") if row["sqid"] == 1]
        links = run.table("tlp_transactions")
        assert "unrelated" not in run.roles()
    assert [row["cid"] for row in rows] == [1, *range(11, 26), 40, 41]
    assert [row["sq_slot"] for row in rows] == [0, *range(1, 16), 0, 1]
    assert [row["outcome"] for row in rows] == ["completed"] * 16 + ["outstanding", "completed"]
    assert rows[-1]["phase"] is False
    assert all(row["sq_doorbell_ps"] < row["fetch_ps"] for row in rows)
    split = [one["tlp_id"] for one in links if one["transaction_id"] == rows[0]["id"] and one["kind"] == "sqe_fetch"]
    assert len(split) == 4


def test_completion_entries_in_pieces_and_of_another_size(tmp_path: Path) -> None:
    wire = io_rig(IOCQES=5)
    wire.command(SQ, 0, 1, OPC=0, CID=7, NSID=1)
    cqe = CQE.encode(CID=7, SQID=1, SQHD=1, P=1, DW0=0x1234)
    wire.post(CQ, cqe[:8])
    last = wire.post(CQ + 8, cqe[8:])
    wire.command(SQ, 1, 1, OPC=0, CID=8, NSID=1)
    wire.complete(CQ, 1, size=32, CID=8, SQID=1, SQHD=2)
    with wire.decoded(tmp_path) as run:
        one, two = (row for row in run.table("transactions") if row["sqid"] == 1)
        assert "unrelated" not in run.roles()
    assert (one["dw0"], one["cqe_tlp_id"], one["cq_slot"]) == (0x1234, last, 0)
    assert (two["outcome"], two["cq_slot"]) == ("completed", 1)


def test_a_list_that_chains_and_starts_at_an_offset(tmp_path: Path) -> None:
    """4 pages of list space before the chain: the last entry of a list page points to the next."""
    wire = io_rig()
    blocks = 8 * 6  # 24 KiB from an offset of 512: 7 pages
    pages = [0x40_0000 + 0x1000 * n for n in range(7)]
    listed, chained = 0x50_0FE8, 0x51_0000  # three entries, then the chain
    wire.command(SQ, 0, 1, OPC=2, CID=1, NSID=1, PRP1=pages[0] + 512, PRP2=listed, CDW12=blocks - 1)
    first = [pages[1], pages[2], chained]
    wire.fetch(listed, b"".join(one.to_bytes(8, "little") for one in first), split=12)
    wire.fetch(chained, b"".join(one.to_bytes(8, "little") for one in pages[3:]) + bytes(24))
    wire.post(pages[0] + 512, bytes(256))
    for page in pages[1:6]:
        wire.post(page, bytes(256))
    wire.post(pages[6] + 256, bytes(256))
    wire.post(pages[6] + 512, bytes(256))  # behind the end of the data
    wire.complete(CQ, 0, CID=1, SQID=1, SQHD=1)
    with wire.decoded(tmp_path) as run:
        row = next(row for row in run.table("transactions") if row["sqid"] == 1)
        roles = run.roles()
    assert row["bytes_from_device"] == 7 * 256
    assert roles["prp_list"] == 2 + 2 + 1 and roles["unrelated"] == 1
    assert row["list_fetch_ps"] < row["first_data_ps"] < row["last_data_ps"] < row["cqe_ps"]


def test_queues_in_scattered_pages(tmp_path: Path) -> None:
    wire = Wire()
    wire.enable()
    ring, pages = 0x30_0000, [0x70_0000, 0x62_0000]
    wire.admin(0, OPC=5, PRP1=CQ, CDW10=127 << 16 | 1, CDW11=1)
    wire.command(ASQ, 1, 0, OPC=1, CID=1, PRP1=ring, CDW10=127 << 16 | 1, CDW11=1 << 16)
    wire.fetch(ring, b"".join(one.to_bytes(8, "little") for one in pages))
    wire.complete(ACQ, 1, CID=1, SQHD=2)
    wire.ring(1, 66)
    wire.fetch(pages[0], b"".join(SQE.encode(OPC=0, CID=n, NSID=1) for n in range(64)), split=256)
    wire.fetch(pages[1], b"".join(SQE.encode(OPC=0, CID=n, NSID=1) for n in (64, 65)))
    with wire.decoded(tmp_path) as run:
        rows = [row for row in run.table("transactions") if row["sqid"] == 1]
        queue = next(row for row in run.table("queues") if row["kind"] == "SQ" and row["qid"] == 1)
    assert [row["sq_slot"] for row in rows] == list(range(66))
    assert queue["pages"] == pages and queue["contiguous"] is False


def test_a_doorbell_stride_from_the_capabilities(tmp_path: Path) -> None:
    wire = Wire(stride=2)
    wire.enable()
    wire.queue_pair(0, 1, SQ, CQ)
    wire.command(SQ, 0, 1, OPC=0, CID=3, NSID=1)
    with wire.decoded(tmp_path) as run:
        assert [(row["kind"], row["qid"]) for row in run.table("doorbells")][-1] == ("SQ", 1)
        assert run.table("controllers")[0]["doorbell_stride"] == 2
        assert run.table("transactions")[-1]["cid"] == 3


def test_masked_vectors_hold_interrupts_back(tmp_path: Path) -> None:
    wire = io_rig()
    for word, value in enumerate((0xFEE0_1000, 0, 0x41, 0)):
        wire.write(VECTORS + 16 + 4 * word, value.to_bytes(4, "little"))
    wire.command(SQ, 0, 1, OPC=0, CID=1, NSID=1)
    wire.complete(CQ, 0, CID=1, SQID=1, SQHD=1)
    wire.post(0xFEE0_1000, (0x41).to_bytes(4, "little"))
    wire.write(VECTORS + 28, (1).to_bytes(4, "little"))
    wire.command(SQ, 1, 1, OPC=0, CID=2, NSID=1)
    wire.complete(CQ, 1, CID=2, SQID=1, SQHD=2)
    wire.write(VECTORS + 28, (0).to_bytes(4, "little"))
    wire.post(0xFEE0_1000, (0x41).to_bytes(4, "little"))
    wire.ring(1, 2, head=True)
    with wire.decoded(tmp_path) as run:
        one, two = (row for row in run.table("transactions") if row["sqid"] == 1)
        kinds = [row["kind"] for row in run.table("children") if row["transaction_id"] == two["id"]]
        controller = run.table("controllers")[0]
        assert "unrelated" not in run.roles()
    assert one["masked_ps"] is None and one["cqe_ps"] < one["interrupt_ps"] < one["cq_doorbell_ps"]
    assert two["cqe_ps"] == two["masked_ps"] < two["unmask_ps"] < two["interrupt_ps"] < two["cq_doorbell_ps"]
    assert kinds == [
        "sq_doorbell", "sqe_fetch", "cqe", "interrupt_masked", "interrupt_unmasked", "interrupt", "cq_doorbell",
    ]  # fmt: skip
    assert controller["msix_table"] == VECTORS


def test_a_controller_that_behaves_as_reset(tmp_path: Path) -> None:
    """A function-level reset is not on the wire: the properties are simply written from scratch."""
    wire = io_rig()
    wire.command(SQ, 0, 1, OPC=2, CID=9, PRP1=0x40_0000, **IO)
    begin = wire.time
    wire.enable()
    wire.admin(0, OPC=0x0C)
    with wire.decoded(tmp_path) as run:
        lives = run.table("controllers")
        rows = run.table("transactions")
        queues = run.table("queues")
    assert [(one["epoch"], one["ended_by"]) for one in lives] == [(0, "behaved as reset"), (1, None)]
    assert 0 < lives[0]["ended_ps"] <= begin, "the last sign of life"
    assert [(row["cid"], row["outcome"], row["epoch"]) for row in rows[-2:]] == [(9, "reset", 0), (0, "completed", 1)]
    assert [one["ended_by"] for one in queues] == ["reset"] * 4 + [None] * 2


@pytest.mark.parametrize("shutdown", [False, True])
def test_a_controller_reset_ends_queues_and_commands(shutdown: bool, tmp_path: Path) -> None:
    wire = io_rig()
    wire.command(SQ, 0, 1, OPC=2, CID=9, PRP1=0x40_0000, **IO)
    if shutdown:
        wire.write32(Property.CC, 0x00464001)
    wire.write32(Property.CC, 0x00460000)
    wire.enable()
    with wire.decoded(tmp_path) as run:
        assert [one["ended_by"] for one in run.table("controllers")] == ["CC.EN cleared", None]
        assert [one["outcome"] for one in run.table("transactions")] == ["completed", "completed", "reset"]


def test_deleted_queues_and_reused_identifiers(tmp_path: Path) -> None:
    wire = io_rig()
    wire.command(SQ, 0, 1, OPC=0, CID=5, NSID=1)
    wire.complete(CQ, 0, CID=5, SQID=1, SQHD=1)
    wire.command(SQ, 1, 1, OPC=0, CID=5, NSID=2)
    wire.admin(2, OPC=0, CDW10=1)
    wire.admin(3, OPC=4, CDW10=1)
    with wire.decoded(tmp_path) as run:
        one, two = (row for row in run.table("transactions") if row["sqid"] == 1)
        ends = {(row["kind"], row["qid"]): row["ended_by"] for row in run.table("queues")}
    assert (one["outcome"], one["nsid"], two["outcome"], two["nsid"]) == ("completed", 1, "deleted", 2)
    assert ends == {("CQ", 0): None, ("SQ", 0): None, ("CQ", 1): "delete", ("SQ", 1): "delete"}


def test_a_reserved_data_pointer_is_shown_as_not_decoded(tmp_path: Path) -> None:
    wire = io_rig()
    wire.command(SQ, 0, 1, OPC=2, CID=5, PSDT=3, PRP1=0x40_0000, PRP2=4096, **IO)
    wire.post(0x40_0000, bytes(256))
    wire.complete(CQ, 0, CID=5, SQID=1, SQHD=1)
    with wire.decoded(tmp_path) as run:
        row = run.table("transactions")[-1]
        last = run.rows[run.rows["role"] == 16]
        assert len(last) == 1 and run.store.owners[last["owner"][0]] == "CQ 1 of 01:00.0"
    assert (row["data_decoded"], row["bytes_from_device"], row["outcome"]) == (False, 0, "completed")


def test_block_sizes_and_metadata_from_identify(tmp_path: Path) -> None:
    wire = io_rig()
    data = bytearray(4096)
    data[128:132] = bytes([8, 0, 12, 0])
    wire.command(ASQ, 2, 0, OPC=6, CID=2, NSID=1, PRP1=0x60_0000)
    wire.post(0x60_0000, bytes(data))
    wire.complete(ACQ, 2, CID=2, SQHD=3)
    wire.command(SQ, 0, 1, OPC=1, CID=1, NSID=1, PRP1=0x40_0000, PRP2=0x41_0000, MPTR=0x42_0000, CDW12=1)
    wire.fetch(0x40_0000, bytes(512))
    wire.fetch(0x41_0000, bytes(512))
    wire.fetch(0x42_0000, bytes(16))
    wire.complete(CQ, 0, CID=1, SQID=1, SQHD=1)
    with wire.decoded(tmp_path) as run:
        row = run.table("transactions")[-1]
        kept = run.table("command_data")
        roles = run.roles()
    assert (row["bytes_expected"], row["bytes_to_device"]) == (8192, 1024)
    assert roles["metadata"] == 2 and "unrelated" not in roles
    assert kept[0]["data"] == bytes(data) and kept[0]["seen"] == [0, 4096]


def test_given_facts_fill_what_the_capture_does_not_show(tmp_path: Path) -> None:
    wire = Wire()
    wire.ring(1, 1)
    wire.fetch(SQ, SQE.encode(OPC=0, CID=3, NSID=1))
    wire.complete(CQ, 0, CID=3, SQID=1, SQHD=1)
    given_facts = Given(bar0={0x0100: BAR}, controller={0x0100: 5})
    with wire.decoded(tmp_path, given_facts) as run:
        row = run.table("transactions")[0]
        life = run.table("controllers")[0]
    assert (row["controller"], row["outcome"], row["learnt"]) == (5, "completed", "inferred")
    assert (life["bar0"], life["learnt"], life["controller"]) == (BAR, "given", 5)


def test_prefetched_entries_wait_for_their_doorbell(tmp_path: Path) -> None:
    wire = io_rig()
    entries = [SQE.encode(OPC=0, CID=n, NSID=1) for n in range(3)]
    wire.ring(1, 1)
    wire.fetch(SQ, b"".join(entries), split=192)
    with wire.decoded(tmp_path / "a") as run:
        assert [row["cid"] for row in run.table("transactions") if row["sqid"] == 1] == [0]
    late = wire.ring(1, 3)
    with wire.decoded(tmp_path / "b") as run:
        rows = [row for row in run.table("transactions") if row["sqid"] == 1]
        assert [row["cid"] for row in rows] == [0, 1, 2]
        assert all(row["sq_doorbell_ps"] == (late + 1) * 1000 for row in rows[1:])


def test_one_tag_for_everything_and_completions_out_of_order(tmp_path: Path) -> None:
    """Completions of two reads interleave by tag; data count for the command whose page was read."""
    wire = io_rig()
    for slot in range(2):
        wire.command(SQ, slot, 1, OPC=1, CID=slot, NSID=1, PRP1=0x40_0000 + 0x1000 * slot, CDW12=0)
    for tag in (100, 101):
        wire.add(UP, Kind.MRd, requester_id=0x100, tag=tag, address=0x40_0000 + 0x1000 * (tag - 100),
                 length_dw=128, first_be=15, last_be=15)  # fmt: skip
    for left in (512, 256):
        for tag in (101, 100):
            wire.add(DOWN, Kind.CplD, bytes(256), requester_id=0x100, tag=tag, byte_count=left)
    with wire.decoded(tmp_path) as run:
        rows = [row for row in run.table("transactions") if row["sqid"] == 1]
        assert "unrelated" not in run.roles()
    assert [row["bytes_to_device"] for row in rows] == [512, 512]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 400), running=st.booleans())
def test_nonsense_gives_tables_and_a_role_for_every_tlp(
    seed: int, count: int, running: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = np.random.default_rng(seed)
    wire = io_rig() if running else Wire()
    places = [0, BAR, BAR + 0x14, BAR + 0x1000, BAR + 0x1008, ASQ, ACQ, SQ, CQ, 0xFEE0_0000, (1 << 64) - 4096]
    kinds = [Kind.MRd, Kind.MWr, Kind.MWr, Kind.CplD, Kind.Cpl, Kind.CfgWr0, Kind.CfgRd0, Kind.Msg, Kind.FetchAdd]
    for _ in range(count):
        kind = kinds[random.integers(len(kinds))]
        data = random.integers(0, 256, 4 * int(random.integers(1, 33)), np.uint8).tobytes()
        length = (
            {} if kind in (Kind.MWr, Kind.CplD, Kind.CfgWr0, Kind.FetchAdd) else {"length_dw": random.integers(1, 1025)}
        )
        wire.add(
            DOWN if random.integers(2) else UP, kind, data if not length else b"", **length,
            address=places[random.integers(len(places))] + 4 * int(random.integers(0, 64)),
            requester_id=int(random.integers(0x100, 0x103)), completer_id=int(random.integers(0x100, 0x103)),
            tag=int(random.integers(0, 4)), byte_count=int(random.integers(1, 4097)), status=int(random.integers(0, 2)),
            first_be=int(random.integers(0, 16)), last_be=int(random.integers(0, 16)),
            flags=int(random.integers(0, 128)) & ~3,
        )  # fmt: skip
    with wire.decoded(tmp_path_factory.mktemp("nonsense")) as run:
        assert (run.rows["role"] <= 16).all()
        ids = [row["id"] for row in run.table("transactions")]
        assert ids == list(range(len(ids)))
        assert all(row["transaction_id"] < len(ids) for row in run.table("children"))


def test_a_requester_id_that_the_core_fills_in(tmp_path: Path) -> None:
    """On a user interface requests may carry requester 0; the completer of register reads names the function."""
    wire = io_rig()
    wire.command(SQ, 0, 1, OPC=2, CID=1, PRP1=0x40_0000, **IO)
    wire.complete(CQ, 0, CID=1, SQID=1, SQHD=1)
    for row in wire.rows:
        if row["requester_id"] == 0x100:
            row["requester_id"] = 0
            row["flags"] |= Flag.REQUESTER_ASSUMED
    with wire.decoded(tmp_path) as run:
        assert {row["function"] for row in run.table("transactions")} == {0x100}
        assert run.table("transactions")[-1]["outcome"] == "completed"
        assert "unrelated" not in run.roles()


def test_a_completion_without_a_request_is_a_loss(tmp_path: Path) -> None:
    wire = io_rig()
    wire.add(DOWN, Kind.CplD, bytes(64), requester_id=0x100, tag=90, byte_count=64)  # asked before the capture
    with wire.decoded(tmp_path / "a") as run:
        assert not run.store.captures[0].troubles.counts
    wire.add(DOWN, Kind.CplD, bytes(64), requester_id=0x100, tag=1, byte_count=64)
    with wire.decoded(tmp_path / "b") as run:
        troubles = run.store.captures[0].troubles
        assert troubles.counts["completion-without-request"].count == 1
        assert [one[:2] for one in troubles.losses] == [("pcie0", wire.time - ROUND_TRIP)]


def test_an_answer_that_comes_long_after_the_begin_was_asked_for_within(tmp_path: Path) -> None:
    wire = io_rig()
    wire.command(SQ, 0, 1, OPC=2, CID=1, PRP1=0x40_0000, **IO)
    wire.time += 1_000_000_000
    wire.add(DOWN, Kind.CplD, bytes(64), requester_id=0x100, tag=90, byte_count=64)  # a tag not used yet
    with wire.decoded(tmp_path) as run:
        troubles = run.store.captures[0].troubles
        assert troubles.counts["completion-without-request"].count == 1
        assert [one[:2] for one in troubles.losses] == [("pcie0", wire.time - ROUND_TRIP)]


def test_memory_that_the_controller_borrows(tmp_path: Path) -> None:
    wire = io_rig()
    wire.command(ASQ, 2, 0, OPC=9, CID=2, CDW10=0x0D, CDW11=1, CDW12=4, CDW13=0x60_0000, CDW15=2)
    pieces = [(0x80_0000, 3), (0x90_0000, 1)]
    wire.fetch(0x60_0000, b"".join(at.to_bytes(8, "little") + n.to_bytes(8, "little") for at, n in pieces))
    wire.complete(ACQ, 2, CID=2, SQHD=3)
    inside = [wire.post(0x80_2FC0, bytes(64)), wire.fetch(0x90_0000, bytes(64))]
    outside = wire.post(0x80_3000, bytes(64))
    with wire.decoded(tmp_path) as run:
        owners = [run.store.owners[run.rows["owner"][one]] for one in inside]
        assert owners == ["host memory buffer of 01:00.0"] * 2
        assert [int(run.rows["role"][one]) == 16 for one in (*inside, outside)] == [False, False, True]


def test_small_writes_alone_make_no_controller(tmp_path: Path) -> None:
    """A device with a register page and DMA of its own is no NVMe controller."""
    wire = Wire()
    for n in range(20):
        wire.write32(0x1000 + 8 * n, n)
        wire.fetch(0x40_0000 + 0x1000 * n, bytes([n + 1] * 128))
        wire.post(0x50_0000 + 64 * n, bytes(16))
    with wire.decoded(tmp_path) as run:
        for name in ("transactions", "controllers", "queues", "doorbells", "regions"):
            assert run.table(name) == [], name
        assert set(run.roles()) == {"unrelated"}


def test_an_empty_capture_gives_empty_tables(tmp_path: Path) -> None:
    with Wire().decoded(tmp_path) as run:
        assert run.rows.dtype == TLP_ROW and not run.table("transactions") and not run.table("controllers")


def _lost(run: Decoded) -> dict[str, tuple[int, int]]:
    """Return how often each kind of loss was counted, and the earliest time something may be missing."""
    troubles = run.store.captures[0].troubles
    since = min((one.since_ps for one in troubles.losses), default=-1)
    return {name: (one.count, since) for name, one in troubles.counts.items()}


def _three_commands(wire: Wire) -> list[int]:
    """Run three I/O commands; return the ids of the first TLP of each and of the last doorbell."""
    starts = []
    for n in range(3):
        starts.append(len(wire.rows))
        wire.command(SQ, n, 1, OPC=0, CID=n, NSID=1)
        wire.complete(CQ, n, CID=n, SQID=1, SQHD=n + 1)
        wire.ring(1, n + 1, head=True)
    return [*starts, len(wire.rows)]


@pytest.mark.parametrize(
    ("missing", "kind"),
    [
        ({1, 2}, "completed-command-not-recorded"),
        ({3}, "consumed-entry-not-recorded"),
        ({3, 4}, "consumed-entry-not-recorded"),
        ({2}, "request-without-completion"),
    ],
)
def test_what_was_not_recorded_is_a_loss_and_no_fault(tmp_path: Path, missing: set[int], kind: str) -> None:
    """Of the second of three commands: 1 and 2 are its fetch, 3 its completion, 4 the head doorbell."""
    wire = io_rig()
    starts = _three_commands(wire)
    for place in sorted(missing, reverse=True):
        del wire.rows[starts[1] + place]
    with wire.decoded(tmp_path) as run:
        lost = _lost(run)
        rows = [row for row in run.table("transactions") if row["sqid"] == 1]
    assert kind in lost
    assert lost[kind][1] <= int(wire.rows[starts[1]]["time_ps"][0])
    assert rows[-1]["cid"] == 2 and rows[-1]["outcome"] == "completed"


def test_nothing_is_lost_where_all_was_recorded(tmp_path: Path) -> None:
    wire = io_rig()
    _three_commands(wire)
    with wire.decoded(tmp_path) as run:
        assert _lost(run) == {}
        assert [row["sqhd_in_range"] for row in run.table("transactions") if row["sqid"] == 1] == [True] * 3


def test_an_entry_left_out_that_the_host_waits_for_is_no_loss(tmp_path: Path) -> None:
    wire = io_rig()
    for n in range(2):
        wire.command(SQ, n, 1, OPC=0, CID=n, NSID=1)
    wire.complete(CQ, 0, CID=0, SQID=1, SQHD=2)
    wire.ring(1, 1, head=True)
    wire.complete(CQ, 2, CID=1, SQID=1, SQHD=2)
    with wire.decoded(tmp_path) as run:
        assert _lost(run) == {}
        row = run.table("transactions")[-1]
    assert (row["cq_slot"], row["cq_slot_due"]) == (2, 1)


def test_data_queue_entries_that_the_host_consumed_unseen() -> None:
    """A slot that is passed over is a loss once the head passes it; one beyond the tail if the next entry says so."""
    queue = DataQueue(Mock(), 1, 1, 0x10_0000, 16 * 32, None, 10, 0, 1.0)
    assert [queue.posted(0, 20), queue.posted(2, 40)] == [None, None]
    assert queue.unseen_since(1) is None, "the host waits at the slot that was left out"
    assert queue.unseen_since(3) == 20
    assert queue.unseen_since(5) is None, "beyond the newest entry"
    assert queue.posted(5, 60) == 40
    assert queue.unseen_since(9) is None
    assert queue.posted(6, 70) is None, "the head was wrong"


def test_interrupt_pins(tmp_path: Path) -> None:
    wire = io_rig()
    wire.add(DOWN, Kind.CfgRd0, completer_id=wire.function, address=0x34, length_dw=1, first_be=15, tag=203)
    wire.add(UP, Kind.CplD, (0x40).to_bytes(4, "little"), completer_id=wire.function, tag=203, byte_count=4)
    place = {"completer_id": wire.function, "address": 0x40, "length_dw": 1, "tag": 203}
    wire.add(DOWN, Kind.CfgRd0, first_be=15, **place)
    wire.add(UP, Kind.CplD, (0x11).to_bytes(4, "little"), completer_id=wire.function, tag=203, byte_count=4)
    wire.add(DOWN, Kind.CfgWr0, bytes(4), first_be=12, **place)  # MSI-X is off
    wire.add(UP, Kind.Cpl, completer_id=wire.function, tag=203, byte_count=4)
    times = []
    for slot in range(3):
        wire.command(SQ, slot, 1, OPC=0, CID=slot, NSID=1)
        wire.complete(CQ, slot, CID=slot, SQID=1, SQHD=slot + 1)
        if slot != 1:
            wire.add(UP, Kind.Msg, requester_id=wire.function, message_code=0x20)
            times.append(wire.time)
        if slot == 1:
            wire.ring(1, 2, head=True)
            wire.add(UP, Kind.Msg, requester_id=wire.function, message_code=0x24)
    with wire.decoded(tmp_path) as run:
        rows = [row for row in run.table("transactions") if row["sqid"] == 1]
        children = [row for row in run.table("children") if row["kind"] == "interrupt" and row["time_ps"] > times[0]]
    # the second completion came while the pin was asserted already
    assert [row["interrupt_ps"] for row in rows] == [times[0], None, times[1]]
    assert [row["time_ps"] for row in children] == times[1:]
