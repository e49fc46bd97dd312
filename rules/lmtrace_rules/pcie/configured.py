"""nvme-checklist G01 and G02: what a TLP may be like by what was configured when it was sent.

Where the capture does not show the configuration, nothing is judged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.pcie import bdf_text
from lmtrace.spec.tlp_checks import Control, Header
from lmtrace_rules.columns import bits, found, numbers, there, words
from lmtrace_rules.pcie.headers import MESSAGES, seen

SECTION = "G01 TLP header format"
PROFILE = "pcie"

COMPLETIONS = ("Cpl", "CplD", "CplLk", "CplDLk")
REQUESTS = ("MRd", "MWr", "MRdLk", "DMWr", "FetchAdd", "Swap", "CAS")
NON_POSTED = ("MRd", "MRdLk", "DMWr", "FetchAdd", "Swap", "CAS")
STATE = ("kind", "direction", "damaged", "requester_id", "completer_id", "requester_assumed", "permitted", "forbidden")
GONE = Control.EXISTS | Control.OPERATIONAL | Control.AWAKE | Control.IDENTITY
PM_PME = 0x18


def _sent(batch: pa.RecordBatch, *kinds: str) -> np.ndarray:
    """Return the sound TLPs of some kinds that the device sent under a requester id that is not assumed."""
    sound: np.ndarray = words(batch, "direction", ("upstream",)) & words(batch, "kind", kinds)
    sound &= (numbers(batch, "damaged") == 0) & (numbers(batch, "requester_assumed") == 0)
    return sound


def _known(batch: pa.RecordBatch, control: int) -> np.ndarray:
    known: np.ndarray = bits(batch, "permitted", control) | bits(batch, "forbidden", control)
    return known


def _told(batch: pa.RecordBatch, text: str) -> Callable[[int], str]:
    sender = np.where(words(batch, "kind", COMPLETIONS), numbers(batch, "completer_id"), numbers(batch, "requester_id"))
    return lambda row: f"a {batch.column('kind')[row]} of {bdf_text(int(sender[row]))} {text}"


def _needs(batch: pa.RecordBatch, applies: np.ndarray, control: int, text: str) -> Broken:
    """Return what a rule found that lets some TLPs be sent only where ``control`` is permitted."""
    return found(applies & _known(batch, control), bits(batch, "forbidden", control), _told(batch, text))


@column_rule(
    "PCIE-7.5.1-n1", table="tlps", columns=STATE, spec="PCIe Base 5.0, 7.5.1.1.3", party="controller", local=False
)
def request_without_bus_master(batch: pa.RecordBatch) -> Broken:
    """A function sends memory requests only while Bus Master Enable is 1.

    What it writes otherwise goes to memory that may be somebody else's.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=1 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0 forbidden=1

    Silent::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no
    """
    applies = _sent(batch, *REQUESTS) & ~bits(batch, "forbidden", GONE)
    return _needs(batch, applies, Control.BUS_MASTER, "was sent while Bus Master Enable was 0")


@column_rule(
    "PCIE-7.5.1-n2", table="tlps", columns=STATE, spec="PCIe Base 5.0, 7.5.1.1.3", party="host", severity="warning",
    local=False,
)  # fmt: skip
def access_without_memory_space(batch: pa.RecordBatch) -> Broken:
    """The host accesses a BAR only while memory space is enabled.

    The function answers Unsupported Request otherwise, and drops writes.

    Holds::

        1us tlps kind=MRd direction=downstream damaged=no permitted=2 forbidden=0

    Breaks::

        1us tlps kind=MRd direction=downstream damaged=no permitted=0 forbidden=2
    """
    applies = words(batch, "direction", ("downstream",)) & words(batch, "kind", REQUESTS)
    applies &= numbers(batch, "damaged") == 0
    return found(
        applies & _known(batch, Control.MEMORY_SPACE), bits(batch, "forbidden", Control.MEMORY_SPACE),
        lambda row: f"a {batch.column('kind')[row]} to a BAR was sent while memory space was not enabled",
    )  # fmt: skip


@column_rule("PCIE-9.2-n1", table="tlps", columns=STATE, spec="PCIe Base 5.0, 9.2.1", party="controller", local=False)
def request_of_disabled_vf(batch: pa.RecordBatch) -> Broken:
    """A virtual function sends only while VF Enable is 1 and NumVFs counts it.

    Otherwise it does not exist.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0x208000 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0x200000 forbidden=0x8000
    """
    applies = _sent(batch, *REQUESTS, *MESSAGES) & bits(batch, "permitted", Control.VIRTUAL)
    return _needs(batch, applies, Control.EXISTS, "was sent, and no such virtual function was enabled")


@column_rule("PCIE-6.6.2-n1", table="tlps", columns=STATE, spec="PCIe Base 5.0, 6.6.2", party="controller", local=False)
def request_after_function_reset(batch: pa.RecordBatch) -> Broken:
    """A function that was reset sends no request before it is configured again.

    Whatever it was about to do belongs to a life that has ended.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0x10000 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0 forbidden=0x10000
    """
    applies = _sent(batch, *REQUESTS, *MESSAGES)
    return _needs(
        batch, applies, Control.OPERATIONAL, "was sent after a Function Level Reset, before Bus Master Enable"
    )


@column_rule(
    "PCIE-5.3-n1", table="tlps", columns=(*STATE, "message_code"), spec="PCIe Base 5.0, 5.3.1.4.1",
    party="controller", severity="warning", local=False,
)  # fmt: skip
def request_while_asleep(batch: pa.RecordBatch) -> Broken:
    """A function in D3hot sends nothing but power management messages and completions.

    The host has put it to sleep and may have taken its memory away.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0x20000 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no permitted=0 forbidden=0x20000

    Silent::

        1us tlps kind=Msg message_code=0x18 direction=upstream damaged=no requester_assumed=no forbidden=0x20000
    """
    code = numbers(batch, "message_code")
    allowed = words(batch, "kind", MESSAGES) & np.isin(code, (PM_PME, 0x1A, 0x1B))
    return _needs(batch, _sent(batch, *REQUESTS, *MESSAGES) & ~allowed, Control.AWAKE, "was sent in D3hot")


@column_rule("PCIE-2.2.6.2-n1", table="tlps", columns=STATE, spec="PCIe Base 5.0, 2.2.6.2", party="both", local=False)
def requester_of_the_device(batch: pa.RecordBatch) -> Broken:
    """The requester id of a request is one that the device was given.

    Its completions go to somebody else otherwise.

    Holds::

        1us tlps kind=MRd direction=upstream damaged=no requester_assumed=no permitted=0x80000 forbidden=0

    Breaks::

        1us tlps kind=MRd direction=upstream damaged=no requester_assumed=no permitted=0 forbidden=0x80000
    """
    return _needs(
        batch, _sent(batch, *REQUESTS), Control.IDENTITY, "names a bus below every one that the device was given"
    )


@column_rule(
    "PCIE-2.2.7-n4", table="tlps", columns=("kind", "direction", "damaged", "permitted", "forbidden"),
    spec="PCIe Base 5.0, 7.3.3", party="host", severity="warning", local=False,
)  # fmt: skip
def type_1_request_to_endpoint(batch: pa.RecordBatch) -> Broken:
    """Configuration requests to an endpoint are of type 0.

    Those of type 1 are for bridges, which hand them on.

    Holds::

        1us tlps kind=CfgRd0 direction=downstream damaged=no permitted=0x80000 forbidden=0

    Breaks::

        1us tlps kind=CfgRd1 direction=downstream damaged=no permitted=0 forbidden=0x80000
    """
    applies = words(batch, "direction", ("downstream",)) & (numbers(batch, "damaged") == 0)
    first, second = words(batch, "kind", ("CfgRd0", "CfgWr0")), words(batch, "kind", ("CfgRd1", "CfgWr1"))
    return found(
        applies & (first | second) & _known(batch, Control.IDENTITY),
        second & bits(batch, "forbidden", Control.IDENTITY),
        lambda row: f"a {batch.column('kind')[row]} was sent to an endpoint",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.2-n1", table="tlps", columns=("kind", "length_dw", "damaged", "max_payload"),
    spec="PCIe Base 5.0, 2.2.2", party="both", local=False,
)  # fmt: skip
def payload_within_limit(batch: pa.RecordBatch) -> Broken:
    """A write carries no more than Max_Payload_Size.

    A receiver takes a longer one for malformed.

    Holds::

        1us tlps kind=MWr length_dw=64 damaged=no max_payload=256

    Breaks::

        1us tlps kind=MWr length_dw=128 damaged=no max_payload=256

    Silent::

        1us tlps kind=MWr length_dw=128 damaged=no
    """
    return _payload(batch, "MWr")


@column_rule(
    "PCIE-2.2.9-n9", table="tlps", columns=("kind", "length_dw", "damaged", "max_payload"),
    spec="PCIe Base 5.0, 2.2.9", party="both", local=False,
)  # fmt: skip
def completion_within_limit(batch: pa.RecordBatch) -> Broken:
    """A completion carries no more than Max_Payload_Size.

    A requester takes a longer one for malformed.

    Holds::

        1us tlps kind=CplD length_dw=64 damaged=no max_payload=256

    Breaks::

        1us tlps kind=CplD length_dw=128 damaged=no max_payload=256
    """
    return _payload(batch, "CplD", "CplDLk")


def _payload(batch: pa.RecordBatch, *kinds: str) -> Broken:
    length, limit = numbers(batch, "length_dw"), numbers(batch, "max_payload")
    return found(
        words(batch, "kind", kinds) & (numbers(batch, "damaged") == 0) & there(batch, "max_payload"),
        4 * length > limit,
        lambda row: f"a {batch.column('kind')[row]} carries {4 * length[row]} bytes, {limit[row]} are allowed",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.6.2-n2", table="tlps", columns=(*STATE, "tag", "tag_assumed"), spec="PCIe Base 5.0, 2.2.6.2",
    party="both", local=False,
)  # fmt: skip
def tag_of_five_bits(batch: pa.RecordBatch) -> Broken:
    """Without Extended Tag Field Enable, and without 10-bit tags, a tag is below 32.

    Whoever completes it may keep five bits only.

    Holds::

        1us tlps kind=MRd direction=upstream damaged=no requester_assumed=no tag_assumed=no tag=31 forbidden=0x60

    Breaks::

        1us tlps kind=MRd direction=upstream damaged=no requester_assumed=no tag_assumed=no tag=32 forbidden=0x60

    Silent::

        1us tlps kind=MRd direction=upstream damaged=no requester_assumed=no tag_assumed=no tag=32 forbidden=0x20
    """
    tag = numbers(batch, "tag")
    applies = _sent(batch, *NON_POSTED) & (numbers(batch, "tag_assumed") == 0) & there(batch, "tag")
    applies &= bits(batch, "forbidden", Control.EXTENDED_TAG) & bits(batch, "forbidden", Control.TEN_BIT_TAG)
    return found(applies, tag > 31, lambda row: f"the tag is {tag[row]:02X}h and extended tags are not enabled")


@column_rule(
    "PCIE-2.2.6.2-n3", table="tlps", columns=(*STATE, "tag", "tag_assumed"), spec="PCIe Base 5.0, 2.2.6.2",
    party="both", severity="warning", local=False,
)  # fmt: skip
def tag_of_ten_bits(batch: pa.RecordBatch) -> Broken:
    """With 10-Bit Tag Requester Enable the upper two bits of a tag are not both zero.

    A requester may mix them with 8-bit tags for completers that know no others.

    Holds::

        1us tlps kind=MRd direction=upstream damaged=no requester_assumed=no tag_assumed=no tag=256 permitted=0x40

    Breaks::

        1us tlps kind=MRd direction=upstream damaged=no requester_assumed=no tag_assumed=no tag=3 permitted=0x40
    """
    tag = numbers(batch, "tag")
    applies = _sent(batch, *NON_POSTED) & (numbers(batch, "tag_assumed") == 0) & there(batch, "tag")
    return found(
        applies & bits(batch, "permitted", Control.TEN_BIT_TAG), tag >> 8 == 0,
        lambda row: f"the tag is {tag[row]:03X}h and 10-bit tags are enabled",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.6.3-n1", table="tlps", columns=(*STATE, "attr"), spec="PCIe Base 5.0, 2.2.6.4", party="both",
    local=False,
)  # fmt: skip
def relaxed_ordering_enabled(batch: pa.RecordBatch) -> Broken:
    """A request asks for relaxed ordering only where Device Control enables it.

    What it writes may be overtaken, which the host does not expect.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no attr=2 permitted=8 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no attr=2 permitted=0 forbidden=8
    """
    applies = _sent(batch, *REQUESTS) & (numbers(batch, "attr") & 2 != 0)
    return _needs(batch, applies, Control.RELAXED_ORDERING, "has RO set, and relaxed ordering is not enabled")


@column_rule(
    "PCIE-2.2.6.3-n2", table="tlps", columns=(*STATE, "attr"), spec="PCIe Base 5.0, 2.2.6.5", party="both",
    local=False,
)  # fmt: skip
def no_snoop_enabled(batch: pa.RecordBatch) -> Broken:
    """A request asks for no snoop only where Device Control enables it.

    Caches of the host may then hold what memory does not.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no attr=1 permitted=0x10 forbidden=0

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no attr=1 permitted=0 forbidden=0x10
    """
    applies = _sent(batch, *REQUESTS) & (numbers(batch, "attr") & 1 != 0)
    return _needs(batch, applies, Control.NO_SNOOP, "has NS set, and no snoop is not enabled")


@column_rule(
    "PCIE-2.2.6.3-n3", table="tlps", columns=(*STATE, "attr"), spec="PCIe Base 5.0, 2.2.6.4", party="both",
    severity="warning", local=False,
)  # fmt: skip
def id_based_ordering_enabled(batch: pa.RecordBatch) -> Broken:
    """A device asks for ID-based ordering only where Device Control 2 enables it, for requests and for completions.

    What it sends may be overtaken, which the host does not expect.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no attr=4 permitted=0x80 forbidden=0

    Breaks::

        1us tlps kind=CplD direction=upstream damaged=no requester_assumed=no attr=4 permitted=0x80 forbidden=0x100
    """
    asks = numbers(batch, "attr") & 4 != 0
    request, answer = _sent(batch, *REQUESTS) & asks, _sent(batch, *COMPLETIONS) & asks
    applies = (request & _known(batch, Control.IDO_REQUEST)) | (answer & _known(batch, Control.IDO_COMPLETION))
    bad = (request & bits(batch, "forbidden", Control.IDO_REQUEST)) | (
        answer & bits(batch, "forbidden", Control.IDO_COMPLETION)
    )
    return found(applies, bad, _told(batch, "has IDO set, and ID-based ordering is not enabled"))


@column_rule(
    "PCIE-2.2.6.4-n1", table="tlps", columns=(*STATE, "header_flags"), spec="PCIe Base 5.0, 2.2.4.2",
    party="controller", local=False,
)  # fmt: skip
def translated_request_enabled(batch: pa.RecordBatch) -> Broken:
    """A request says that its address is translated only where ATS is enabled.

    It goes round the protection of the host.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no header_flags=0x40008 permitted=0x200

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no header_flags=0x40008 forbidden=0x200
    """
    both = Header.TRANSLATION | Header.TRANSLATED
    applies = _sent(batch, *REQUESTS) & seen(batch) & (numbers(batch, "header_flags") & both == Header.TRANSLATED)
    return _needs(batch, applies, Control.TRANSLATION, "has AT 10b, and ATS is not enabled")


@column_rule(
    "PCIE-2.2.6.4-n2", table="tlps", columns=(*STATE, "header_flags", "length_dw"), spec="PCIe Base 5.0, 2.2.4.2",
    party="controller", severity="warning", local=False,
)  # fmt: skip
def translation_request_enabled(batch: pa.RecordBatch) -> Broken:
    """A translation request is a memory read of an even number of dwords, sent where ATS is enabled.

    The host answers nothing else with translations.

    Holds::

        1us tlps kind=MRd direction=upstream damaged=no length_dw=2 header_flags=0x40004 permitted=512

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no length_dw=2 header_flags=0x40004 permitted=512

    Breaks::

        1us tlps kind=MRd direction=upstream damaged=no length_dw=2 header_flags=0x40004 forbidden=512
    """
    both = Header.TRANSLATION | Header.TRANSLATED
    applies = _sent(batch, *REQUESTS) & seen(batch) & (numbers(batch, "header_flags") & both == Header.TRANSLATION)
    wrong = ~words(batch, "kind", ("MRd",)) | (numbers(batch, "length_dw") % 2 != 0)
    bad = wrong | bits(batch, "forbidden", Control.TRANSLATION)
    return found(
        applies, bad,
        _told(batch, "has AT 01b, which is for reads of an even number of dwords where ATS is enabled"),
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.7.1-n1", table="tlps", columns=(*STATE, "header_flags"), spec="PCIe Base 5.0, 2.2.7.1",
    party="controller", severity="warning", local=False,
)  # fmt: skip
def hints_enabled(batch: pa.RecordBatch) -> Broken:
    """A request carries processing hints only where TPH Requester Enable allows them.

    The tag of a hint means something else to a host that knows no hints.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no header_flags=0x40002 permitted=0x400

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no header_flags=0x40002 forbidden=0x400
    """
    applies = _sent(batch, *REQUESTS) & seen(batch) & bits(batch, "header_flags", Header.HINTS)
    return _needs(batch, applies, Control.HINTS, "has TH set, and hints are not enabled")


@column_rule(
    "PCIE-2.2.6.6-n1", table="tlps", columns=(*STATE, "tc"), spec="PCIe Base 5.0, 2.2.6.6", party="both",
    severity="warning", local=False,
)  # fmt: skip
def traffic_class_mapped(batch: pa.RecordBatch) -> Broken:
    """A traffic class other than 0 is one that the configuration maps to an enabled virtual channel.

    A receiver takes any other for malformed.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no tc=1 permitted=0x400000

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no tc=1 forbidden=0x400000
    """
    tc = numbers(batch, "tc")
    applies = _sent(batch, *REQUESTS, *COMPLETIONS) & (tc != 0)
    return _needs(batch, applies, Control.OTHER_CLASSES, "has a traffic class that no virtual channel carries")


@column_rule(
    "PCIE-2.2.3-n2", table="tlps", columns=(*STATE, "header_flags"), spec="PCIe Base 5.0, 2.2.3", party="both",
    severity="info", local=False,
)  # fmt: skip
def digest_where_enabled(batch: pa.RecordBatch) -> Broken:
    """A function that is to generate ECRC does so for every TLP.

    This is for looking: when it may leave the digest out is not confirmed.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no header_flags=0x40001 forbidden=0x40000

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no requester_assumed=no header_flags=0x40000 forbidden=0x40000
    """
    applies = _sent(batch, *REQUESTS, *COMPLETIONS, *MESSAGES) & seen(batch)
    return found(
        applies & bits(batch, "forbidden", Control.NO_DIGEST), ~bits(batch, "header_flags", Header.DIGEST),
        _told(batch, "has no digest, and ECRC generation is enabled"),
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.10-n1", table="tlps", columns=(*STATE, "header_flags"), spec="PCIe Base 5.0, 2.2.10", party="both",
    severity="warning", local=False,
)  # fmt: skip
def prefixes_known_and_in_order(batch: pa.RecordBatch) -> Broken:
    """TLP prefixes are of a known type, local ones before end-to-end ones, and PASID only where it is enabled.

    A receiver takes any other for malformed.

    Holds::

        1us tlps kind=MWr direction=upstream damaged=no header_flags=0x44800 permitted=0x800

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no header_flags=0x42800

    Breaks::

        1us tlps kind=MWr direction=upstream damaged=no header_flags=0x44800 forbidden=0x800
    """
    unknown, order = (bits(batch, "header_flags", one) for one in (Header.PREFIX_UNKNOWN, Header.PREFIX_ORDER))
    pasid = bits(batch, "header_flags", Header.PASID) & bits(batch, "forbidden", Control.PASID)
    pasid &= words(batch, "direction", ("upstream",))

    def message(row: int) -> str:
        if unknown[row]:
            return "a TLP prefix is of no known type"
        return "a local TLP prefix follows an end-to-end one" if order[row] else "a PASID is sent and not enabled"

    return found(seen(batch) & bits(batch, "header_flags", Header.PREFIX), unknown | order | pasid, message)
