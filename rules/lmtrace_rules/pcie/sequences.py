"""nvme-checklist G02: completions against the requests they answer, and tags."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, Severity, column_rule, not_a_rule
from lmtrace.spec.tlp_checks import Control, Pairing
from lmtrace_rules.columns import bits, found, numbers, words

SECTION = "G02 Completions"
PROFILE = "pcie"

PAIRED = ("kind", "pairing", "requester_id", "tag")
PLACED = (*PAIRED, "byte_count", "lower_address", "length_dw")
SPEC = "PCIe Base 5.0, 2.2.9"


def _name(batch: pa.RecordBatch) -> Callable[[int], str]:
    tag, requester = numbers(batch, "tag"), numbers(batch, "requester_id")
    return lambda row: (
        f"with tag {tag[row]:02X}h of {requester[row] >> 8:02x}:{requester[row] >> 3 & 31:02x}."
        + (f"{requester[row] & 7}")
    )


def _sure(batch: pa.RecordBatch, severity: Severity = "error") -> Callable[[int], Severity]:
    """Return the severity of a row of which a recorder that loses TLPs may be the cause."""
    sure = bits(batch, "pairing", Pairing.SURE)
    return lambda row: severity if sure[row] else "info"


def _answers(batch: pa.RecordBatch, having: int = 0, without: int = 0) -> np.ndarray:
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
    name = _name(batch)
    return found(
        bits(batch, "pairing", Pairing.ANSWER | Pairing.ORPHAN) & ~bits(batch, "pairing", Pairing.AFTER_ERROR),
        bits(batch, "pairing", Pairing.ORPHAN),
        lambda row: f"no request {name(row)} was outstanding", _sure(batch),
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
    name = _name(batch)
    return found(
        bits(batch, "pairing", Pairing.ANSWER | Pairing.AFTER_ERROR), bits(batch, "pairing", Pairing.AFTER_ERROR),
        lambda row: f"the request {name(row)} had ended with an error", _sure(batch),
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
    name = _name(batch)
    return found(
        bits(batch, "pairing", Pairing.REQUEST) & ~bits(batch, "pairing", Pairing.PARTLY),
        bits(batch, "pairing", Pairing.TAG_IN_USE),
        lambda row: f"the request before it {name(row)} was not answered", _sure(batch),
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
    name = _name(batch)
    return found(
        bits(batch, "pairing", Pairing.REQUEST), bits(batch, "pairing", Pairing.PARTLY),
        lambda row: f"the request before it {name(row)} was answered in part", _sure(batch),
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
    name = _name(batch)
    said = numbers(batch, "pairing")
    other = bits(batch, "forbidden", Control.DEFAULT_TIMEOUT)

    def message(row: int) -> str:
        if said[row] & Pairing.LATE:
            return f"the answer {name(row)} came more than 50 ms after its request"
        return f"no answer {name(row)} came, and the capture goes on for more than 50 ms"

    return found(
        bits(batch, "pairing", Pairing.REQUEST | Pairing.ANSWER) & ~other,
        bits(batch, "pairing", Pairing.LATE | Pairing.UNANSWERED), message, _sure(batch, "warning"),
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
    name, tc, attr = _name(batch), numbers(batch, "tc"), numbers(batch, "attr")
    return found(
        _answers(batch), bits(batch, "pairing", Pairing.COPIED),
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
    name, status = _name(batch), numbers(batch, "status")
    due = bits(batch, "pairing", Pairing.DATA_DUE)

    def message(row: int) -> str:
        if due[row] and status[row] == 0:
            return f"the answer {name(row)} succeeds and brings no data"
        return f"the answer {name(row)} brings data" + (f" with status {status[row]}" if status[row] else "")

    return found(_answers(batch), bits(batch, "pairing", Pairing.DATA), message)


@column_rule("PCIE-2.2.9-n4", table="tlps", columns=PLACED, spec=SPEC, party="both", local=False)
def byte_count_of_first(batch: pa.RecordBatch) -> Broken:
    """The byte count of the first completion is the enabled bytes of the request; 1 of a read without any.

    Where it agrees with the lower address the first bytes may be missing, which is no matter of this rule.

    Holds::

        1us tlps kind=CplD pairing=0xe requester_id=01:00.0 tag=3 byte_count=64

    Breaks::

        1us tlps kind=CplD pairing=0x800e requester_id=01:00.0 tag=3 byte_count=60
    """
    name, count = _name(batch), numbers(batch, "byte_count")
    return found(
        _answers(batch, Pairing.READ | Pairing.FIRST), bits(batch, "pairing", Pairing.BYTE_COUNT),
        lambda row: f"the first answer {name(row)} has a byte count of {count[row]}",
    )  # fmt: skip


@column_rule("PCIE-2.2.9-n5", table="tlps", columns=PLACED, spec=SPEC, party="both", local=False)
def byte_count_of_later(batch: pa.RecordBatch) -> Broken:
    """The byte count of each further completion is what the ones before it left.

    A requester that counts by it frees the tag too early or never.

    Holds::

        1us tlps kind=CplD pairing=0xa requester_id=01:00.0 tag=3 byte_count=64

    Breaks::

        1us tlps kind=CplD pairing=0x800a requester_id=01:00.0 tag=3 byte_count=60
    """
    name, count = _name(batch), numbers(batch, "byte_count")
    return found(
        _answers(batch, Pairing.READ, Pairing.FIRST), bits(batch, "pairing", Pairing.BYTE_COUNT),
        lambda row: f"a further answer {name(row)} has a byte count of {count[row]}",
    )  # fmt: skip


@column_rule("PCIE-2.2.9-n6", table="tlps", columns=PLACED, spec=SPEC, party="both", local=False)
def lower_address_of_first(batch: pa.RecordBatch) -> Broken:
    """The lower address of the first completion is that of the first enabled byte.

    A requester may place the data by it.

    Holds::

        1us tlps kind=CplD pairing=0xe requester_id=01:00.0 tag=3 lower_address=4

    Breaks::

        1us tlps kind=CplD pairing=0x1000e requester_id=01:00.0 tag=3 lower_address=0
    """
    name, lower = _name(batch), numbers(batch, "lower_address")
    return found(
        _answers(batch, Pairing.READ | Pairing.FIRST), bits(batch, "pairing", Pairing.LOWER_ADDRESS),
        lambda row: f"the first answer {name(row)} has a lower address of {lower[row]:#x}",
    )  # fmt: skip


@column_rule("PCIE-2.2.9-n7", table="tlps", columns=PLACED, spec=SPEC, party="both", local=False)
def lower_address_of_later(batch: pa.RecordBatch) -> Broken:
    """The lower address of each further completion is that of its first byte.

    A requester may place the data by it.

    Holds::

        1us tlps kind=CplD pairing=0xa requester_id=01:00.0 tag=3 lower_address=64

    Breaks::

        1us tlps kind=CplD pairing=0x1000a requester_id=01:00.0 tag=3 lower_address=0
    """
    name, lower = _name(batch), numbers(batch, "lower_address")
    return found(
        _answers(batch, Pairing.READ, Pairing.FIRST), bits(batch, "pairing", Pairing.LOWER_ADDRESS),
        lambda row: f"a further answer {name(row)} has a lower address of {lower[row]:#x}",
    )  # fmt: skip


@column_rule(
    "PCIE-2.3.1.1-n1", table="tlps", columns=(*PLACED, "direction", "read_completion_boundary"),
    spec="PCIe Base 5.0, 2.3.1.1", party="both", local=False,
)  # fmt: skip
def ends_on_read_completion_boundary(batch: pa.RecordBatch) -> Broken:
    """A completion that is not the last of its read ends on a read completion boundary.

    That is 128 bytes of a device; 64 of a root complex, unless configuration says 128.

    Holds::

        1us tlps kind=CplD pairing=0x10000a direction=downstream requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x8000a direction=downstream requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x10000a direction=downstream read_completion_boundary=128 requester_id=01:00.0
    """
    name, large = _name(batch), _large(batch)
    bad = bits(batch, "pairing", Pairing.UNALIGNED) | (large & bits(batch, "pairing", Pairing.UNALIGNED_128))
    return found(
        _answers(batch, Pairing.READ, Pairing.LAST), bad,
        lambda row: f"an answer {name(row)} that is not the last ends inside a piece of {128 if large[row] else 64}"
        " bytes",
    )  # fmt: skip


@column_rule(
    "PCIE-2.3.1.1-n2", table="tlps", columns=(*PLACED, "direction", "read_completion_boundary"),
    spec="PCIe Base 5.0, 2.3.1.1", party="both", local=False,
)  # fmt: skip
def small_read_in_one_completion(batch: pa.RecordBatch) -> Broken:
    """A read that crosses no read completion boundary is answered by one completion.

    A requester may have no room for the state that several need.

    Holds::

        1us tlps kind=CplD pairing=0x10a direction=downstream requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x20000e direction=downstream requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x40000e direction=downstream read_completion_boundary=128 requester_id=01:00.0
    """
    name, large = _name(batch), _large(batch)
    bad = bits(batch, "pairing", Pairing.SPLIT) | (large & bits(batch, "pairing", Pairing.SPLIT_128))
    return found(
        _answers(batch, Pairing.READ), bad,
        lambda row: f"an answer {name(row)} brings a part of a read inside {128 if large[row] else 64} bytes",
    )  # fmt: skip


def _large(batch: pa.RecordBatch) -> np.ndarray:
    """Return which completions have a boundary of 128 bytes for sure."""
    told: np.ndarray = numbers(batch, "read_completion_boundary") == 128
    up: np.ndarray = words(batch, "direction", ("upstream",))
    told |= up
    return told


@column_rule("PCIE-2.3.1.1-n3", table="tlps", columns=PLACED, spec="PCIe Base 5.0, 2.3.1.1", party="both")
def all_bytes_came(batch: pa.RecordBatch) -> Broken:
    """The completions of a read bring all of its bytes.

    Packets that the recorder lost look the same, which is why only a waveform makes it an error.

    Holds::

        1us tlps kind=CplD pairing=0x10a requester_id=01:00.0 tag=3

    Breaks::

        1us tlps kind=CplD pairing=0x80018a requester_id=01:00.0 tag=3
    """
    name = _name(batch)
    return found(
        _answers(batch, Pairing.READ | Pairing.LAST, Pairing.FLUSH), bits(batch, "pairing", Pairing.TOTAL),
        lambda row: f"with the last answer {name(row)} not all bytes have come", _sure(batch),
    )  # fmt: skip


@column_rule("PCIE-2.3.1.1-n4", table="tlps", columns=PLACED, spec="PCIe Base 5.0, 2.3.1.1", party="both", local=False)
def pieces_in_order(batch: pa.RecordBatch) -> Broken:
    """The completions of one read come in the order of their addresses.

    A requester places them one behind the other.

    Holds::

        1us tlps kind=CplD pairing=0xa requester_id=01:00.0 tag=3 byte_count=64

    Breaks::

        1us tlps kind=CplD pairing=0x4000a requester_id=01:00.0 tag=3 byte_count=128
    """
    name, count = _name(batch), numbers(batch, "byte_count")
    return found(
        _answers(batch, Pairing.READ, Pairing.FIRST), bits(batch, "pairing", Pairing.BACKWARDS),
        lambda row: f"an answer {name(row)} goes back to where {count[row]} bytes were left",
    )  # fmt: skip


@column_rule("PCIE-2.2.5-n4", table="tlps", columns=PLACED, spec="PCIe Base 5.0, 2.2.5", party="both", severity="info",
             local=False)  # fmt: skip
def flush_brings_one_dword(batch: pa.RecordBatch) -> Broken:
    """A read without enabled bytes is answered with one dword, which nobody uses.

    It makes sure that writes before it have arrived.

    Holds::

        1us tlps kind=CplD pairing=0x14a requester_id=01:00.0 tag=3 length_dw=1

    Breaks::

        1us tlps kind=CplD pairing=0x80014a requester_id=01:00.0 tag=3 length_dw=2
    """
    name, length = _name(batch), numbers(batch, "length_dw")
    return found(
        _answers(batch, Pairing.READ | Pairing.FLUSH), bits(batch, "pairing", Pairing.TOTAL),
        lambda row: f"the answer {name(row)} to a read without enabled bytes brings {length[row]} dwords",
    )  # fmt: skip


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
    name = _name(batch)
    return found(
        _answers(batch), (numbers(batch, "status") == 2) & ~bits(batch, "pairing", Pairing.CONFIG),
        lambda row: f"the answer {name(row)} has status 2 and its request is no configuration request",
    )  # fmt: skip


@column_rule("PCIE-2.2.9-n13", table="tlps", columns=PLACED, spec=SPEC, party="both", severity="warning", local=False)
def count_of_no_read(batch: pa.RecordBatch) -> Broken:
    """The completion of a configuration request has byte count 4 and lower address 0.

    Their fields mean something for memory reads alone.

    Holds::

        1us tlps kind=Cpl pairing=0x12 byte_count=4 lower_address=0 requester_id=00:00.0 tag=3

    Breaks::

        1us tlps kind=Cpl pairing=0x12 byte_count=4096 lower_address=0 requester_id=00:00.0 tag=3
    """
    name, count, lower = _name(batch), numbers(batch, "byte_count"), numbers(batch, "lower_address")
    return found(
        _answers(batch, Pairing.CONFIG), (count != 4) | (lower != 0),
        lambda row: f"the answer {name(row)} has a byte count of {count[row]} and a lower address of {lower[row]:#x}",
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
    name, completer = _name(batch), numbers(batch, "completer_id")
    return found(
        _answers(batch, Pairing.CONFIG), bits(batch, "pairing", Pairing.COMPLETER),
        lambda row: f"the answer {name(row)} names {completer[row]:04X}h, which the request was not for",
    )  # fmt: skip


not_a_rule(
    "PCIE-2.4-n1",
    "One wire shows TLPs in the order in which they were sent, and not in which order they became due: what overtook "
    "inside the sender looks like what was sent in that order.",
)
