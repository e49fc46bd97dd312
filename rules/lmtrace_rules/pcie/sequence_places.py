"""nvme-checklist G02: where the bytes of completions stand, by counts and addresses."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.tlp_checks import Pairing
from lmtrace_rules.columns import bits, found, numbers, words
from lmtrace_rules.pcie.sequences import PLACED, SPEC, answers, called, sure

SECTION = "G02 Completions"
PROFILE = "pcie"


@column_rule("PCIE-2.2.9-n4", table="tlps", columns=PLACED, spec=SPEC, party="both", local=False)
def byte_count_of_first(batch: pa.RecordBatch) -> Broken:
    """The byte count of the first completion is the enabled bytes of the request; 1 of a read without any.

    Where it agrees with the lower address the first bytes may be missing, which is no matter of this rule.

    Holds::

        1us tlps kind=CplD pairing=0xe requester_id=01:00.0 tag=3 byte_count=64

    Breaks::

        1us tlps kind=CplD pairing=0x800e requester_id=01:00.0 tag=3 byte_count=60
    """
    name, count = called(batch), numbers(batch, "byte_count")
    return found(
        answers(batch, Pairing.READ | Pairing.FIRST), bits(batch, "pairing", Pairing.BYTE_COUNT),
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
    name, count = called(batch), numbers(batch, "byte_count")
    return found(
        answers(batch, Pairing.READ, Pairing.FIRST), bits(batch, "pairing", Pairing.BYTE_COUNT),
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
    name, lower = called(batch), numbers(batch, "lower_address")
    return found(
        answers(batch, Pairing.READ | Pairing.FIRST), bits(batch, "pairing", Pairing.LOWER_ADDRESS),
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
    name, lower = called(batch), numbers(batch, "lower_address")
    return found(
        answers(batch, Pairing.READ, Pairing.FIRST), bits(batch, "pairing", Pairing.LOWER_ADDRESS),
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
    name, large = called(batch), _large(batch)
    bad = bits(batch, "pairing", Pairing.UNALIGNED) | (large & bits(batch, "pairing", Pairing.UNALIGNED_128))
    return found(
        answers(batch, Pairing.READ, Pairing.LAST), bad,
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
    name, large = called(batch), _large(batch)
    bad = bits(batch, "pairing", Pairing.SPLIT) | (large & bits(batch, "pairing", Pairing.SPLIT_128))
    return found(
        answers(batch, Pairing.READ), bad,
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
    name = called(batch)
    return found(
        answers(batch, Pairing.READ | Pairing.LAST, Pairing.FLUSH), bits(batch, "pairing", Pairing.TOTAL),
        lambda row: f"with the last answer {name(row)} not all bytes have come", sure(batch),
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
    name, count = called(batch), numbers(batch, "byte_count")
    return found(
        answers(batch, Pairing.READ, Pairing.FIRST), bits(batch, "pairing", Pairing.BACKWARDS),
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
    name, length = called(batch), numbers(batch, "length_dw")
    return found(
        answers(batch, Pairing.READ | Pairing.FLUSH), bits(batch, "pairing", Pairing.TOTAL),
        lambda row: f"the answer {name(row)} to a read without enabled bytes brings {length[row]} dwords",
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
    name, count, lower = called(batch), numbers(batch, "byte_count"), numbers(batch, "lower_address")
    return found(
        answers(batch, Pairing.CONFIG), (count != 4) | (lower != 0),
        lambda row: f"the answer {name(row)} has a byte count of {count[row]} and a lower address of {lower[row]:#x}",
    )  # fmt: skip
