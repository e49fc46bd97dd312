"""pcap and pcapng captures of TLPs, in lmtrace's own raw-TLP convention or in a framing.

Of its own a file is read when an interface is USER0 (147) with the ``if_description`` ``PCIe TLP`` (``if_name`` names
the link, ``epb_flags`` 01 is downstream, 10 upstream) or when its UDP packets are NetTLP; everything else needs a
framing, since its link types say nothing. Output: `TlpChunk`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from lmtrace.bindings import Given
from lmtrace.compressed import head
from lmtrace.errors import CaptureError
from lmtrace.spec.pcie import bdf_text
from lmtrace.stage import CONTAINER, CONTENT, HEAD_BYTES, TLP_ROW, Format, Link, Request, TlpChunk, register_format
from lmtrace.trouble import Kind
from lmtrace_decoders.interfaces.bind_text import quoted
from lmtrace_decoders.pcap import headers, refused, walk
from lmtrace_decoders.pcap import unwrap as ip
from lmtrace_decoders.pcap.advise import advice, carries_antmicro, contents, guesses
from lmtrace_decoders.pcap.content import (
    Piece,
    bare,
    carries_nettlp,
    gathered,
    in_framing,
    is_own,
    plausible,
    records,
    tlps_of,
)  # fmt: skip
from lmtrace_decoders.pcap.direction import End, Ends, host_id
from lmtrace_decoders.pcap.framing import NETTLP, Framing, endpoint_text, parse
from lmtrace_decoders.pcap.packets import DROPPED, Batch, Packets
from lmtrace_decoders.pcap.peek import MODIFIED, PCAPNG, Interface, first_interfaces, first_packets, is_pcap
from lmtrace_decoders.pcap.streams import Streams
from lmtrace_decoders.pcap.trouble import (
    BACKWARDS,
    FAR_TIME,
    GAP,
    LCRC_UNTRUE,
    MANY,
    MOST_LINKS,
    OTHER_LINK,
    SHORT,
    STREAM_GAP,
    TOO_SHORT,
    TROUBLE_OF_CODE,
    TROUBLE_OF_STATE,
    UNDESCRIBED,
    note_digests,
)  # fmt: skip
from lmtrace_decoders.tlp import KIND_OF_BYTE0

_ENDING = (GAP, SHORT, STREAM_GAP, TOO_SHORT)
"""Losses of which it is known where they ended."""
TOLD = 0.9
"""Confidence in a link whose direction is told by its traffic alone."""
YEAR_2000 = 946_684_800
"""Seconds since 1970. A recorder without a clock counts from when it was switched on."""
MOST_WEIGHED = 256
"""Packets of a conversation that are asked which end is the device."""

OWN = Framing()
"""Interfaces that say by their description that their packets are TLPs."""


@dataclass(slots=True)
class _Table:
    """What is known of interfaces or flows: the link of each and the direction of its packets, -1 for none."""

    links: list[int] = field(default_factory=list)
    ways: list[int] = field(default_factory=list)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return both as arrays, never empty."""
        return np.array([*self.links, -1], np.int64), np.array([*self.ways, -1], np.int64)


