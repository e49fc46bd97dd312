"""nvme-checklist G29: data of NVMe/TCP towards the controller: R2T and H2CData."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.fabrics.tcp_data_to_host import RESPONSE, data_left, last_flag

SECTION = "G29 NVMe/TCP"
PROFILE = "fabrics"


@column_rule(
    "TCP-3.3.2.2-n9", table="pdus", columns=RESPONSE, spec="NVMe TCP Transport 1.1, 3.3.2.2", party="controller",
    local=False,
)  # fmt: skip
def completed_before_its_data_came(batch: pa.RecordBatch) -> Broken:
    """A write that succeeds has received all of its data before the response.

    The controller cannot have written what it did not have.

    Holds::

        1us pdus kind=CapsuleResp transport=tcp moves="to device" bytes_left=0 sct=0 sc=0 cid=1

    Breaks::

        1us pdus kind=CapsuleResp transport=tcp moves="in capsule" bytes_left=512 sct=0 sc=0 cid=1

    Silent::

        1us pdus kind=CapsuleResp transport=tcp moves="to device" bytes_left=512 sct=0 sc=4 cid=1
    """
    return data_left(batch, ("to device", "in capsule"))


@column_rule(
    "TCP-3.3.2.2-n1", table="pdus", columns=("kind", "offset", "length", "offset_due", "end_due", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.2", party="controller", local=False,
)  # fmt: skip
def r2t_out_of_order(batch: pa.RecordBatch) -> Broken:
    """The R2Ts of a command ask for its buffer from 0 on, one after another, and for nothing beyond it.

    Together they cover it once.

    Holds::

        1us pdus kind=R2T offset=4096 length=4096 offset_due=4096 end_due=8192 cid=1

    Breaks::

        1us pdus kind=R2T offset=0 length=4096 offset_due=4096 end_due=8192 cid=1

    Breaks::

        1us pdus kind=R2T offset=4096 length=8192 offset_due=4096 end_due=8192 cid=1

    Silent::

        1us pdus kind=R2T offset=0 length=4096 cid=1
    """
    offset, length, cid = (numbers(batch, name) for name in ("offset", "length", "cid"))
    due, end = (numbers(batch, name).astype(np.int64) for name in ("offset_due", "end_due"))
    return found(
        words(batch, "kind", ("R2T",)) & there(batch, "offset", "length", "offset_due", "end_due"),
        (offset != due) | (offset + length > end) | (length == 0),
        lambda row: f"R2T of CID {cid[row]} asks for {length[row]} bytes at {offset[row]}; {due[row]} was next, "
        f"the buffer ends at {end[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.2-n2", table="pdus", columns=("kind", "r2ts_open", "r2ts_allowed", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.2", party="controller", local=False,
)  # fmt: skip
def too_many_r2ts(batch: pa.RecordBatch) -> Broken:
    """No more R2Ts of one command are open than the host takes, MAXR2T and 1.

    The host has room for so many.

    Holds::

        1us pdus kind=R2T r2ts_open=0 r2ts_allowed=1 cid=1

    Breaks::

        1us pdus kind=R2T r2ts_open=1 r2ts_allowed=1 cid=1

    Silent::

        1us pdus kind=R2T r2ts_open=1 cid=1
    """
    waiting, most, cid = (numbers(batch, name) for name in ("r2ts_open", "r2ts_allowed", "cid"))
    return found(
        words(batch, "kind", ("R2T",)) & there(batch, "r2ts_open", "r2ts_allowed"), waiting >= most,
        lambda row: f"{waiting[row]} R2Ts of CID {cid[row]} were open, the host takes {most[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.2-n8", table="pdus", columns=("kind", "moves", "command", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.2", party="controller", local=False,
)  # fmt: skip
def r2t_for_no_write(batch: pa.RecordBatch) -> Broken:
    """Only a command that writes, and whose data did not come with it, gets an R2T.

    For any other the host has nothing to send.

    Holds::

        1us pdus kind=R2T moves="to device" command=outstanding cid=1

    Breaks::

        1us pdus kind=R2T moves="in capsule" command=outstanding cid=1

    Breaks::

        1us pdus kind=R2T command=completed cid=1

    Silent::

        1us pdus kind=R2T cid=1
    """
    cid = numbers(batch, "cid")
    gone = there(batch, "command") & ~words(batch, "command", ("outstanding",))
    wrong = there(batch, "moves") & ~words(batch, "moves", ("to device", "both"))
    moves, state = batch.column("moves"), batch.column("command")
    return found(
        words(batch, "kind", ("R2T",)) & (there(batch, "moves") | gone), gone | wrong,
        lambda row: f"R2T names CID {cid[row]}, whose command is {state[row]}" if gone[row]
        else f"R2T came for CID {cid[row]}, which moves {moves[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.2-n3", table="pdus", columns=("kind", "r2ts_open", "cid"), spec="NVMe TCP Transport 1.1, 3.3.2.2",
    party="host", local=False,
)  # fmt: skip
def data_not_asked_for(batch: pa.RecordBatch) -> Broken:
    """A host sends data when an R2T asks for them.

    The controller has no room for others.

    Holds::

        1us pdus kind=H2CData r2ts_open=1 cid=1

    Breaks::

        1us pdus kind=H2CData r2ts_open=0 cid=1

    Silent::

        1us pdus kind=H2CData cid=1
    """
    waiting, cid = numbers(batch, "r2ts_open"), numbers(batch, "cid")
    return found(
        words(batch, "kind", ("H2CData",)) & there(batch, "r2ts_open"), waiting == 0,
        lambda row: f"H2CData of CID {cid[row]} came while no R2T was open",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.2-n4", table="pdus", columns=("kind", "ttag", "ttag_open", "r2ts_open", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.2", party="host", local=False,
)  # fmt: skip
def unknown_transfer_tag(batch: pa.RecordBatch) -> Broken:
    """H2CData has the TTAG of the R2T that it answers.

    The controller finds its buffer by it.

    Holds::

        1us pdus kind=H2CData ttag=3 ttag_open=yes r2ts_open=1 cid=1

    Breaks::

        1us pdus kind=H2CData ttag=4 ttag_open=no r2ts_open=1 cid=1

    Silent::

        1us pdus kind=H2CData ttag=4 cid=1
    """
    ttag, cid = numbers(batch, "ttag"), numbers(batch, "cid")
    return found(
        words(batch, "kind", ("H2CData",)) & there(batch, "ttag_open") & (numbers(batch, "r2ts_open") > 0),
        numbers(batch, "ttag_open") == 0,
        lambda row: f"H2CData of CID {cid[row]} has TTAG {ttag[row]:04X}h, which no open R2T has",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.2-n5", table="pdus",
    columns=("kind", "offset", "length", "offset_due", "end_due", "flags", "last_due", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.2", party="host", local=False,
)  # fmt: skip
def data_beside_the_request(batch: pa.RecordBatch) -> Broken:
    """The H2CData of an R2T bring what it asked for, in order, and the last of them has LAST_PDU.

    The controller knows by it that the R2T is served.

    Holds::

        1us pdus kind=H2CData offset=4096 length=4096 offset_due=4096 end_due=8192 flags=4 last_due=yes cid=1

    Breaks::

        1us pdus kind=H2CData offset=0 length=4096 offset_due=4096 end_due=8192 flags=0 last_due=no cid=1

    Breaks::

        1us pdus kind=H2CData offset=4096 length=4096 offset_due=4096 end_due=8192 flags=0 last_due=yes cid=1

    Silent::

        1us pdus kind=H2CData offset=0 length=4096 flags=0 cid=1
    """
    offset, length, cid = (numbers(batch, name) for name in ("offset", "length", "cid"))
    due, end = (numbers(batch, name).astype(np.int64) for name in ("offset_due", "end_due"))
    last, last_due = last_flag(batch), numbers(batch, "last_due") == 1
    return found(
        words(batch, "kind", ("H2CData",)) & there(batch, "offset_due", "end_due", "last_due"),
        (offset != due) | (offset + length > end) | (last != last_due),
        lambda row: f"H2CData of CID {cid[row]} brings {length[row]} bytes at {offset[row]} with LAST_PDU "
        f"{int(last[row])}; {due[row]} was next, and the R2T ends at {end[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.2-n6", table="pdus", columns=("kind", "length", "length_limit", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.2", party="host", local=False,
)  # fmt: skip
def more_data_than_taken(batch: pa.RecordBatch) -> Broken:
    """An H2CData has no more data than the controller takes, MAXH2CDATA.

    The controller has no room for more.

    Holds::

        1us pdus kind=H2CData length=4096 length_limit=4096 cid=1

    Breaks::

        1us pdus kind=H2CData length=8192 length_limit=4096 cid=1

    Silent::

        1us pdus kind=H2CData length=8192 cid=1
    """
    length, most, cid = (numbers(batch, name) for name in ("length", "length_limit", "cid"))
    return found(
        words(batch, "kind", ("H2CData",)) & there(batch, "length_limit"), length > most,
        lambda row: f"H2CData of CID {cid[row]} has {length[row]} bytes, the controller takes {most[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.2-n7", table="pdus", columns=("kind", "ttag", "ttag_due", "ttag_open", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.2", party="host", local=False,
)  # fmt: skip
def r2ts_served_out_of_order(batch: pa.RecordBatch) -> Broken:
    """The R2Ts of a command are served in the order in which they came.

    The controller fills its buffers in that order.

    Holds::

        1us pdus kind=H2CData ttag=3 ttag_due=3 ttag_open=yes cid=1

    Breaks::

        1us pdus kind=H2CData ttag=4 ttag_due=3 ttag_open=yes cid=1

    Silent::

        1us pdus kind=H2CData ttag=4 cid=1
    """
    ttag, due, cid = (numbers(batch, name) for name in ("ttag", "ttag_due", "cid"))
    return found(
        words(batch, "kind", ("H2CData",)) & there(batch, "ttag_due") & (numbers(batch, "ttag_open") == 1),
        ttag != due,
        lambda row: f"H2CData of CID {cid[row]} serves TTAG {ttag[row]:04X}h while {due[row]:04X}h waits",
    )  # fmt: skip
