"""nvme-checklist G29: data of NVMe/TCP: R2T and H2CData towards the controller, C2HData towards the host."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.fabrics import LAST_PDU, SUCCESS_FLAG
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G29 NVMe/TCP"
PROFILE = "fabrics"

NOT_TO_HOST = ("to device", "in capsule", "nothing")


def _last(batch: pa.RecordBatch) -> np.ndarray:
    flags: np.ndarray = numbers(batch, "flags")
    return (flags & LAST_PDU) > 0


def _succeeded(batch: pa.RecordBatch) -> np.ndarray:
    ok: np.ndarray = there(batch, "sct", "sc") & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    ok &= words(batch, "transport", ("tcp",))
    return ok


# -- towards the host -------------------------------------------------------------------------------------------


@column_rule(
    "TCP-3.3.2.1-n1", table="pdus", columns=("kind", "offset", "offset_due", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.1", party="controller", local=False,
)  # fmt: skip
def read_data_out_of_order(batch: pa.RecordBatch) -> Broken:
    """The data of a command begin at offset 0, and each C2HData goes on where the one before ended.

    The host may place them as they come.

    Holds::

        1us pdus kind=C2HData offset=4096 offset_due=4096 cid=1

    Breaks::

        1us pdus kind=C2HData offset=8192 offset_due=4096 cid=1

    Silent::

        1us pdus kind=C2HData offset=8192 cid=1
    """
    offset, due, cid = (numbers(batch, name) for name in ("offset", "offset_due", "cid"))
    return found(
        words(batch, "kind", ("C2HData",)) & there(batch, "offset", "offset_due"), offset != due.astype(offset.dtype),
        lambda row: f"C2HData of CID {cid[row]} begins at {offset[row]}, {due[row]} was next",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.1-n2", table="pdus", columns=("kind", "offset", "length", "end_due", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.1", party="controller", local=False,
)  # fmt: skip
def read_data_beyond_buffer(batch: pa.RecordBatch) -> Broken:
    """The data of a command end within its buffer.

    Beyond it lies memory that is none of the controller's.

    Holds::

        1us pdus kind=C2HData offset=4096 length=4096 end_due=8192 cid=1

    Breaks::

        1us pdus kind=C2HData offset=4096 length=8192 end_due=8192 cid=1
    """
    end = numbers(batch, "offset") + numbers(batch, "length")
    due, cid = numbers(batch, "end_due").astype(np.int64), numbers(batch, "cid")
    return found(
        words(batch, "kind", ("C2HData",)) & there(batch, "offset", "length", "end_due"), end > due,
        lambda row: f"C2HData of CID {cid[row]} ends at {end[row]}, the buffer at {due[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.1-n3", table="pdus", columns=("kind", "command", "cid"), spec="NVMe TCP Transport 1.1, 3.3.2.1",
    party="controller", local=False,
)  # fmt: skip
def read_data_of_no_command(batch: pa.RecordBatch) -> Broken:
    """C2HData names a command that is outstanding.

    Data of another go into a buffer that the host uses for something else by then.

    Holds::

        1us pdus kind=C2HData command=outstanding cid=1

    Breaks::

        1us pdus kind=C2HData command=unknown cid=1

    Breaks::

        1us pdus kind=C2HData command=completed cid=1

    Silent::

        1us pdus kind=C2HData cid=1
    """
    cid, state = numbers(batch, "cid"), batch.column("command")
    return found(
        words(batch, "kind", ("C2HData",)) & there(batch, "command"), ~words(batch, "command", ("outstanding",)),
        lambda row: f"C2HData names CID {cid[row]}, whose command is {state[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2.1-n4", table="pdus",
    columns=("kind", "flags", "last_due", "after_last", "last_seen", "sct", "sc", "cid", "transport"),
    spec="NVMe TCP Transport 1.1, 3.3.2.1", party="controller", local=False,
)  # fmt: skip
def last_flag_misplaced(batch: pa.RecordBatch) -> Broken:
    """LAST_PDU is set in the last C2HData of a command and in no other.

    The host knows by it that its buffer is filled.

    Holds::

        1us pdus kind=C2HData flags=4 last_due=yes after_last=no cid=1

    Holds::

        1us pdus kind=CapsuleResp transport=tcp last_seen=yes sct=0 sc=0 cid=1

    Breaks::

        1us pdus kind=C2HData flags=4 last_due=no after_last=no cid=1

    Breaks::

        1us pdus kind=C2HData flags=0 last_due=no after_last=yes cid=1

    Breaks::

        1us pdus kind=CapsuleResp transport=tcp last_seen=no sct=0 sc=0 cid=1

    Silent::

        1us pdus kind=C2HData flags=4 cid=1
    """
    data = words(batch, "kind", ("C2HData",))
    known, last = data & there(batch, "last_due"), _last(batch)
    due, cid = numbers(batch, "last_due") == 1, numbers(batch, "cid")
    later = data & (numbers(batch, "after_last") == 1)
    over = words(batch, "kind", ("CapsuleResp",)) & there(batch, "last_seen") & _succeeded(batch)
    missing = over & (numbers(batch, "last_seen") == 0)

    def message(row: int) -> str:
        if missing[row]:
            return f"CID {cid[row]} was completed, and none of its C2HData had LAST_PDU"
        if later[row]:
            return f"C2HData of CID {cid[row]} came behind the one with LAST_PDU"
        word = "the last" if due[row] else "not the last"
        return f"C2HData of CID {cid[row]} has LAST_PDU {int(last[row])} where it is {word}"

    return found(known | later | over, (known & (last != due)) | later | missing, message)


@column_rule(
    "TCP-3.3.2.1-n5", table="pdus", columns=("kind", "flags", "flow_control", "command", "cid"),
    spec="NVMe TCP Transport 1.1, 3.3.2.1", party="controller", local=False,
)  # fmt: skip
def success_flag_misused(batch: pa.RecordBatch) -> Broken:
    """SUCCESS comes with LAST_PDU only, only where SQ flow control is disabled, and no CapsuleResp follows.

    The host makes the completion up, and without a response it hears of no SQ head pointer.

    Holds::

        1us pdus kind=C2HData flags=12 flow_control=no command=outstanding cid=1

    Breaks::

        1us pdus kind=C2HData flags=12 flow_control=yes command=outstanding cid=1

    Breaks::

        1us pdus kind=C2HData flags=8 flow_control=no command=outstanding cid=1

    Breaks::

        1us pdus kind=CapsuleResp flags=0 command="completed by SUCCESS" cid=1

    Silent::

        1us pdus kind=C2HData flags=12 command=outstanding cid=1
    """
    data = words(batch, "kind", ("C2HData",)) & ((numbers(batch, "flags") & SUCCESS_FLAG) > 0)
    last, cid = _last(batch), numbers(batch, "cid")
    again = words(batch, "kind", ("CapsuleResp",)) & words(batch, "command", ("completed by SUCCESS",))
    known = there(batch, "flow_control")
    controlled = known & (numbers(batch, "flow_control") == 1)

    def message(row: int) -> str:
        if again[row]:
            return f"a CapsuleResp came for CID {cid[row]}, which SUCCESS had completed"
        if not last[row]:
            return f"C2HData of CID {cid[row]} has SUCCESS without LAST_PDU"
        return f"C2HData of CID {cid[row]} has SUCCESS although SQ flow control is in force"

    return found((data & (known | ~last)) | again, (data & (controlled | ~last)) | again, message)


@column_rule(
    "TCP-3.3.2.1-n6", table="pdus", columns=("kind", "moves", "cid"), spec="NVMe TCP Transport 1.1, 3.3.2.1",
    party="controller", local=False,
)  # fmt: skip
def read_data_for_a_write(batch: pa.RecordBatch) -> Broken:
    """Data come for commands that read.

    The buffer of a write holds what is to be written.

    Holds::

        1us pdus kind=C2HData moves="from device" cid=1

    Breaks::

        1us pdus kind=C2HData moves="to device" cid=1
    """
    cid, moves = numbers(batch, "cid"), batch.column("moves")
    return found(
        words(batch, "kind", ("C2HData",)) & there(batch, "moves"), words(batch, "moves", NOT_TO_HOST),
        lambda row: f"C2HData came for CID {cid[row]}, which moves {moves[row]}",
    )  # fmt: skip


def _left(batch: pa.RecordBatch, moves: tuple[str, ...]) -> Broken:
    left, cid = numbers(batch, "bytes_left"), numbers(batch, "cid")
    applies = words(batch, "kind", ("CapsuleResp",)) & _succeeded(batch) & there(batch, "bytes_left")
    return found(
        applies & words(batch, "moves", moves), left > 0,
        lambda row: f"CID {cid[row]} was completed with success while {left[row]} bytes of its data were missing",
    )  # fmt: skip


_RESPONSE = ("kind", "bytes_left", "moves", "sct", "sc", "cid", "transport")


@column_rule(
    "TCP-3.3.2.1-n7", table="pdus", columns=_RESPONSE, spec="NVMe TCP Transport 1.1, 3.3.2.1", party="controller",
    local=False,
)  # fmt: skip
def completed_before_its_data(batch: pa.RecordBatch) -> Broken:
    """A read that succeeds has sent all of its data before the response.

    The host uses the buffer as soon as the response is there.

    Holds::

        1us pdus kind=CapsuleResp transport=tcp moves="from device" bytes_left=0 sct=0 sc=0 cid=1

    Breaks::

        1us pdus kind=CapsuleResp transport=tcp moves="from device" bytes_left=4096 sct=0 sc=0 cid=1

    Silent::

        1us pdus kind=CapsuleResp transport=tcp moves="from device" bytes_left=4096 sct=2 sc=0x81 cid=1
    """
    return _left(batch, ("from device",))


# -- towards the controller -------------------------------------------------------------------------------------


@column_rule(
    "TCP-3.3.2.2-n9", table="pdus", columns=_RESPONSE, spec="NVMe TCP Transport 1.1, 3.3.2.2", party="controller",
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
    return _left(batch, ("to device", "in capsule"))


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
    last, last_due = _last(batch), numbers(batch, "last_due") == 1
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