class PcapReader:
    """A pcap or pcapng capture; see the module for what it accepts."""

    def __init__(self, request: Request) -> None:
        """Look at the first packets and settle the framing, the links and who is who.

        Raises CaptureError when it takes a framing to read the file, UsageError for a framing that is none.
        """
        self._request = request
        self._name = request.path.name
        first = head(request.path, HEAD_BYTES)
        self.format = "pcapng" if first[:4] == PCAPNG else "pcap"
        if first[:4] in MODIFIED:
            raise CaptureError(
                f"{self._name} is a modified pcap (magic {first[:4].hex()}), whose packet headers lmtrace does not "
                f"read; convert it: editcap -F pcapng {self._name} {request.path.stem}.pcapng"
            )
        self.links: list[Link] = []
        self._given = request.binding.links if request.binding else {}
        text = request.layout
        if text is None and request.binding and not any(is_own(one) for one in first_interfaces(first)):
            text = request.binding.framing
        self._own = text is None
        self.framing = parse(text) if text else self._recognise(first)
        self._ends = Ends(self.framing.devices)
        self._way = headers.BY_FLAGS
        self._host = -1
        self._settle(first)
        self._checked = self._keeps_lcrc(first)
        self._start()

    @property
    def zero_ps(self) -> int | None:
        """The date of the first packet in ps; None where what its time stamps count from is no date."""
        _, seconds, ps, _ = self._origin.tolist()
        return seconds * 10**12 + ps if seconds >= YEAR_2000 else None

    def _recognise(self, first: bytes) -> Framing:
        """Return the framing that a file shows of itself. Raises CaptureError that says what was found instead."""
        if any(is_own(one) for one in first_interfaces(first)):
            return OWN
        if carries_nettlp(first_packets(first)):
            self._own = False
            return NETTLP
        raise CaptureError(f"{self._name}: {advice(self._request.words, first)}")

    def _settle(self, first: bytes) -> None:
        """Find out how packets tell their direction, and name the links that the first ones show."""
        one = self.framing
        if one.carrier == "packet":
            for interface in first_interfaces(first):
                self._describe(interface)
            if not self.links and self.format == "pcap":
                raise CaptureError(f"{self._name}: {advice(self._request.words, first)}")
        if one.host is not None:
            self._way, self._host = headers.BY_HOST, one.host
        elif one.records == "agilent":
            self._way = headers.BY_RECORD
        elif one.carrier == "packet":
            packets = [] if self._own else first_packets(first)
            if not packets or any(packet.flags & 3 for packet in packets):
                return
            found = host_id(tlp.data for tlp in tlps_of(packets, one))
            if found is None:
                raise CaptureError(
                    f"{self._name}: no packet says which way it went; name the host's requester id: "
                    f"lmtrace check {self._request.words} --framing {one},host=00:00.0"
                )
            self._way, self._host = headers.BY_HOST, found
            self.links = [
                replace(
                    link,
                    confidence=TOLD,
                    text=f"{link.text}; direction by the host's id {bdf_text(found)}, told by the traffic",
                )
                for link in self.links
            ]
        else:
            self._way = headers.BY_FLOW
            tlps = tlps_of(first_packets(first), one)
            for tlp in tlps:
                self._ends.weigh(tlp.sender, tlp.receiver, tlp.data)
            undecided = self._ends.undecided()
            if undecided and not one.devices:
                a, b = undecided
                raise CaptureError(
                    f"{self._name}: {one.text} between {a} and {b}, and nothing says on which side the NVMe "
                    f"device is; name it: lmtrace check {self._request.words} --framing {one},device={a} (or {b})"
                )
            for tlp in tlps:
                self._flow_link(tlp.sender, tlp.receiver)

    def _keeps_lcrc(self, first: bytes) -> bool:
        """Whether the LCRCs of the first packets are mostly right, so that one that is wrong says something."""
        one = self.framing
        if not refused.is_checked(one):
            return False
        data, spans, _ = gathered(first_packets(first), one)
        if one.carrier == "tcp":
            data, spans, _ = records(data, spans, one)
        offset = 0 if one.carrier == "tcp" else one.offset
        if one.records == "agilent":
            spans = spans[spans["start"] + offset < spans["end"]]
            spans = spans[data[spans["start"] + offset] == headers.START_OF_TLP]
            offset += 1
        return refused.are_kept(refused.told(data, spans, one, offset))

    def _start(self) -> None:
        """Set what a pass over the file changes to its start."""
        one = self.framing
        self._interfaces = _Table()
        self._carriers: list[int] = []
        self._flows = np.zeros(64, ip.FLOW)
        self._known_flows = 0
        self._flow_table = _Table()
        self._origin = np.zeros(4, np.int64)
        self._newest = np.full(MOST_LINKS, np.iinfo(np.int64).min)
        numbered = one.sequence or self._checked
        self._sequences = np.full((2 * MOST_LINKS if numbered else 1, headers.NUMBERS + 2), -1, np.int64)
        self._last = headers.last_tlps(MOST_LINKS)
        self._streams: Streams | None = None
        parameters = np.zeros(1, headers.PARAMETERS)
        before, after, order = 2 * one.sequence, 4 * one.lcrc, headers.ORDERS[one.order]
        parameters[0] = (
            one.offset, before, after, order, headers.AGILENT if one.records == "agilent" else headers.PLAIN,
            one.strict, self._way, self._host, False,
        )  # fmt: skip
        if one.carrier == "tcp":
            self._streams = Streams(one.records == "antmicro", one.offset, before, after, order)
            parameters["offset"] = 0
        self._parameters = parameters
        self._ports = np.array(one.ports or [(0, 0)], np.int64)

    # -- links ------------------------------------------------------------------------------------------------

    def _link(self, name: str, text: str, confidence: float = 1.0) -> int:
        """Return the number of a link, -1 when there are too many."""
        for number, link in enumerate(self.links):
            if link.name == name:
                return number
        if len(self.links) == MOST_LINKS:
            self._request.troubles.add(MANY, name)
            return -1
        given = self._given[name].given if name in self._given else Given()
        self.links.append(Link(name, text, confidence, given))
        return len(self.links) - 1

    def _describe(self, interface: Interface) -> int:
        """Return the link that an interface is by itself, -1 for none."""
        if self.framing.carrier != "packet" or not (
            is_own(interface) if self._own else self.framing.takes(interface.link_type)
        ):
            return -1
        what = "raw TLPs" if self._own else self.framing.text
        name = interface.name or f"link{len(self.links) if self.format == 'pcapng' else 0}"
        return self._link(name, f"{self.format} interface {name}, {what}")

    def _interface(self, interface: Interface) -> None:
        """An interface is described in the pass."""
        self._interfaces.links.append(self._describe(interface))
        self._interfaces.ways.append(-1)
        ours = self.framing.carrier != "packet" and self.framing.takes(interface.link_type)
        self._carriers.append(ip.LINK_KINDS.get(interface.link_type, 0) if ours else 0)

    def _section(self) -> None:
        """Interfaces start over."""
        self._interfaces, self._carriers = _Table(), []
        self._flows, self._known_flows, self._flow_table = np.zeros(64, ip.FLOW), 0, _Table()

    def _flow_link(self, sender: End, receiver: End) -> tuple[int, int]:
        """Return (link, direction) of what one end sends to another, -1 for none."""
        device = self._ends.device(sender, receiver)
        if device is None:
            if self.framing.devices:
                return -1, -1
            name = " - ".join(sorted((endpoint_text(*sender), endpoint_text(*receiver))))
            return self._link(name, f"{self.framing.text}, direction not known"), -1
        name = endpoint_text(*device)
        how, sure = ("", 1.0) if self.framing.devices else (", which end is the device told by the traffic", TOLD)
        return self._link(name, f"{self.framing.text}, device at {name}{how}", sure), int(sender == device)

    # -- the pass ---------------------------------------------------------------------------------------------

    def chunks(self) -> Iterator[TlpChunk]:
        """Yield the TLPs in the order of the file. Raises CaptureError when a framing finds none."""
        self._start()
        packets = Packets(self._request, self._interface, self._section)
        some = self._own
        for batch in packets.batches():
            chunk = self._chunk(batch, packets)
            if len(chunk.rows):
                some = True
                yield chunk
        if not some:
            found = contents(head(self._request.path, HEAD_BYTES))
            raise CaptureError(f"{self._name}: no packet holds a TLP in the framing {self.framing}; found {found}")

    def _chunk(self, batch: Batch, source: Packets) -> TlpChunk:
        found = batch.packets
        links, ways = self._interfaces.arrays()
        wanted = links[:-1] >= 0 if self.framing.carrier == "packet" else np.array(self._carriers, np.int64) > 0
        walk.set_times(found, len(found), source.clocks.known, wanted, self._origin)
        source.last_ps = int(self._origin[3])
        self._parameters["coarse"] = source.clocks.coarse
        self._look(found, wanted, links, source)
        data = batch.data
        if self.framing.carrier == "packet":
            interfaces = np.minimum(found["interface"], len(wanted))
            taken = np.flatnonzero(np.append(wanted, False)[interfaces])
            spans = np.zeros(len(taken), ip.SPAN)
            spans["packet"] = taken
            spans["start"] = found["start"][taken]
            spans["end"] = spans["start"] + found["captured"][taken]
            spans["wire"] = spans["start"] + found["length"][taken]
        else:
            spans = self._unwrapped(batch)
            if self._streams is not None:
                data, spans = self._streams.feed(data, spans)
                if self._streams.gaps:
                    self._note(STREAM_GAP, found[np.array(self._streams.gaps)], None)
            self._learn(data, spans)
            links, ways = self._flow_table.arrays()
        return self._decoded(data, found, spans, links, ways)

    def _decoded(
        self, data: np.ndarray, packets: np.ndarray, spans: np.ndarray, links: np.ndarray, ways: np.ndarray
    ) -> TlpChunk:
        rows = np.empty(len(spans), TLP_ROW)
        payload = np.empty(int(np.maximum(spans["end"] - spans["start"], 0).sum()) + 1, np.uint8)
        codes = np.zeros(len(spans), np.uint8)
        parameters = self._parameters
        told = self._told(data, packets, spans)
        count, filled = headers.decode(
            data, packets, spans, len(spans), parameters, links, ways, KIND_OF_BYTE0, headers.IS_COMPLETION, told,
            self._sequences, self._last, codes, rows, payload,
        )  # fmt: skip
        for code in np.unique(codes).tolist():
            if code:
                hit = spans[codes == code]
                places = hit["flow"] if self.framing.carrier != "packet" else packets["interface"][hit["packet"]]
                if code & headers.GAP:
                    self._note(GAP, packets[hit["packet"]], links[places])
                if code & ~headers.GAP:
                    self._note(TROUBLE_OF_CODE[code & ~headers.GAP], packets[hit["packet"]], links[places])
        backwards = np.zeros((MOST_LINKS, 3), np.int64)
        headers.steps_back(rows, count, self._newest, backwards)
        for link in np.flatnonzero(backwards[:, 0]).tolist():
            number, first, least = backwards[link].tolist()
            place = int(rows["source_offset"][first])
            self._request.troubles.add(
                BACKWARDS, f"packet {place}", time_ps=max(least, 0), offset=place, count=number,
                link=self.links[link].name,
            )  # fmt: skip
        for name in ("time_ps", "end_ps"):  # before the first packet: a table has no such time
            np.maximum(rows[name], 0, out=rows[name])
        note_digests(self._request.troubles, rows[:count], self.links, "packet")
        return TlpChunk(rows[:count], payload[:filled])

    def _told(self, data: np.ndarray, packets: np.ndarray, spans: np.ndarray) -> np.ndarray:
        """Return what the LCRC of each span tells; where a recorder does not keep them it tells nothing."""
        one = self.framing
        offset = int(self._parameters[0]["offset"]) + (one.records == "agilent")
        told = refused.told(data, spans, one, offset)
        amiss = told == headers.TOLD_REFUSED
        if not self._checked:
            told[:] = headers.NOTHING_TOLD
            if amiss.any():
                self._note(LCRC_UNTRUE, packets[spans["packet"][amiss]], None)
        elif amiss.any():
            start = np.minimum(spans["start"] + offset, len(data) - 2)
            numbers = (data[start].astype(np.int64) << 8 | data[start + 1]) & headers.NUMBERS - 1
            refused.note_again(
                told, numbers if one.sequence else told.astype(np.int64), self._senders(data, packets, spans),
                packets["time_ps"][spans["packet"]],
            )  # fmt: skip
        return told

    def _senders(self, data: np.ndarray, packets: np.ndarray, spans: np.ndarray) -> np.ndarray:
        """Return numbers that tell apart who sent each span: its link and its direction."""
        if self._way == headers.BY_FLOW:
            flows: np.ndarray = spans["flow"].astype(np.int64)
            return flows
        hit = packets[spans["packet"]]
        way = hit["flags"] & 3
        if self._way == headers.BY_RECORD:
            way = data[np.minimum(spans["start"] + headers.DIRECTION_AT, len(data) - 1)] & headers.UPSTREAM_BIT
        elif self._way == headers.BY_HOST:
            first = spans["start"] + self.framing.offset + 2 * self.framing.sequence
            kind = KIND_OF_BYTE0[data[np.minimum(first, len(data) - 1)]]
            answer = headers.IS_COMPLETION[kind]
            at = np.minimum(first + np.where(answer, 8, 4), len(data) - 2)
            mine = (data[at].astype(np.int64) << 8 | data[at + 1]) == self._host
            way = (mine == answer).astype(np.uint32)
        senders: np.ndarray = hit["interface"].astype(np.int64) << 8 | way.astype(np.int64)
        return senders

    def _unwrapped(self, batch: Batch) -> np.ndarray:
        """Return the payloads of the ports of the framing, and learn new flows."""
        found = batch.packets
        spans, states = np.zeros(len(found), ip.SPAN), np.zeros(len(found), np.uint8)
        protocol = ip.UDP if self.framing.carrier == "udp" else ip.TCP
        kinds = np.array(self._carriers, np.int64)
        known = self._known_flows
        while True:
            count, now = ip.unwrap(
                batch.data, found, len(found), kinds, protocol, self._ports, self._flows, known, spans, states
            )
            if not (states == ip.TOO_MANY).any() or len(self._flows) >= ip.MOST_FLOWS:
                break
            self._flows = np.concatenate([self._flows, np.zeros(len(self._flows), ip.FLOW)])
        self._known_flows = now
        for state in np.unique(states).tolist():
            if state in TROUBLE_OF_STATE:
                self._note(TROUBLE_OF_STATE[state], found[states == state], None)
        return spans[:count]

    def _learn(self, data: np.ndarray, spans: np.ndarray) -> None:
        """Settle the link and the direction of flows that are new, or of which nothing told them so far."""
        table = self._flow_table
        for number in range(self._known_flows):
            sender, receiver = ip.ends(self._flows[number])
            if number < len(table.links):
                if table.ways[number] >= 0 or self.framing.devices:
                    continue
            else:
                table.links.append(-1)
                table.ways.append(-1)
            if not self.framing.devices and self._ends.device(sender, receiver) is None:
                self._weigh(data, spans, number)
            table.links[number], table.ways[number] = self._flow_link(sender, receiver)

    def _weigh(self, data: np.ndarray, spans: np.ndarray, number: int) -> None:
        """Let some packets of a conversation that flow ``number`` belongs to tell which end is the device."""
        pair = set(ip.ends(self._flows[number]))
        same = [one for one in range(self._known_flows) if set(ip.ends(self._flows[one])) == pair]
        framing = bare(self.framing) if self._streams is not None else self.framing
        for span in spans[np.isin(spans["flow"], same)][:MOST_WEIGHED]:
            piece = Piece(data[span["start"] : span["end"]].tobytes(), int(span["wire"] - span["start"]))
            tlp = in_framing(piece, framing)
            if tlp is not None and (not framing.strict or plausible(tlp.data, tlp.wire)):
                self._ends.weigh(*ip.ends(self._flows[span["flow"]]), tlp.data)

    # -- trouble ----------------------------------------------------------------------------------------------

    def _look(self, packets: np.ndarray, wanted: np.ndarray, links: np.ndarray, source: Packets) -> None:
        """Count what is wrong with packets as such."""
        interfaces = packets["interface"]
        unknown = interfaces >= len(wanted)
        if unknown.any():
            hit = packets[unknown]
            self._request.troubles.add(
                UNDESCRIBED,
                f"packet {int(hit['number'][0])} names interface {int(hit['interface'][0])}",
                time_ps=source.last_ps, offset=int(hit["number"][0]), count=len(hit),
            )  # fmt: skip
        if not unknown.all():
            ours = np.append(wanted, True)[np.minimum(interfaces, len(wanted))]
            if not ours.all():
                self._note(OTHER_LINK, packets[~ours], None)
        far = (packets["state"] & walk.FAR) != 0
        if far.any():
            self._note(FAR_TIME, packets[far], np.append(links, -1)[np.minimum(packets["interface"][far], len(links))])
        lost = packets["dropped"] > 0
        for one in packets[lost & ~unknown] if lost.any() else ():
            source.dropped(int(one["interface"]), int(one["dropped"]))
            link = int(links[one["interface"]]) if self.framing.carrier == "packet" else -1
            self._request.troubles.add(
                DROPPED, f"before packet {one['number']}", time_ps=int(one["time_ps"]), offset=int(one["number"]),
                link=self.links[link].name if link >= 0 else None, count=int(one["dropped"]),
                until_ps=int(one["time_ps"]),
            )  # fmt: skip

    def _note(self, kind: Kind, packets: np.ndarray, links: np.ndarray | None) -> None:
        """Count a trouble of packets, by the link of each where that is known."""
        for link in [-1] if links is None else np.unique(links).tolist():
            hit = packets if links is None else packets[links == link]
            place = int(hit["number"][0])
            self._request.troubles.add(
                kind, f"packet {place}", time_ps=max(int(hit["time_ps"].min()), 0), offset=place, count=len(hit),
                link=self.links[link].name if link >= 0 else None,
                until_ps=int(hit["time_ps"].max()) if kind in _ENDING else None,
            )  # fmt: skip


