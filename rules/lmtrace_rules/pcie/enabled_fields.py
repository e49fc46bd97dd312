"""nvme-checklist G01 and G02: fields of a header that configuration has to enable, from tags to prefixes.

Where the capture does not show the configuration, nothing is judged.
"""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.tlp_checks import Control, Header
from lmtrace_rules.columns import bits, found, numbers, there, words
from lmtrace_rules.pcie.configured import COMPLETIONS, REQUESTS, STATE, known, needs, sent, told
from lmtrace_rules.pcie.headers import MESSAGES, seen

SECTION = "G01 TLP header format"
PROFILE = "pcie"


NON_POSTED = ("MRd", "MRdLk", "DMWr", "FetchAdd", "Swap", "CAS")


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
    applies = sent(batch, *NON_POSTED) & (numbers(batch, "tag_assumed") == 0) & there(batch, "tag")
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
    applies = sent(batch, *NON_POSTED) & (numbers(batch, "tag_assumed") == 0) & there(batch, "tag")
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
    applies = sent(batch, *REQUESTS) & (numbers(batch, "attr") & 2 != 0)
    return needs(batch, applies, Control.RELAXED_ORDERING, "has RO set, and relaxed ordering is not enabled")


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
    applies = sent(batch, *REQUESTS) & (numbers(batch, "attr") & 1 != 0)
    return needs(batch, applies, Control.NO_SNOOP, "has NS set, and no snoop is not enabled")


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
    request, answer = sent(batch, *REQUESTS) & asks, sent(batch, *COMPLETIONS) & asks
    applies = (request & known(batch, Control.IDO_REQUEST)) | (answer & known(batch, Control.IDO_COMPLETION))
    bad = (request & bits(batch, "forbidden", Control.IDO_REQUEST)) | (
        answer & bits(batch, "forbidden", Control.IDO_COMPLETION)
    )
    return found(applies, bad, told(batch, "has IDO set, and ID-based ordering is not enabled"))


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
    applies = sent(batch, *REQUESTS) & seen(batch) & (numbers(batch, "header_flags") & both == Header.TRANSLATED)
    return needs(batch, applies, Control.TRANSLATION, "has AT 10b, and ATS is not enabled")


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
    applies = sent(batch, *REQUESTS) & seen(batch) & (numbers(batch, "header_flags") & both == Header.TRANSLATION)
    wrong = ~words(batch, "kind", ("MRd",)) | (numbers(batch, "length_dw") % 2 != 0)
    bad = wrong | bits(batch, "forbidden", Control.TRANSLATION)
    return found(
        applies, bad,
        told(batch, "has AT 01b, which is for reads of an even number of dwords where ATS is enabled"),
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
    applies = sent(batch, *REQUESTS) & seen(batch) & bits(batch, "header_flags", Header.HINTS)
    return needs(batch, applies, Control.HINTS, "has TH set, and hints are not enabled")


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
    applies = sent(batch, *REQUESTS, *COMPLETIONS) & (tc != 0)
    return needs(batch, applies, Control.OTHER_CLASSES, "has a traffic class that no virtual channel carries")


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
    applies = sent(batch, *REQUESTS, *COMPLETIONS, *MESSAGES) & seen(batch)
    return found(
        applies & bits(batch, "forbidden", Control.NO_DIGEST), ~bits(batch, "header_flags", Header.DIGEST),
        told(batch, "has no digest, and ECRC generation is enabled"),
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
