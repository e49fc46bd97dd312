"""nvme-checklist G02: completions against the requests they answer, and tags."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, Severity, column_rule, not_a_rule
from lmtrace.spec.tlp_checks import Control, Pairing
from lmtrace_rules.columns import bits, found, numbers

SECTION = "G02 Completions"
PROFILE = "pcie"

PAIRED = ("kind", "pairing", "requester_id", "tag")
PLACED = (*PAIRED, "byte_count", "lower_address", "length_dw")
SPEC = "PCIe Base 5.0, 2.2.9"


def called(batch: pa.RecordBatch) -> Callable[[int], str]:
    """Return what says which tag of whom a TLP has."""
    tag, requester = numbers(batch, "tag"), numbers(batch, "requester_id")
    return lambda row: (
        f"with tag {tag[row]:02X}h of {requester[row] >> 8:02x}:{requester[row] >> 3 & 31:02x}."
        + (f"{requester[row] & 7}")
    )


def sure(batch: pa.RecordBatch, severity: Severity = "error") -> Callable[[int], Severity]:
    """Return the severity of a row of which a recorder that loses TLPs may be the cause."""
    certain = bits(batch, "pairing", Pairing.SURE)
    return lambda row: severity if certain[row] else "info"


def answers(batch: pa.RecordBatch, having: int = 0, without: int = 0) -> np.ndarray:
    """Return which completions answer a request, with all of some bits and none of others."""
    said = numbers(batch, "pairing")
    chosen: np.ndarray = (said & (Pairing.ANSWER | having) == Pairing.ANSWER | having) & (said & without == 0)
    return chosen


@column_rule("PCIE-2.2.9-n1", table="tlps", columns=PAIRED, spec=SPEC, party="both")
def completion_nobody_waits_for(batch: pa.RecordBatch) -> Broken:
    """A completion answers a request that is outstanding.

    What the recorder of packets lost may be that request, which is why only a waveform makes it an error.

    Holds::

        1us tlps kind=CplD pairing=0x2 requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x880 requester_id=01:00.0 tag=3

    Silent::

        1us tlps kind=CplD requester_id=01:00.0 tag=3
    """
    name = called(batch)
    return found(
        bits(batch, "pairing", Pairing.ANSWER | Pairing.ORPHAN) & ~bits(batch, "pairing", Pairing.AFTER_ERROR),
        bits(batch, "pairing", Pairing.ORPHAN),
        lambda row: f"no request {name(row)} was outstanding", sure(batch),
    )  # fmt: skip


@column_rule("PCIE-2.3.2-n3", table="tlps", columns=PAIRED, spec="PCIe Base 5.0, 2.3.2", party="both")
def completion_after_error(batch: pa.RecordBatch) -> Broken:
    """An error completion is the last one of its request.

    The requester has retired the tag and may use it for something else.

    Holds::

        1us tlps kind=CplD pairing=0x2 requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x1880 requester_id=01:00.0 tag=3
    """
    name = called(batch)
    return found(
        bits(batch, "pairing", Pairing.ANSWER | Pairing.AFTER_ERROR), bits(batch, "pairing", Pairing.AFTER_ERROR),
        lambda row: f"the request {name(row)} had ended with an error", sure(batch),
    )  # fmt: skip


@column_rule("PCIE-2.2.6.2-n4", table="tlps", columns=PAIRED, spec="PCIe Base 5.0, 2.2.6.2", party="both")
def tag_of_unanswered_request(batch: pa.RecordBatch) -> Broken:
    """A request does not carry a tag of its requester that still waits for its first completion.

    Nobody could tell whose the completions are. Packets that the recorder lost look the same, which is why only a
    waveform makes it an error.

    Holds::

        1us tlps kind=MRd pairing=0x1 requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=MRd pairing=0x481 requester_id=01:00.0 tag=3
    """
    name = called(batch)
    return found(
        bits(batch, "pairing", Pairing.REQUEST) & ~bits(batch, "pairing", Pairing.PARTLY),
        bits(batch, "pairing", Pairing.TAG_IN_USE),
        lambda row: f"the request before it {name(row)} was not answered", sure(batch),
    )  # fmt: skip


@column_rule("PCIE-2.2.6.2-n5", table="tlps", columns=PAIRED, spec="PCIe Base 5.0, 2.2.6.2", party="both")
def tag_of_request_answered_in_part(batch: pa.RecordBatch) -> Broken:
    """A tag is used again only after the last completion of its request.

    Packets that the recorder lost look the same, which is why only a waveform makes it an error.

    Holds::

        1us tlps kind=MRd pairing=0x1 requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=MRd pairing=0x8000481 requester_id=01:00.0 tag=3
    """
    name = called(batch)
    return found(
        bits(batch, "pairing", Pairing.REQUEST), bits(batch, "pairing", Pairing.PARTLY),
        lambda row: f"the request before it {name(row)} was answered in part", sure(batch),
    )  # fmt: skip


@column_rule(
    "PCIE-2.3.2-n1", table="tlps", columns=(*PAIRED, "forbidden"),
    spec="PCIe Base 5.0, 2.8", party="both", severity="warning",
)  # fmt: skip
def answered_in_time(batch: pa.RecordBatch) -> Broken:
    """A request is answered within the completion timeout: 50 ms, where no other range was configured.

    A recorder that loses packets makes it look alike, which is why only a waveform makes it a warning.

    Holds::

        1us tlps kind=MRd pairing=0x1 direction=upstream requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=MRd pairing=0x4000081 direction=upstream requester_id=01:00.0 tag=3

    Breaks::

        60ms tlps kind=CplD pairing=0x2000002 direction=downstream permitted=0x100000 requester_id=01:00.0 tag=3

    Silent::

        60ms tlps kind=CplD pairing=0x2000002 direction=downstream forbidden=0x100000 requester_id=01:00.0 tag=3
    """
    name = called(batch)
    said = numbers(batch, "pairing")
    other = bits(batch, "forbidden", Control.DEFAULT_TIMEOUT)

    def message(row: int) -> str:
        if said[row] & Pairing.LATE:
            return f"the answer {name(row)} came more than 50 ms after its request"
        return f"no answer {name(row)} came, and the capture goes on for more than 50 ms"

    return found(
        bits(batch, "pairing", Pairing.REQUEST | Pairing.ANSWER) & ~other,
        bits(batch, "pairing", Pairing.LATE | Pairing.UNANSWERED), message, sure(batch, "warning"),
    )  # fmt: skip


@column_rule("PCIE-2.2.9-n2", table="tlps", columns=(*PAIRED, "tc", "attr"), spec=SPEC, party="both", local=False)
def copied_from_request(batch: pa.RecordBatch) -> Broken:
    """A completion has the traffic class of its request, and its relaxed ordering and no snoop.

    Whoever sorts traffic by class or order would sort the two apart.

    Holds::

        1us tlps kind=CplD pairing=0x2 tc=0 attr=0 requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x2002 tc=1 attr=0 requester_id=01:00.0 tag=3
    """
    name, tc, attr = called(batch), numbers(batch, "tc"), numbers(batch, "attr")
    return found(
        answers(batch), bits(batch, "pairing", Pairing.COPIED),
        lambda row: f"traffic class {tc[row]}, attributes {attr[row]:03b}b are not those of the request {name(row)}",
    )  # fmt: skip


@column_rule("PCIE-2.2.9-n3", table="tlps", columns=(*PAIRED, "status"), spec=SPEC, party="both", local=False)
def data_where_due(batch: pa.RecordBatch) -> Broken:
    """A completion brings data when its request asks for them and succeeds, and else none.

    A requester finds no data where it waits for them, or data where it has no room.

    Holds::

        1us tlps kind=CplD pairing=0x22 status=0 requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=Cpl pairing=0x4022 status=0 requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x4022 status=1 requester_id=01:00.0 tag=3
    """
    name, status = called(batch), numbers(batch, "status")
    due = bits(batch, "pairing", Pairing.DATA_DUE)

    def message(row: int) -> str:
        if due[row] and status[row] == 0:
            return f"the answer {name(row)} succeeds and brings no data"
        return f"the answer {name(row)} brings data" + (f" with status {status[row]}" if status[row] else "")

    return found(answers(batch), bits(batch, "pairing", Pairing.DATA), message)


@column_rule("PCIE-2.2.9-n11", table="tlps", columns=(*PAIRED, "status"), spec="PCIe Base 5.0, 2.2.9.1", party="both",
             local=False)  # fmt: skip
def retry_of_configuration_only(batch: pa.RecordBatch) -> Broken:
    """Only a configuration request is answered with Configuration Request Retry Status.

    Nobody sends a memory request again for it.

    Holds::

        1us tlps kind=Cpl pairing=0x12 status=2 requester_id=00:00.0 tag=3

    Breaks::

        1us tlps kind=Cpl pairing=0xa status=2 requester_id=00:00.0 tag=3
    """
    name = called(batch)
    return found(
        answers(batch), (numbers(batch, "status") == 2) & ~bits(batch, "pairing", Pairing.CONFIG),
        lambda row: f"the answer {name(row)} has status 2 and its request is no configuration request",
    )  # fmt: skip


@column_rule("PCIE-2.2.9-n14", table="tlps", columns=(*PAIRED, "completer_id"), spec=SPEC, party="both",
             severity="warning", local=False)  # fmt: skip
def completer_is_the_target(batch: pa.RecordBatch) -> Broken:
    """The completer of a configuration request is the function that it was for.

    A function takes its bus and device number from configuration writes; before the first it may say 0.

    Holds::

        1us tlps kind=CplD pairing=0x12 completer_id=01:00.0 requester_id=00:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x1000012 completer_id=01:00.1 requester_id=00:00.0 tag=3
    """
    name, completer = called(batch), numbers(batch, "completer_id")
    return found(
        answers(batch, Pairing.CONFIG), bits(batch, "pairing", Pairing.COMPLETER),
        lambda row: f"the answer {name(row)} names {completer[row]:04X}h, which the request was not for",
    )  # fmt: skip


not_a_rule(
    "PCIE-2.4-n1",
    "One wire shows TLPs in the order in which they were sent, and not in which order they became due: what overtook "
    "inside the sender looks like what was sent in that order.",
)