def _guessed(request: Request) -> PcapReader:
    """Return a reader in the framing that a file shows, else in the likeliest of those that fit its packets."""
    try:
        return PcapReader(request)
    except CaptureError:
        fitting = [] if request.layout else guesses(first_packets(head(request.path, HEAD_BYTES)))
        if not fitting:
            raise
        return PcapReader(replace(request, layout=str(fitting[0])))


def find_tlps(request: Request) -> str:
    """Return a binding to start from: the framing, and a table for facts about each link."""
    reader = _guessed(request)
    name = request.path.name
    if reader.framing is OWN:
        lines = [f"# {name}: {reader.format}, raw TLPs; its links need no binding, only facts it does not show"]
    else:
        lines = [
            f"# {name}: {reader.format}, {reader.framing.text}; read it with",
            f"#     lmtrace check {request.words} --framing {reader.framing}",
            f"framing = {quoted(str(reader.framing))}",
        ]
    for link in reader.links:
        key = link.name if link.name.replace("-", "_").isidentifier() and link.name.isascii() else quoted(link.name)
        lines += [f"# {link.text}" if reader.framing is not OWN else "", f"[link.{key}.given]"]
    return "\n".join([*lines, ""])


def _matches(first: bytes, pcapng: bool) -> int:
    """Return how surely a file holds TLPs: by what is in it, or by being a capture of packets at all."""
    if not is_pcap(first) or (first[:4] == PCAPNG) != pcapng:
        return 0
    if any(is_own(one) for one in first_interfaces(first)):
        return CONTENT
    packets = first_packets(first)
    return CONTENT if carries_nettlp(packets) or carries_antmicro(packets) else CONTAINER


register_format(
    Format("pcapng", (".pcapng",), lambda first: _matches(first, True), PcapReader, find_tlps, layout="framing")
)
register_format(
    Format("pcap", (".pcap",), lambda first: _matches(first, False), PcapReader, find_tlps, layout="framing")
)
