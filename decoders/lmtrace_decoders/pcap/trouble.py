"""What can be wrong with packets and the TLPs in them, declared in one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmtrace.spec.tlp_checks import Header
from lmtrace.stage import Link
from lmtrace.trouble import Kind, Troubles, declare
from lmtrace_decoders.pcap import headers
from lmtrace_decoders.pcap import unwrap as ip

MOST_LINKS = 64
"""Links of one capture that are read."""

UNDESCRIBED = declare("packet-of-no-interface", "data-loss", "The file does not describe the interface of a packet.")
SHORT = declare(
    "packet-cut", "data-loss", "Raise the snap length of the recorder: not even the headers of these TLPs are there."
)
PAYLOAD_CUT = declare(
    "payload-cut", "info", "Raise the snap length of the recorder; what depends on the missing bytes is not judged."
)
TOO_SHORT = declare(
    "tlp-shorter-than-its-header", "data-loss", "A TLP ends before its header says; check the framing or the recorder."
)
NO_DIRECTION = declare(
    "packet-without-direction",
    "data-loss",
    "The recorder must set epb_flags 01 or 10 on each packet; or name the host's requester id (host=) or the "
    "address of the device (device=) with --framing.",
)
UNKNOWN_TLP = declare(
    "tlp-not-understood", "data-loss", "A header that is no TLP: check that the packets hold raw TLPs."
)
OTHER_LINK = declare("interface-not-a-link", "info", "Packets of this interface are not TLPs by its description.")
OTHER_PACKET = declare(
    "packet-not-a-tlp", "info", "Packets or lines of something else than TLPs, among those that hold them."
)
REPLAYED = declare("tlp-replayed", "info", "The link layer sent TLPs again; each is taken once.")
REPEATED = declare(
    "tlp-recorded-twice", "info", "The recorder wrote the same TLP of the same time again; each is taken once."
)
NULLIFIED = declare("tlp-nullified", "info", "TLPs that their sender took back are left out.")
LCRC_WRONG = declare(
    "lcrc-wrong",
    "info",
    "The link, the recorder or a copy damaged these TLPs; they are left out, as their receiver does, and what was not "
    "sent again is missing.",
)
LCRC_UNTRUE = declare(
    "lcrc-not-recorded",
    "info",
    "The recorder does not keep the LCRC as it was: TLPs with a wrong one are read as well.",
)
DIGEST_WRONG = declare(
    "ecrc-wrong",
    "info",
    "Something on the way changed these TLPs, or the recorder does not keep the ECRC as it was; they are read as they "
    "are, and PCIE-2.2.3-n1 judges them.",
)
GAP = declare("sequence-gap", "data-loss", "Sequence numbers are missing: the recorder lost TLPs there.")
STREAM_GAP = declare("stream-gap", "data-loss", "Bytes of the TCP stream are missing; reading goes on behind them.")
FRAGMENTED = declare("ip-fragment", "data-loss", "Raise the MTU: packets in several IP fragments are not put together.")
MANY = declare("too-many-links", "data-loss", f"Only the first {MOST_LINKS} links and some thousand flows are read.")
BACKWARDS = declare(
    "time-backwards",
    "data-loss",
    "Times of a link are not in order; the order in the file is kept, and nothing that rests on it is judged.",
)
FAR_TIME = declare(
    "time-not-credible", "data-loss", "A time is years away from the first one; that of the packet before is kept."
)


def note_digests(troubles: Troubles, rows: np.ndarray, links: Sequence[Link], what: str) -> None:
    """Count the TLPs whose digest is wrong; ``what`` is what a row's ``source_offset`` counts."""
    hit = rows[rows["header_flags"] & np.uint32(Header.DIGEST_WRONG) != 0]
    for link in np.unique(hit["link"]).tolist():
        own = hit[hit["link"] == link]
        place = int(own["source_offset"][0])
        troubles.add(
            DIGEST_WRONG, f"{what} {place}", time_ps=int(own["time_ps"][0]), offset=place, count=len(own),
            link=links[link].name,
        )  # fmt: skip


TROUBLE_OF_CODE: dict[int, Kind] = {
    headers.NO_TLP: UNKNOWN_TLP, headers.HEADER_CUT: SHORT, headers.PAYLOAD_CUT: PAYLOAD_CUT, headers.SHORT: TOO_SHORT,
    headers.OTHER: OTHER_PACKET, headers.NO_DIRECTION: NO_DIRECTION, headers.REPLAYED: REPLAYED,
    headers.FOREIGN: OTHER_LINK, headers.NULLIFIED: NULLIFIED, headers.GAP: GAP,
    headers.REPEATED: REPEATED, headers.REFUSED: LCRC_WRONG,
}  # fmt: skip
TROUBLE_OF_STATE: dict[int, Kind] = {ip.FRAGMENT: FRAGMENTED, ip.CUT_HEADER: SHORT, ip.TOO_MANY: MANY}
