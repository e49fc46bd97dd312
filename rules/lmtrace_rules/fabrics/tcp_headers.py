"""nvme-checklist G29: headers and digests of every PDU of NVMe/TCP."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.fabrics import DIGEST_SIZE, HEADER_BYTES, MOST_DATA_OFFSET
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.fabrics.tcp_connection import is_pdu

SECTION = "G29 NVMe/TCP"
PROFILE = "fabrics"

DATA_PDUS = ("H2CData", "C2HData")
DATA_CARRIERS = ("CapsuleCmd", "H2CData", "C2HData")
DIGESTED = (*DATA_CARRIERS, "CapsuleResp", "R2T")


@column_rule(
    "TCP-3.3.1.1-n2", table="pdus", columns=("kind", "flags", "header_digest_due"),
    spec="NVMe TCP Transport 1.1, 3.3.1.1", party="both", local=False,
)  # fmt: skip
def header_digest_flag(batch: pa.RecordBatch) -> Broken:
    """HDGSTF is set exactly where header digests were agreed on.

    The receiver looks for the data where the agreement says.

    Holds::

        1us pdus kind=CapsuleCmd flags=1 header_digest_due=yes

    Breaks::

        1us pdus kind=CapsuleResp flags=0 header_digest_due=yes

    Silent::

        1us pdus kind=CapsuleResp flags=0
    """
    flag, due = numbers(batch, "flags") & 1, numbers(batch, "header_digest_due")
    kinds = batch.column("kind")
    return found(
        words(batch, "kind", DIGESTED) & there(batch, "flags", "header_digest_due"), flag != due,
        lambda row: f"{kinds[row]} has HDGSTF {flag[row]}, header digests were {'' if due[row] else 'not '}agreed on",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.1.1-n3", table="pdus", columns=("kind", "flags", "data_digest_due"),
    spec="NVMe TCP Transport 1.1, 3.3.1.1", party="both", local=False,
)  # fmt: skip
def data_digest_flag(batch: pa.RecordBatch) -> Broken:
    """DDGSTF is set exactly where data digests were agreed on and the PDU has data.

    The receiver would take data for a digest, or a digest for data.

    Holds::

        1us pdus kind=C2HData flags=14 data_digest_due=yes

    Breaks::

        1us pdus kind=C2HData flags=12 data_digest_due=yes

    Breaks::

        1us pdus kind=CapsuleCmd flags=2 data_digest_due=no

    Silent::

        1us pdus kind=C2HData flags=12
    """
    flag, due = numbers(batch, "flags") >> 1 & 1, numbers(batch, "data_digest_due")
    kinds = batch.column("kind")
    return found(
        words(batch, "kind", DIGESTED) & there(batch, "flags", "data_digest_due"), flag != due,
        lambda row: f"{kinds[row]} has DDGSTF {flag[row]} where a data digest is {'' if due[row] else 'not '}due",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.1.1-n4", table="pdus", columns=("kind", "header_digest"), spec="NVMe TCP Transport 1.1, 3.3.1.1",
    party="both",
)  # fmt: skip
def wrong_header_digest(batch: pa.RecordBatch) -> Broken:
    """The header digest is the CRC32C of the header.

    A header that was damaged must not be acted on.

    Holds::

        1us pdus kind=CapsuleCmd header_digest=good

    Breaks::

        1us pdus kind=CapsuleCmd header_digest=bad
    """
    kinds = batch.column("kind")
    return found(
        there(batch, "header_digest"), words(batch, "header_digest", ("bad",)),
        lambda row: f"the header digest of {kinds[row]} does not match its header",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.1.1-n5", table="pdus", columns=("kind", "data_digest", "data_damaged", "sct", "sc"),
    spec="NVMe TCP Transport 1.1, 3.3.1.1", party="both",
)  # fmt: skip
def wrong_data_digest(batch: pa.RecordBatch) -> Broken:
    """The data digest is the CRC32C of the data, and a command whose data came damaged does not succeed.

    It ends with Transient Transport Error, so that the host sends it again.

    Holds::

        1us pdus kind=H2CData data_digest=good

    Holds::

        1us pdus kind=CapsuleResp data_damaged=yes sct=0 sc=0x22

    Breaks::

        1us pdus kind=C2HData data_digest=bad

    Breaks::

        1us pdus kind=CapsuleResp data_damaged=yes sct=0 sc=0
    """
    damaged = (numbers(batch, "data_damaged") == 1) & there(batch, "sct", "sc")
    success = damaged & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    kinds = batch.column("kind")
    return found(
        there(batch, "data_digest") | damaged, words(batch, "data_digest", ("bad",)) | success,
        lambda row: "the command succeeded although its data came with a wrong digest" if success[row]
        else f"the data digest of {kinds[row]} does not match its data",
    )  # fmt: skip


@column_rule(
    "TCP-3.6.2.1-n1", table="pdus", columns=("kind", "type", "hlen", "plen"), spec="NVMe TCP Transport 1.1, 3.6.2.1",
    party="both",
)  # fmt: skip
def wrong_header_length(batch: pa.RecordBatch) -> Broken:
    """HLEN is that of the type: 72 for a command capsule, 128 for initialisation, 24 for any other.

    The receiver finds digest and data by it.

    Holds::

        1us pdus kind=CapsuleCmd type=4 hlen=72 plen=72

    Breaks::

        1us pdus kind=C2HData type=7 hlen=28 plen=4124
    """
    kind, hlen = numbers(batch, "type"), numbers(batch, "hlen")
    due = np.array([HEADER_BYTES.get(number, 0) for number in range(256)])[np.clip(kind, 0, 255)]
    kinds = batch.column("kind")
    return found(
        is_pdu(batch) & (due > 0), hlen != due,
        lambda row: f"{kinds[row]} has HLEN {hlen[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.6.2.1-n2", table="pdus", columns=("kind", "flags", "hlen", "pdo", "plen", "data_bytes", "length"),
    spec="NVMe TCP Transport 1.1, 3.6.2.1", party="both",
)  # fmt: skip
def wrong_length(batch: pa.RecordBatch) -> Broken:
    """PLEN counts header, digests, padding and data, and the data are as long as the header says.

    Otherwise the two sides disagree on where the next PDU begins.

    Holds::

        1us pdus kind=C2HData flags=4 hlen=24 pdo=24 plen=536 data_bytes=512 length=512

    Holds::

        1us pdus kind=CapsuleResp flags=1 hlen=24 pdo=0 plen=28

    Breaks::

        1us pdus kind=C2HData flags=4 hlen=24 pdo=24 plen=536 data_bytes=512 length=4096

    Breaks::

        1us pdus kind=R2T flags=0 hlen=24 pdo=0 plen=28
    """
    flags, hlen, pdo, plen, data, length = (
        numbers(batch, name) for name in ("flags", "hlen", "pdo", "plen", "data_bytes", "length")
    )
    head = hlen + DIGEST_SIZE * (flags & 1)
    bare = words(batch, "kind", ("CapsuleResp", "R2T"))
    carriers, moving = words(batch, "kind", DATA_CARRIERS), words(batch, "kind", DATA_PDUS)
    bad = bare & (plen != head)
    bad |= carriers & (data > 0) & (pdo < head)
    bad |= carriers & (data == 0) & (plen != head)
    bad |= moving & (data != length)
    kinds = batch.column("kind")
    return found(
        bare | carriers, bad,
        lambda row: f"{kinds[row]} has HLEN {hlen[row]}, PDO {pdo[row]}, PLEN {plen[row]}, {data[row]} bytes of data"
        + (f" where its header says {length[row]}" if moving[row] else ""),
    )  # fmt: skip


@column_rule(
    "TCP-3.6.2.1-n3", table="pdus", columns=("kind", "pdo", "data_bytes", "alignment"),
    spec="NVMe TCP Transport 1.1, 3.6.2.1", party="both", local=False,
)  # fmt: skip
def misplaced_data(batch: pa.RecordBatch) -> Broken:
    """PDO is a multiple of the alignment that the receiver asked for, and at most 128.

    The receiver laid its buffers out for that.

    Holds::

        1us pdus kind=C2HData pdo=32 data_bytes=512 alignment=16

    Breaks::

        1us pdus kind=C2HData pdo=24 data_bytes=512 alignment=16

    Silent::

        1us pdus kind=CapsuleCmd pdo=0 data_bytes=0 alignment=16

    Silent::

        1us pdus kind=C2HData pdo=24 data_bytes=512
    """
    pdo, data, alignment = (numbers(batch, name) for name in ("pdo", "data_bytes", "alignment"))
    kinds = batch.column("kind")
    return found(
        words(batch, "kind", DATA_CARRIERS) & (data > 0) & there(batch, "alignment"),
        (pdo % np.maximum(alignment, 1) != 0) | (pdo > MOST_DATA_OFFSET),
        lambda row: f"{kinds[row]} has PDO {pdo[row]} where the receiver asked for multiples of {alignment[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.6.2.8-n1", table="pdus", columns=("kind", "offset", "length"), spec="NVMe TCP Transport 1.1, 3.6.2",
    party="both",
)  # fmt: skip
def part_of_a_dword(batch: pa.RecordBatch) -> Broken:
    """Offsets and lengths of data are multiples of 4.

    Data move in dwords.

    Holds::

        1us pdus kind=R2T offset=4096 length=512

    Breaks::

        1us pdus kind=H2CData offset=4098 length=512
    """
    offset, length = numbers(batch, "offset"), numbers(batch, "length")
    kinds = batch.column("kind")
    return found(
        words(batch, "kind", (*DATA_PDUS, "R2T")) & there(batch, "offset", "length"),
        (offset % 4 != 0) | (length % 4 != 0),
        lambda row: f"{kinds[row]} is about {length[row]} bytes at offset {offset[row]}",
    )  # fmt: skip
