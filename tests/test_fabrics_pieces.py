"""Parts of the fabrics reader by themselves: digests, and streams whose segments come in any order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from lmtrace.spec.fabrics import FABRICS_OPCODE, IC, KIND, status_name
from lmtrace.spec.nvme import Status
from lmtrace.stage import PDU_ROW, Request
from lmtrace.trouble import Troubles
from lmtrace_decoders.crc import crc32c
from lmtrace_decoders.fabrics.batch import Batch, Place
from lmtrace_decoders.fabrics.tcp import ACK, SYN, Connection
from lmtrace_samples.network.pdu import Pdu, digest


def test_digest_of_the_standard() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


@given(st.binary(max_size=200))
def test_digest_is_that_of_the_model(data: bytes) -> None:
    assert crc32c(data) == int.from_bytes(digest(data), "little")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30), isn=st.sampled_from([0, 5000, (1 << 32) - 300, (1 << 32) - 1]))
def test_segments_in_any_order(seed: int, isn: int) -> None:
    rng = Random(seed)
    pdus = [Pdu("ICReq", False, IC.encode()[8:])]
    for number in range(6):
        data = rng.randbytes(4 * rng.randrange(100))
        pdus.append(Pdu("CapsuleCmd", False, bytes(2) + bytes((number,)) + bytes(61), data, flags=1))
    stream = b"".join(one.encode() for one in pdus)
    cuts = sorted({0, len(stream), *(rng.randrange(len(stream)) for _ in range(12))})
    segments = [(first, stream[first:last]) for first, last in pairwise(cuts)]
    segments += rng.sample(segments, 3)
    for at in range(len(segments) - 1):
        if rng.random() < 0.4:
            segments[at], segments[at + 1] = segments[at + 1], segments[at]
    batch = Batch()
    one = Connection(batch, Request(Path("none"), None, Troubles("none")), (50000, 4420), ("host", "target"))
    one.packet(0, isn, 0, SYN, 0, b"", Place(1, 0))
    one.packet(1, 7, isn + 1, SYN | ACK, 0, b"", Place(2, 0))
    for number, (first, data) in enumerate(segments, 3):
        one.packet(0, (isn + 1 + first) % (1 << 32), 8, ACK, len(data), data, Place(number, number))
    rows = batch.chunk().rows.view(PDU_ROW)
    assert rows["kind"].tolist() == [KIND["ICReq"], *[KIND["CapsuleCmd"]] * 6]
    assert rows["size"].tolist() == [len(pdu.encode()) for pdu in pdus]
    assert rows["data_bytes"].tolist() == [len(pdu.data) for pdu in pdus]
    assert set(rows["header_digest"].tolist()[1:]) == {1}
    assert (rows["first_packet"] <= rows["source_offset"]).all()


def test_a_status_is_named_as_its_command_means_it() -> None:
    assert status_name(FABRICS_OPCODE, Status(1, 0x82)) == "Connect Invalid Parameters"
    assert status_name(FABRICS_OPCODE, Status(0, 2)) == Status(0, 2).name == "Invalid Field in Command"
    assert status_name(1, Status(1, 0x82)) == "Attempted Write to Read Only Range"
