"""nvme-checklist G30: NVMe/RDMA: connections, capsules, and data by keyed SGL."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.fabrics import SGL_OFFSET
from lmtrace.spec.nvme import SQE_SIZE
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G30 NVMe/RDMA"
PROFILE = "fabrics"

TRANSFERS = ("ReadRequest", "Write", "WriteImmediate")
SENDS = ("Send", "SendInvalidate")
MOST_REJECT = 8


def _sends(batch: pa.RecordBatch, direction: str) -> np.ndarray:
    sends: np.ndarray = words(batch, "kind", SENDS) & words(batch, "direction", (direction,))
    return sends


@column_rule(
    "RDMA-3.1-n1", table="pdus", columns=("kind", "recfmt", "host_receives", "host_sends", "sqid", "admin_first"),
    spec="NVMe RDMA Transport 1.1, 3.1", party="host",
)  # fmt: skip
def wrong_connection_request(batch: pa.RecordBatch) -> Broken:
    """A connection request has record format 0 and queue sizes other than 0; that of the admin queue comes first.

    The controller sets its queue up from its private data, before any command. Which admin queue an I/O queue belongs
    to is known once its Connect succeeds for the same host.

    Holds::

        1us pdus kind=ConnectRequest recfmt=0 host_receives=32 host_sends=31 sqid=0

    Breaks::

        1us pdus kind=ConnectRequest recfmt=1 host_receives=32 host_sends=31 sqid=0

    Breaks::

        1us pdus kind=ConnectRequest recfmt=0 host_receives=0 host_sends=31 sqid=0

    Holds::

        1us pdus kind=Send sqid=1 admin_first=yes

    Breaks::

        1us pdus kind=Send sqid=1 admin_first=no

    Silent::

        1us pdus kind=Send sqid=1
    """
    recfmt, receives, sends, qid = (
        numbers(batch, name) for name in ("recfmt", "host_receives", "host_sends", "sqid")
    )  # fmt: skip
    asks = words(batch, "kind", ("ConnectRequest",)) & there(batch, "recfmt")
    joins = there(batch, "admin_first")
    late = joins & (numbers(batch, "admin_first") == 0)
    return found(
        asks | joins, (asks & ((recfmt != 0) | (receives == 0) | (sends == 0))) | late,
        lambda row: (
            f"the queue pair of queue {qid[row]} was asked for before that of its admin queue" if late[row] else
            f"the request for queue {qid[row]} has RECFMT {recfmt[row]}, HRQSIZE {receives[row]}, HSQSIZE {sends[row]}"
        ),
    )  # fmt: skip


@column_rule(
    "RDMA-3.3-n1", table="pdus",
    columns=("kind", "direction", "size", "data_bytes", "capsule_limit", "sgl", "sgl_length"),
    spec="NVMe RDMA Transport 1.1, 3.3", party="host", local=False,
)  # fmt: skip
def capsule_of_wrong_size(batch: pa.RecordBatch) -> Broken:
    """A command capsule has 64 bytes and the data that its descriptor announces, and fits what the controller takes.

    It goes into a receive buffer of that size.

    Holds::

        1us pdus kind=Send direction=downstream size=64 data_bytes=0 sgl=0x40 sgl_length=4096

    Holds::

        1us pdus kind=Send direction=downstream size=576 data_bytes=512 capsule_limit=4096 sgl=1 sgl_length=512

    Breaks::

        1us pdus kind=Send direction=downstream size=4672 data_bytes=4608 capsule_limit=4096 sgl=1 sgl_length=4608

    Breaks::

        1us pdus kind=Send direction=downstream size=60 data_bytes=0

    Silent::

        1us pdus kind=Send direction=upstream size=16 data_bytes=0
    """
    size, data, limit, sgl, length = (
        numbers(batch, name) for name in ("size", "data_bytes", "capsule_limit", "sgl", "sgl_length")
    )  # fmt: skip
    bad = (size < SQE_SIZE) | (there(batch, "capsule_limit") & (data > limit))
    bad |= (data > 0) & (sgl == SGL_OFFSET) & (length > data)
    return found(
        _sends(batch, "downstream"), bad,
        lambda row: f"a capsule of {size[row]} bytes with {data[row]} bytes of data"
        + (f", the controller takes {limit[row]}" if limit[row] else ""),
    )  # fmt: skip


def _key(batch: pa.RecordBatch, row: int) -> str:
    address, length, key = (batch.column(name)[row].as_py() or 0 for name in ("address", "length", "key"))
    return f"{length} bytes at {address:X}h with key {key:X}h"


_TRANSFER = ("kind", "command", "address", "length", "key", "moves")


@column_rule(
    "RDMA-3.3-n2", table="pdus", columns=_TRANSFER, spec="NVMe RDMA Transport 1.1, 3.3", party="controller",
    local=False,
)  # fmt: skip
def transfer_outside_every_buffer(batch: pa.RecordBatch) -> Broken:
    """A controller reads and writes host memory only inside the keyed SGL of a command that is outstanding.

    Anything else is memory that the host did not lend.

    Holds::

        1us pdus kind=Write command=outstanding address=0x1000 length=512 key=7

    Breaks::

        1us pdus kind=Write command=outside address=0x1000 length=512 key=7

    Breaks::

        1us pdus kind=ReadRequest command=unknown address=0x1000 length=512 key=7

    Silent::

        1us pdus kind=Write address=0x1000 length=512 key=7
    """
    return found(
        words(batch, "kind", TRANSFERS) & there(batch, "command"), words(batch, "command", ("outside", "unknown")),
        lambda row: f"{_key(batch, row)} lie in no buffer of an outstanding command",
    )  # fmt: skip


@column_rule(
    "RDMA-3.3-n3", table="pdus", columns=_TRANSFER, spec="NVMe RDMA Transport 1.1, 3.3", party="controller",
    local=False,
)  # fmt: skip
def transfer_the_wrong_way(batch: pa.RecordBatch) -> Broken:
    """A controller reads the buffers of commands that write, and writes those of commands that read.

    A write into the buffer of a write changes what the host wants stored.

    Holds::

        1us pdus kind=ReadRequest moves="to device" address=0x1000 length=512 key=7

    Breaks::

        1us pdus kind=Write moves="to device" address=0x1000 length=512 key=7

    Breaks::

        1us pdus kind=ReadRequest moves="from device" address=0x1000 length=512 key=7
    """
    reads = words(batch, "kind", ("ReadRequest",))
    to, back = words(batch, "moves", ("to device", "nothing")), words(batch, "moves", ("from device", "nothing"))
    return found(
        words(batch, "kind", TRANSFERS) & there(batch, "moves"), (reads & back) | (~reads & to),
        lambda row: f"{_key(batch, row)} were {'read' if reads[row] else 'written'} "
        f"for a command that moves {batch.column('moves')[row]}",
    )  # fmt: skip


@column_rule(
    "RDMA-3.3-n4", table="pdus", columns=_TRANSFER, spec="NVMe RDMA Transport 1.1, 3.3", party="controller",
    local=False,
)  # fmt: skip
def transfer_after_the_response(batch: pa.RecordBatch) -> Broken:
    """All data of a command are moved before its response.

    The host uses its buffer for something else from then on.

    Holds::

        1us pdus kind=Write command=outstanding address=0x1000 length=512 key=7

    Breaks::

        1us pdus kind=Write command=completed address=0x1000 length=512 key=7

    Breaks::

        1us pdus kind=ReadResponse command=completed address=0x1000 length=512 key=7
    """
    return found(
        words(batch, "kind", (*TRANSFERS, "ReadResponse")) & there(batch, "command"),
        words(batch, "command", ("completed", "completed by SUCCESS")),
        lambda row: f"{_key(batch, row)} were moved after the response of their command",
    )  # fmt: skip


@column_rule(
    "RDMA-3.3-n5", table="pdus", columns=("kind", "key", "key_due", "invalidates", "cid"),
    spec="NVMe RDMA Transport 1.1, 3.3", party="controller", severity="warning", local=False,
)  # fmt: skip
def invalidated_without_being_asked(batch: pa.RecordBatch) -> Broken:
    """A response invalidates a key only where its command asked for that, and only that key.

    The host goes on using a key that it did not give back.

    Holds::

        1us pdus kind=SendInvalidate key=7 key_due=7 invalidates=yes cid=1

    Breaks::

        1us pdus kind=SendInvalidate key=8 key_due=7 invalidates=yes cid=1

    Breaks::

        1us pdus kind=SendInvalidate key=7 key_due=7 invalidates=no cid=1

    Silent::

        1us pdus kind=SendInvalidate key=7 cid=1
    """
    key, due, cid = (numbers(batch, name) for name in ("key", "key_due", "cid"))
    asked = numbers(batch, "invalidates") == 1
    return found(
        words(batch, "kind", ("SendInvalidate",)) & there(batch, "key", "key_due", "invalidates"),
        (key != due) | ~asked,
        lambda row: f"the response of CID {cid[row]} invalidates key {key[row]:X}h"
        + (f", that of the command is {due[row]:X}h" if asked[row] else " although the command did not ask for it"),
    )  # fmt: skip


@column_rule(
    "RDMA-3.3-n6", table="pdus", columns=("kind", "direction", "bytes_left", "sct", "sc", "cid"),
    spec="NVMe RDMA Transport 1.1, 3.3", party="controller", local=False,
)  # fmt: skip
def completed_with_data_missing(batch: pa.RecordBatch) -> Broken:
    """A command that succeeds has moved all of its data.

    The host takes its buffer for filled, or its data for stored.

    Holds::

        1us pdus kind=Send direction=upstream bytes_left=0 sct=0 sc=0 cid=1

    Breaks::

        1us pdus kind=Send direction=upstream bytes_left=512 sct=0 sc=0 cid=1

    Silent::

        1us pdus kind=Send direction=upstream bytes_left=512 sct=0 sc=0x80 cid=1
    """
    left, cid = numbers(batch, "bytes_left"), numbers(batch, "cid")
    ok = (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    return found(
        _sends(batch, "upstream") & there(batch, "bytes_left", "sct", "sc") & ok, left > 0,
        lambda row: f"CID {cid[row]} was completed with success while {left[row]} bytes of its data were missing",
    )  # fmt: skip


@column_rule(
    "RDMA-3.3-n7", table="pdus", columns=("kind", "reject"), spec="NVMe RDMA Transport 1.1, 3.1",
    party="controller", severity="warning",
)  # fmt: skip
def reserved_reject(batch: pa.RecordBatch) -> Broken:
    """A controller that rejects a connection gives one of the defined reasons, 1 to 8.

    The host decides by it whether to try again.

    Holds::

        1us pdus kind=ConnectReject reject=6

    Breaks::

        1us pdus kind=ConnectReject reject=9

    Silent::

        1us pdus kind=ConnectReject
    """
    reason = numbers(batch, "reject")
    return found(
        words(batch, "kind", ("ConnectReject",)) & there(batch, "reject"), (reason < 1) | (reason > MOST_REJECT),
        lambda row: f"the connection was rejected with STS {reason[row]}",
    )  # fmt: skip
