"""nvme-checklist G28: what happens on the queues of a fabrics connection, PDU by PDU."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.fabrics import Fctype
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G28 Fabrics command layer"
PROFILE = "fabrics"


def _capsules(batch: pa.RecordBatch) -> np.ndarray:
    kinds: np.ndarray = words(batch, "kind", ("CapsuleCmd", "Send"))
    kinds &= words(batch, "direction", ("downstream",))
    return kinds


def _responses(batch: pa.RecordBatch) -> np.ndarray:
    kinds: np.ndarray = words(batch, "kind", ("CapsuleResp", "Send", "SendInvalidate"))
    kinds &= words(batch, "direction", ("upstream",))
    return kinds


@column_rule(
    "NVM21-6.3-n1", table="pdus", columns=("kind", "direction", "connected", "opcode", "fctype", "cid"),
    spec="NVMe Base 2.1, 6.3", party="host", local=False,
)  # fmt: skip
def command_before_connect(batch: pa.RecordBatch) -> Broken:
    """The first command on a queue is Connect.

    Before it the controller does not know which queue of whom it is.

    Holds::

        1us pdus kind=CapsuleCmd direction=downstream connected=no opcode=0x7f fctype=1 cid=0

    Breaks::

        1us pdus kind=CapsuleCmd direction=downstream connected=no opcode=0x7f fctype=4 cid=0

    Breaks::

        1us pdus kind=Send direction=downstream connected=no opcode=6 cid=0

    Silent::

        1us pdus kind=CapsuleCmd direction=downstream opcode=6 cid=0
    """
    opcode, fctype, cid = (numbers(batch, name) for name in ("opcode", "fctype", "cid"))
    connect = (opcode == 0x7F) & there(batch, "fctype") & (fctype == Fctype.CONNECT)
    return found(
        _capsules(batch) & words(batch, "connected", ("no",)), ~connect,
        lambda row: f"the command with opcode {opcode[row]:02X}h, CID {cid[row]}, came before Connect",
    )  # fmt: skip


@column_rule(
    "NVM21-6.4-n1", table="pdus", columns=("kind", "direction", "after", "cid"), spec="NVMe Base 2.1, 6.4",
    party="controller", local=False,
)  # fmt: skip
def response_after_disconnect(batch: pa.RecordBatch) -> Broken:
    """The completion of a Disconnect is the last thing that comes on its queue.

    The host takes the queue for gone.

    Holds::

        1us pdus kind=CapsuleResp direction=upstream command=outstanding cid=1

    Breaks::

        1us pdus kind=CapsuleResp direction=upstream after=disconnect cid=1
    """
    cid, kinds = numbers(batch, "cid"), batch.column("kind")
    return found(
        _responses(batch), words(batch, "after", ("disconnect",)),
        lambda row: f"{kinds[row]} for CID {cid[row]} came after the Disconnect of its queue was completed",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.2-n1", table="pdus", columns=("kind", "direction", "flow_control", "queue_size", "sqhd", "sqid"),
    spec="NVMe Base 2.1, 3.3.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def head_pointer_outside_the_queue(batch: pa.RecordBatch) -> Broken:
    """With SQ flow control in force SQHD lies inside the queue.

    The host counts free slots by it.

    Holds::

        1us pdus kind=CapsuleResp direction=upstream flow_control=yes queue_size=32 sqhd=31 sqid=1

    Breaks::

        1us pdus kind=CapsuleResp direction=upstream flow_control=yes queue_size=32 sqhd=32 sqid=1

    Silent::

        1us pdus kind=CapsuleResp direction=upstream flow_control=no queue_size=32 sqhd=65535 sqid=1
    """
    head, size, sqid = (numbers(batch, name) for name in ("sqhd", "queue_size", "sqid"))
    applies = _responses(batch) & there(batch, "flow_control", "queue_size", "sqhd")
    return found(
        applies & (numbers(batch, "flow_control") == 1), head >= size,
        lambda row: f"SQHD of queue {sqid[row]} is {head[row]}, it has {size[row]} entries",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.1-n14", table="pdus", columns=("kind", "direction", "command", "cid"), spec="NVMe Base 2.1, 4.2.1",
    party="controller", local=False,
)  # fmt: skip
def response_to_no_command(batch: pa.RecordBatch) -> Broken:
    """A response names a command that is outstanding on its queue.

    The host completes whatever it finds under that identifier.

    Holds::

        1us pdus kind=Send direction=upstream command=outstanding cid=1

    Breaks::

        1us pdus kind=CapsuleResp direction=upstream command=unknown cid=1

    Breaks::

        1us pdus kind=Send direction=upstream command=completed cid=1

    Silent::

        1us pdus kind=CapsuleResp direction=upstream cid=1
    """
    cid = numbers(batch, "cid")
    again = words(batch, "command", ("completed", "completed by SUCCESS")) & words(
        batch, "kind", ("Send", "SendInvalidate")
    )  # fmt: skip
    return found(
        _responses(batch) & there(batch, "command"), words(batch, "command", ("unknown",)) | again,
        lambda row: f"a response came for CID {cid[row]}, under which no command is outstanding",
    )  # fmt: skip


@column_rule(
    "NVM21-3.9-n3", table="pdus", columns=("kind", "direction", "idle_ps", "keep_alive_ms"),
    spec="NVMe Base 2.1, 3.9", party="host", severity="warning", local=False,
)  # fmt: skip
def silent_for_too_long(batch: pa.RecordBatch) -> Broken:
    """A host sends a command before the keep alive timeout is over.

    The controller takes it for gone. Timers may be coarse and start late: twice the timeout is what counts here.

    Holds::

        1us pdus kind=CapsuleCmd direction=downstream idle_ps=5000000000000 keep_alive_ms=5000

    Breaks::

        1us pdus kind=CapsuleCmd direction=downstream idle_ps=11000000000000 keep_alive_ms=5000

    Silent::

        1us pdus kind=CapsuleCmd direction=downstream idle_ps=11000000000000
    """
    idle, timeout = numbers(batch, "idle_ps"), numbers(batch, "keep_alive_ms")
    return found(
        _capsules(batch) & there(batch, "idle_ps", "keep_alive_ms"), idle > 2 * timeout * 10**9,
        lambda row: f"the host was silent for {idle[row] / 1e12:.1f} s with a timeout of {timeout[row]} ms",
    )  # fmt: skip
