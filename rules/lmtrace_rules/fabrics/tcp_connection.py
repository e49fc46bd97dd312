"""nvme-checklist G29: how an NVMe/TCP connection begins, goes wrong and ends."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.fabrics import (
    LEAST_MAXH2CDATA,
    MOST_TERM_REQ,
    PDU_NAMES,
    FatalError,
)  # fmt: skip
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G29 NVMe/TCP"
PROFILE = "fabrics"

MOST_PDA = 31
IC_SIZE = 128
CLOSE_PS = 30 * 10**12
"""30 s: how long the receiver of a TermReq may keep the connection."""


def is_pdu(batch: pa.RecordBatch) -> np.ndarray:
    """Return which rows are PDUs of NVMe/TCP."""
    pdus: np.ndarray = there(batch, "plen") & ~words(batch, "kind", ("no PDU",))
    return pdus


@column_rule(
    "TCP-3.1-n1", table="pdus", columns=("kind", "first", "direction", "transport"), spec="NVMe TCP Transport 1.1, 3.1",
    party="host",
)  # fmt: skip
def begins_without_icreq(batch: pa.RecordBatch) -> Broken:
    """The first PDU that a host sends on a connection is an ICReq.

    Nothing is agreed on before it, neither digests nor alignment.

    Holds::

        1us pdus transport=tcp direction=downstream kind=ICReq first=yes

    Breaks::

        1us pdus transport=tcp direction=downstream kind=CapsuleCmd first=yes

    Silent::

        1us pdus transport=tcp direction=downstream kind=CapsuleCmd first=no
    """
    applies = (numbers(batch, "first") == 1) & words(batch, "direction", ("downstream",))
    applies &= words(batch, "transport", ("tcp",))
    kinds = batch.column("kind")
    return found(applies, ~words(batch, "kind", ("ICReq",)), lambda row: f"the host's first PDU is {kinds[row]}")


@column_rule(
    "TCP-3.1-n2", table="pdus", columns=("kind", "first", "direction", "transport", "phase"),
    spec="NVMe TCP Transport 1.1, 3.1", party="controller", local=False,
)  # fmt: skip
def begins_without_icresp(batch: pa.RecordBatch) -> Broken:
    """The first PDU that a controller sends is the ICResp to the host's ICReq.

    A controller that refuses the ICReq sends a C2HTermReq instead.

    Holds::

        1us pdus transport=tcp direction=upstream kind=ICResp first=yes phase=requested

    Breaks::

        1us pdus transport=tcp direction=upstream kind=ICResp first=yes phase=new

    Breaks::

        1us pdus transport=tcp direction=upstream kind=CapsuleResp first=yes phase=requested

    Silent::

        1us pdus transport=tcp direction=upstream kind=C2HTermReq first=yes phase=requested
    """
    applies = (numbers(batch, "first") == 1) & words(batch, "direction", ("upstream",)) & there(batch, "phase")
    good = words(batch, "kind", ("ICResp",)) & words(batch, "phase", ("requested",))
    good |= words(batch, "kind", ("C2HTermReq",))
    kinds, phases = batch.column("kind"), batch.column("phase")
    return found(
        applies & words(batch, "transport", ("tcp",)), ~good,
        lambda row: f"the controller's first PDU is {kinds[row]}, "
        + ("after the ICReq" if str(phases[row]) == "requested" else "before any ICReq"),
    )  # fmt: skip


@column_rule(
    "TCP-Xtcp-n2", table="pdus", columns=("kind", "direction", "phase"), spec="NVMe TCP Transport 1.1, 3.1",
    party="both", local=False,
)  # fmt: skip
def data_before_icresp(batch: pa.RecordBatch) -> Broken:
    """A host sends nothing between its ICReq and the ICResp.

    It does not know yet how the controller wants its PDUs.

    Holds::

        1us pdus direction=downstream kind=CapsuleCmd phase=ready plen=72

    Breaks::

        1us pdus direction=downstream kind=CapsuleCmd phase=requested plen=72

    Silent::

        1us pdus direction=downstream kind=H2CTermReq phase=requested plen=24
    """
    applies = is_pdu(batch) & words(batch, "direction", ("downstream",)) & there(batch, "phase")
    applies &= ~words(batch, "kind", ("ICReq", "H2CTermReq"))
    kinds = batch.column("kind")
    return found(
        applies, words(batch, "phase", ("requested",)), lambda row: f"{kinds[row]} was sent before the ICResp came"
    )


@column_rule(
    "TCP-3.3-n1", table="pdus", columns=("type", "direction", "plen", "kind"), spec="NVMe TCP Transport 1.1, 3.3",
    party="both",
)  # fmt: skip
def pdu_of_the_other_side(batch: pa.RecordBatch) -> Broken:
    """Hosts send PDUs of even types and controllers of odd ones.

    The lowest bit of the type is the direction; the wrong one is a fatal error.

    Holds::

        1us pdus kind=CapsuleCmd type=4 direction=downstream plen=72

    Breaks::

        1us pdus kind=CapsuleResp type=5 direction=downstream plen=24
    """
    kind = numbers(batch, "type")
    upstream = words(batch, "direction", ("upstream",))
    return found(
        is_pdu(batch) & (kind < 10), (kind & 1 == 1) != upstream,
        lambda row: f"the {'controller' if upstream[row] else 'host'} sent a PDU of type {kind[row]:02X}h",
    )  # fmt: skip


@column_rule(
    "TCP-3.3-n2", table="pdus", columns=("type", "plen", "kind"), spec="NVMe TCP Transport 1.1, 3.3", party="both"
)
def reserved_pdu_type(batch: pa.RecordBatch) -> Broken:
    """The type of a PDU is a defined one.

    A receiver cannot know what another means, and ends the connection.

    Holds::

        1us pdus kind=R2T type=9 plen=24

    Breaks::

        1us pdus kind="reserved type" type=11 plen=24
    """
    kind = numbers(batch, "type")
    return found(is_pdu(batch), ~np.isin(kind, list(PDU_NAMES)), lambda row: f"a PDU of type {kind[row]:02X}h was sent")


def _initial(batch: pa.RecordBatch, kind: str) -> Broken:
    """Judge the fields that ICReq and ICResp have in common."""
    pfv, plen, hlen, pda = (numbers(batch, name) for name in ("pfv", "plen", "hlen", "pda"))
    reserved = numbers(batch, "reserved") == 1
    bad = (pfv != 0) | (plen != IC_SIZE) | (hlen != IC_SIZE) | (pda > MOST_PDA) | reserved
    return found(
        words(batch, "kind", (kind,)), bad,
        lambda row: f"{kind} has PFV {pfv[row]}, HLEN {hlen[row]}, PLEN {plen[row]}, PDA {pda[row]}"
        + (", reserved bits set" if reserved[row] else ""),
    )  # fmt: skip


_IC = ("kind", "pfv", "plen", "hlen", "pda", "reserved")


@column_rule("TCP-3.6.2.2-n1", table="pdus", columns=_IC, spec="NVMe TCP Transport 1.1, 3.6.2.2", party="host")
def wrong_icreq(batch: pa.RecordBatch) -> Broken:
    """An ICReq has format version 0, 128 bytes, an alignment of at most 32 dwords, and no reserved bit set.

    The controller refuses what it does not know.

    Holds::

        1us pdus kind=ICReq pfv=0 plen=128 hlen=128 pda=31 reserved=no

    Breaks::

        1us pdus kind=ICReq pfv=0 plen=128 hlen=128 pda=32 reserved=no

    Breaks::

        1us pdus kind=ICReq pfv=1 plen=128 hlen=128 pda=0 reserved=no
    """
    return _initial(batch, "ICReq")


@column_rule("TCP-3.6.2.3-n1", table="pdus", columns=_IC, spec="NVMe TCP Transport 1.1, 3.6.2.3", party="controller")
def wrong_icresp(batch: pa.RecordBatch) -> Broken:
    """An ICResp has format version 0, 128 bytes, an alignment of at most 32 dwords, and no reserved bit set.

    The host ends a connection whose answer it does not understand.

    Holds::

        1us pdus kind=ICResp pfv=0 plen=128 hlen=128 pda=0 reserved=no

    Breaks::

        1us pdus kind=ICResp pfv=0 plen=128 hlen=128 pda=0 reserved=yes
    """
    return _initial(batch, "ICResp")


@column_rule(
    "TCP-3.6.2.3-n2", table="pdus", columns=("kind", "limit"), spec="NVMe TCP Transport 1.1, 3.6.2.3",
    party="controller", severity="warning",
)  # fmt: skip
def odd_data_limit(batch: pa.RecordBatch) -> Broken:
    """MAXH2CDATA is a multiple of 4 and at least 4096.

    It bounds each H2CData, and data move in dwords.

    Holds::

        1us pdus kind=ICResp limit=131072

    Breaks::

        1us pdus kind=ICResp limit=4098

    Breaks::

        1us pdus kind=ICResp limit=512
    """
    limit = numbers(batch, "limit")
    return found(
        words(batch, "kind", ("ICResp",)) & there(batch, "limit"), (limit % 4 != 0) | (limit < LEAST_MAXH2CDATA),
        lambda row: f"MAXH2CDATA is {limit[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.3.1.1-n1", table="pdus", columns=("kind", "digests", "digests_due"),
    spec="NVMe TCP Transport 1.1, 3.3.1.1", party="controller", local=False,
)  # fmt: skip
def digest_not_asked_for(batch: pa.RecordBatch) -> Broken:
    """A controller enables only digests that the host asked for.

    The host would take the digest for data.

    Holds::

        1us pdus kind=ICResp digests=1 digests_due=3

    Breaks::

        1us pdus kind=ICResp digests=3 digests_due=1

    Silent::

        1us pdus kind=ICResp digests=3
    """
    given, asked = numbers(batch, "digests"), numbers(batch, "digests_due")
    return found(
        words(batch, "kind", ("ICResp",)) & there(batch, "digests", "digests_due"), (given & ~asked & 3) != 0,
        lambda row: f"DGST is {given[row]:02b}b, the host asked for {asked[row]:02b}b",
    )  # fmt: skip


# -- errors and ends --------------------------------------------------------------------------------------------

_TERM = ("kind", "fes", "data_bytes", "after", "idle_ps", "plen", "direction")


@column_rule(
    "TCP-3.5-n1", table="pdus", columns=_TERM, spec="NVMe TCP Transport 1.1, 3.5", party="both", severity="warning",
    local=False,
)  # fmt: skip
def termination_badly_done(batch: pa.RecordBatch) -> Broken:
    """A TermReq names a defined error and carries the header it is about; its sender sends nothing more, and the
    connection closes within 30 s.

    The other side finds what was wrong only from it.

    Holds::

        1us pdus kind=C2HTermReq fes=1 data_bytes=72 plen=96

    Breaks::

        1us pdus kind=C2HTermReq fes=9 data_bytes=72 plen=96

    Breaks::

        1us pdus kind=CapsuleResp plen=24 after=termination

    Breaks::

        1us pdus kind=FIN idle_ps=31000000000000

    Silent::

        1us pdus kind=FIN
    """
    terms, ends = words(batch, "kind", ("H2CTermReq", "C2HTermReq")), words(batch, "kind", ("FIN", "RST"))
    fes, size, idle = (numbers(batch, name) for name in ("fes", "data_bytes", "idle_ps"))
    later = words(batch, "after", ("termination",)) & is_pdu(batch)
    unnamed = terms & ((fes < 1) | (fes > max(FatalError)) | (size == 0))
    late = ends & (idle > CLOSE_PS)
    kinds = batch.column("kind")

    def message(row: int) -> str:
        if later[row]:
            return f"{kinds[row]} came behind a TermReq of the same side"
        if late[row]:
            return f"the connection was closed {idle[row] / 1e12:.1f} s after the TermReq"
        return f"{kinds[row]} has FES {fes[row]} and {size[row]} bytes of the offending PDU"

    return found(terms | later | (ends & there(batch, "idle_ps")), unnamed | late | later, message)


@column_rule("TCP-3.5-n2", table="pdus", columns=("kind", "plen"), spec="NVMe TCP Transport 1.1, 3.6.2.4", party="both")
def length_of_termination(batch: pa.RecordBatch) -> Broken:
    """A TermReq has 24 to 152 bytes.

    More of the offending PDU than its header is not carried.

    Holds::

        1us pdus kind=H2CTermReq plen=152

    Breaks::

        1us pdus kind=C2HTermReq plen=156
    """
    plen = numbers(batch, "plen")
    return found(
        words(batch, "kind", ("H2CTermReq", "C2HTermReq")), (plen < 24) | (plen > MOST_TERM_REQ),
        lambda row: f"the TermReq has PLEN {plen[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-3.5-n3", table="pdus", columns=("kind", "after", "plen", "direction"), spec="NVMe TCP Transport 1.1, 3.5",
    party="both", local=False,
)  # fmt: skip
def goes_on_after_fatal_error(batch: pa.RecordBatch) -> Broken:
    """After a fatal error nothing of the connection is processed any more.

    What follows a PDU that could not be understood may be anything. A command that was sent in the offending PDU or
    behind it and is answered all the same shows that the receiver went on.

    Holds::

        1us pdus kind=C2HTermReq direction=upstream plen=96 fes_due=3

    Breaks::

        1us pdus kind=CapsuleResp direction=upstream plen=24 after="fatal error"
    """
    bad = words(batch, "after", ("fatal error",))
    kinds = batch.column("kind")
    return found(
        bad | (words(batch, "kind", ("H2CTermReq", "C2HTermReq")) & is_pdu(batch)), bad,
        lambda row: f"{kinds[row]} answers a command that was sent in a fatal error of the host or behind it",
    )  # fmt: skip


@column_rule(
    "TCP-3.5-n4", table="pdus", columns=("kind", "fes", "fes_due"), spec="NVMe TCP Transport 1.1, 3.5",
    party="both", severity="warning", local=False,
)  # fmt: skip
def digest_error_named_otherwise(batch: pa.RecordBatch) -> Broken:
    """A wrong header digest is answered with a TermReq of FES 3.

    It tells the sender that the header was damaged and not wrong.

    Holds::

        1us pdus kind=C2HTermReq fes=3 fes_due=3

    Breaks::

        1us pdus kind=C2HTermReq fes=1 fes_due=3

    Silent::

        1us pdus kind=C2HTermReq fes=1
    """
    fes, due = numbers(batch, "fes"), numbers(batch, "fes_due")
    return found(
        there(batch, "fes", "fes_due") & (due == FatalError.HEADER_DIGEST_ERROR), fes != due,
        lambda row: f"the TermReq after a wrong header digest has FES {fes[row]}",
    )  # fmt: skip


@column_rule(
    "TCP-Xtcp-n1", table="pdus", columns=("kind", "phase", "finished"), spec="NVMe TCP Transport 1.1, 3.1",
    party="both", severity="warning", local=False,
)  # fmt: skip
def reset_without_termination(batch: pa.RecordBatch) -> Broken:
    """A connection in use is not reset without a TermReq before.

    The other side learns nothing of the reason, and commands are left without an answer.

    Holds::

        1us pdus kind=RST phase=closing finished=no

    Breaks::

        1us pdus kind=RST phase=ready finished=no

    Silent::

        1us pdus kind=RST phase=ready finished=yes
    """
    applies = words(batch, "kind", ("RST",)) & there(batch, "phase", "finished") & (numbers(batch, "finished") == 0)
    return found(
        applies, ~words(batch, "phase", ("closing",)),
        lambda row: "the connection was reset without a TermReq, while its controller was in use",
    )  # fmt: skip


@column_rule(
    "TCP-2-n1", table="pdus", columns=("kind", "plen", "size", "transport"), spec="NVMe TCP Transport 1.1, 2 and 3.3",
    party="both", local=False,
)  # fmt: skip
def bytes_of_no_pdu(batch: pa.RecordBatch) -> Broken:
    """Every byte of a connection belongs to a PDU.

    Where one PDU ends the next begins; a length that makes no sense loses everything behind it.

    Holds::

        1us pdus transport=tcp kind=CapsuleCmd plen=72

    Breaks::

        1us pdus transport=tcp kind="no PDU" size=40 plen=3
    """
    bad = words(batch, "kind", ("no PDU",))
    plen, size = numbers(batch, "plen"), numbers(batch, "size")
    return found(
        is_pdu(batch) | bad, bad, lambda row: f"{size[row]} bytes are no PDU: the length in them is {plen[row]}"
    )
