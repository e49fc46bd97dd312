"""nvme-checklist G29: data of NVMe/TCP towards the host: C2HData."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.fabrics import LAST_PDU, SUCCESS_FLAG
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G29 NVMe/TCP"
PROFILE = "fabrics"
NOT_TO_HOST = ("to device", "in capsule", "nothing")


def last_flag(batch: pa.RecordBatch) -> np.ndarray:
    """Return which PDUs have LAST_PDU set."""
    flags: np.ndarray = numbers(batch, "flags")
    return (flags & LAST_PDU) > 0


def _succeeded(batch: pa.RecordBatch) -> np.ndarray:
    ok: np.ndarray = there(batch, "sct", "sc") & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    ok &= words(batch, "transport", ("tcp",))
    return ok


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
    known, last = data & there(batch, "last_due"), last_flag(batch)
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
    last, cid = last_flag(batch), numbers(batch, "cid")
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


def data_left(batch: pa.RecordBatch, moves: tuple[str, ...]) -> Broken:
    """Judge responses with success of commands whose data go one of those ways: have all of them been seen before?"""
    left, cid = numbers(batch, "bytes_left"), numbers(batch, "cid")
    applies = words(batch, "kind", ("CapsuleResp",)) & _succeeded(batch) & there(batch, "bytes_left")
    return found(
        applies & words(batch, "moves", moves), left > 0,
        lambda row: f"CID {cid[row]} was completed with success while {left[row]} bytes of its data were missing",
    )  # fmt: skip


RESPONSE = ("kind", "bytes_left", "moves", "sct", "sc", "cid", "transport")


@column_rule(
    "TCP-3.3.2.1-n7", table="pdus", columns=RESPONSE, spec="NVMe TCP Transport 1.1, 3.3.2.1", party="controller",
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
    return data_left(batch, ("from device",))
