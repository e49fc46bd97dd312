"""nvme-checklist G29: capsules of NVMe/TCP, their SGLs and in-capsule data."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.fabrics import (
    DIGEST_SIZE,
    DISCOVERY_NQN,
    DISCOVERY_PORT,
    SGL_OFFSET,
    SGL_TRANSPORT,
    TCP_PORTS,
)  # fmt: skip
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G29 NVMe/TCP"
PROFILE = "fabrics"


def _capsules(batch: pa.RecordBatch) -> np.ndarray:
    capsules: np.ndarray = words(batch, "kind", ("CapsuleCmd",)) & there(batch, "sgl")
    return capsules


@column_rule(
    "TCP-3.6.2.6-n1", table="pdus", columns=("kind", "data_bytes", "capsule_limit", "sgl"),
    spec="NVMe TCP Transport 1.1, 3.6.2.6", party="host", local=False,
)  # fmt: skip
def too_much_in_capsule(batch: pa.RecordBatch) -> Broken:
    """In-capsule data fit into the capsules that the controller takes.

    8192 bytes on the admin queue and with Fabrics commands, else IOCCSZ x 16 less the entry.

    Holds::

        1us pdus kind=CapsuleCmd data_bytes=1024 capsule_limit=8192 sgl=1

    Breaks::

        1us pdus kind=CapsuleCmd data_bytes=8196 capsule_limit=8192 sgl=1

    Silent::

        1us pdus kind=CapsuleCmd data_bytes=8196 sgl=1
    """
    data, limit = numbers(batch, "data_bytes"), numbers(batch, "capsule_limit")
    return found(
        _capsules(batch) & there(batch, "capsule_limit") & (data > 0), data > limit,
        lambda row: f"{data[row]} bytes came in a capsule that may hold {limit[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.6.2.6-n2", table="pdus", columns=("kind", "data_bytes", "sgl", "sgl_address", "sgl_length", "holes"),
    spec="NVMe TCP Transport 1.1, 3.6.2.6", party="host",
)  # fmt: skip
def in_capsule_descriptor(batch: pa.RecordBatch) -> Broken:
    """The descriptor of in-capsule data has offset 0 and their length.

    The controller finds the data by it.

    Holds::

        1us pdus kind=CapsuleCmd data_bytes=1024 sgl=1 sgl_address=0 sgl_length=1024

    Breaks::

        1us pdus kind=CapsuleCmd data_bytes=1024 sgl=1 sgl_address=64 sgl_length=1024

    Breaks::

        1us pdus kind=CapsuleCmd data_bytes=0 sgl=1 sgl_address=0 sgl_length=1024

    Silent::

        1us pdus kind=CapsuleCmd data_bytes=0 sgl=0x5a sgl_address=0 sgl_length=4096
    """
    data, sgl, address, length = (numbers(batch, name) for name in ("data_bytes", "sgl", "sgl_address", "sgl_length"))
    return found(
        _capsules(batch) & (sgl == SGL_OFFSET), (address != 0) | (length != data),
        lambda row: f"the descriptor says {length[row]} bytes at offset {address[row]}, the capsule has {data[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2-n1", table="pdus", columns=("kind", "sgl", "sgl_length", "moves"),
    spec="NVMe TCP Transport 1.1, 3.3.2", party="host",
)  # fmt: skip
def descriptor_of_another_transport(batch: pa.RecordBatch) -> Broken:
    """A command that moves data has an in-capsule or a transport descriptor.

    No address of the host means anything to a controller behind TCP.

    Holds::

        1us pdus kind=CapsuleCmd sgl=0x5a sgl_length=4096 moves="from device"

    Breaks::

        1us pdus kind=CapsuleCmd sgl=0x40 sgl_length=4096 moves="from device"

    Silent::

        1us pdus kind=CapsuleCmd sgl=0 sgl_length=0 moves=nothing
    """
    sgl, length = numbers(batch, "sgl"), numbers(batch, "sgl_length")
    applies = _capsules(batch) & (length > 0) & words(batch, "moves", ("to device", "from device", "both"))
    return found(
        applies, ~np.isin(sgl, (SGL_OFFSET, SGL_TRANSPORT)),
        lambda row: f"SGL1 has identifier {sgl[row]:02X}h and {length[row]} bytes",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.2-n2", table="pdus", columns=("kind", "sgl", "data_bytes"), spec="NVMe TCP Transport 1.1, 3.3.2",
    party="host",
)  # fmt: skip
def data_beside_transport_descriptor(batch: pa.RecordBatch) -> Broken:
    """A command with a transport descriptor brings no data in its capsule.

    They move in data PDUs, when the controller asks for them.

    Holds::

        1us pdus kind=CapsuleCmd sgl=0x5a data_bytes=0

    Breaks::

        1us pdus kind=CapsuleCmd sgl=0x5a data_bytes=512
    """
    sgl, data = numbers(batch, "sgl"), numbers(batch, "data_bytes")
    return found(
        _capsules(batch) & (sgl == SGL_TRANSPORT), data > 0,
        lambda row: f"{data[row]} bytes came in a capsule with a transport descriptor",
    )  # fmt: skip


@column_rule(
    "TCP-3.6.2.7-n1", table="pdus", columns=("kind", "command", "plen", "flags", "cid"),
    spec="NVMe TCP Transport 1.1, 3.6.2.7", party="controller", local=False,
)  # fmt: skip
def completed_twice(batch: pa.RecordBatch) -> Broken:
    """Each command gets one CapsuleResp, of 24 bytes and the digest.

    A second one completes whatever the host does under that identifier by then.

    Holds::

        1us pdus kind=CapsuleResp command=outstanding plen=24 flags=0 cid=7

    Breaks::

        1us pdus kind=CapsuleResp command=completed plen=24 flags=0 cid=7

    Breaks::

        1us pdus kind=CapsuleResp command=outstanding plen=40 flags=0 cid=7

    Silent::

        1us pdus kind=CapsuleResp plen=24 flags=0 cid=7
    """
    plen, flags, cid = (numbers(batch, name) for name in ("plen", "flags", "cid"))
    twice = words(batch, "command", ("completed",))
    return found(
        words(batch, "kind", ("CapsuleResp",)) & there(batch, "command"),
        twice | (plen != 24 + DIGEST_SIZE * (flags & 1)),
        lambda row: f"a second CapsuleResp came for CID {cid[row]}" if twice[row] else f"PLEN is {plen[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.2-n1", table="pdus", columns=("kind", "connected", "connect_qid"), spec="NVMe TCP Transport 1.1, 3.2",
    party="both", local=False,
)  # fmt: skip
def second_queue_on_a_connection(batch: pa.RecordBatch) -> Broken:
    """A connection carries one queue pair.

    Nothing in a capsule says which queue it is for.

    Holds::

        1us pdus kind=CapsuleCmd connected=no connect_qid=1

    Breaks::

        1us pdus kind=CapsuleCmd connected=yes connect_qid=2

    Silent::

        1us pdus kind=CapsuleCmd connect_qid=2
    """
    qid = numbers(batch, "connect_qid")
    return found(
        words(batch, "kind", ("CapsuleCmd",)) & there(batch, "connected", "connect_qid"),
        words(batch, "connected", ("yes",)), lambda row: f"a Connect for queue {qid[row]} came on a connected queue",
    )  # fmt: skip


@column_rule(
    "TCP-3.4-n1", table="pdus", columns=("kind", "connect_qid", "connect_kato", "link"),
    spec="NVMe TCP Transport 1.1, 3.4", party="host", severity="warning",
)  # fmt: skip
def no_keep_alive(batch: pa.RecordBatch) -> Broken:
    """The admin queue of an I/O controller is connected with a keep alive timeout.

    TCP does not tell for hours that the other side is gone.

    Holds::

        1us pdus kind=CapsuleCmd connect_qid=0 connect_kato=5000 link=nqn.2026-01.org.example:sub

    Breaks::

        1us pdus kind=CapsuleCmd connect_qid=0 connect_kato=0 link=nqn.2026-01.org.example:sub

    Silent::

        1us pdus kind=CapsuleCmd connect_qid=0 connect_kato=0 link="nqn.2014-08.org.nvmexpress.discovery at t"
    """
    names = [str(one) for one in batch.column("link").to_pylist()]
    known = np.array([one.startswith("nqn.") and not one.startswith(DISCOVERY_NQN.decode()) for one in names], np.bool_)
    kato, qid = numbers(batch, "connect_kato"), numbers(batch, "connect_qid")
    return found(
        words(batch, "kind", ("CapsuleCmd",)) & there(batch, "connect_qid") & (qid == 0) & known, kato == 0,
        lambda row: "the admin queue was connected with KATO 0",
    )  # fmt: skip


@column_rule(
    "TCP-3.1.2-n1", table="pdus", columns=("kind", "connect_qid", "connection"),
    spec="NVMe TCP Transport 1.1, 3.1.2", party="host", severity="info",
)  # fmt: skip
def io_queue_on_discovery_port(batch: pa.RecordBatch) -> Broken:
    """I/O queues are not connected on the discovery port.

    8009 is kept for discovery controllers, which have no I/O queues.

    Holds::

        1us pdus kind=CapsuleCmd connect_qid=1 connection="TCP 10.0.0.2:40000 > 10.0.0.1:4420"

    Breaks::

        1us pdus kind=CapsuleCmd connect_qid=1 connection="TCP 10.0.0.2:40000 > 10.0.0.1:8009"
    """
    ports = [str(one).rpartition(":")[2] for one in batch.column("connection").to_pylist()]
    return found(
        words(batch, "kind", ("CapsuleCmd",)) & (numbers(batch, "connect_qid") > 0),
        np.array([one == str(DISCOVERY_PORT) for one in ports], np.bool_),
        lambda row: f"an I/O queue was connected on port {ports[row]}; I/O controllers have {TCP_PORTS[0]}",
    )  # fmt: skip
