"""NVMe over Fabrics numbers: Fabrics commands, NVMe/TCP PDUs, RoCE packets (NVMe Base 2.1, 6; TCP 1.1; RDMA 1.1)."""

from __future__ import annotations

from enum import IntEnum

from lmtrace.spec.layout import Layout, at, bits
from lmtrace.spec.nvme import CAP, CC, CSTS, Property, Status, command_name

FABRICS_OPCODE = 0x7F
TCP_PORTS = (4420, 8009)
"""Ports of NVMe/TCP: I/O and discovery controllers, and the discovery default (TCP 3.1.2)."""
DISCOVERY_PORT = 8009
DISCOVERY_NQN = b"nqn.2014-08.org.nvmexpress.discovery"
ROCE_PORT = 4791
DYNAMIC_CNTLID, STATIC_CNTLID = 0xFFFF, 0xFFFE
MOST_CNTLID = 0xFFEF
MOST_NQN = 223
CONNECT_DATA_SIZE = 1024
IN_CAPSULE_ADMIN = 8192
"""Bytes of in-capsule data that every NVMe/TCP controller takes on admin queues and with Fabrics commands."""


class Fctype(IntEnum):
    """Fabrics command types, byte 4 of the entry (6.1)."""

    PROPERTY_SET = 0x00
    CONNECT = 0x01
    PROPERTY_GET = 0x04
    AUTHENTICATION_SEND = 0x05
    AUTHENTICATION_RECEIVE = 0x06
    DISCONNECT = 0x08


_HEAD = (at("OPC", 0, 0), bits("PSDT", 1, 7, 6), at("CID", 3, 2), at("FCTYPE", 4, 4))
_SGL = at("SGL1", 39, 24)
_NO_SGL = at("SGL1", 39, 24, used=False)
CONNECT = Layout("Connect", "6.3", 64, (
    *_HEAD, _SGL, at("RECFMT", 41, 40), at("QID", 43, 42), at("SQSIZE", 45, 44), bits("PRIO", 46, 1, 0),
    bits("DISABLE_SQ_FLOW_CONTROL", 46, 2, 2), bits("IOQD", 46, 3, 3), at("KATO", 51, 48),
))  # fmt: skip
PROPERTY_SET = Layout("Property Set", "6.6", 64, (
    *_HEAD, _NO_SGL, bits("ATTRIB", 40, 2, 0), at("OFST", 47, 44), at("VALUE", 55, 48),
))  # fmt: skip
PROPERTY_GET = Layout("Property Get", "6.5", 64, (*_HEAD, _NO_SGL, bits("ATTRIB", 40, 2, 0), at("OFST", 47, 44)))
DISCONNECT = Layout("Disconnect", "6.4", 64, (*_HEAD, _NO_SGL, at("RECFMT", 41, 40)))
FABRICS_LAYOUTS: dict[int, Layout] = {
    Fctype.CONNECT: CONNECT, Fctype.PROPERTY_SET: PROPERTY_SET, Fctype.PROPERTY_GET: PROPERTY_GET,
    Fctype.DISCONNECT: DISCONNECT,
}  # fmt: skip
"""The layouts of the Fabrics commands whose fields are judged; authentication is opaque."""

CONNECT_DATA = Layout("Connect data", "6.3", 1024, (
    at("HOSTID", 15, 0), at("CNTLID", 17, 16), at("SUBNQN", 511, 256), at("HOSTNQN", 767, 512),
))  # fmt: skip
CONNECT_RESULT = Layout("Connect result", "6.3", 4, (
    bits("CNTLID", 0, 15, 0), bits("ATR", 0, 17, 17), bits("ASCR", 0, 18, 18),
))  # fmt: skip
CONNECT_INVALID = Layout("Connect invalid parameters", "6.3", 4, (bits("IPO", 0, 15, 0), bits("IATTR", 0, 16, 16)))

INCOMPATIBLE_FORMAT = Status(1, 0x80)
CONTROLLER_BUSY = Status(1, 0x81)
INVALID_PARAMETERS = Status(1, 0x82)
RESTART_DISCOVERY = Status(1, 0x83)
INVALID_HOST = Status(1, 0x84)
INVALID_QUEUE_TYPE = Status(1, 0x85)
DISCOVER_RESTART = Status(1, 0x90)
AUTHENTICATION_REQUIRED = Status(1, 0x91)
CONNECT_STATUS = (INCOMPATIBLE_FORMAT, CONTROLLER_BUSY, INVALID_PARAMETERS, RESTART_DISCOVERY, INVALID_HOST)
TRANSIENT_TRANSPORT_ERROR = Status(0, 0x22)
SGL_TYPE_INVALID = Status(0, 0x11)

FABRICS_STATUS_NAMES: dict[tuple[int, int], str] = {
    (1, 0x80): "Connect Incompatible Format", (1, 0x81): "Connect Controller Busy",
    (1, 0x82): "Connect Invalid Parameters", (1, 0x83): "Connect Restart Discovery",
    (1, 0x84): "Connect Invalid Host", (1, 0x85): "Invalid Queue Type", (1, 0x90): "Discover Restart",
    (1, 0x91): "Authentication Required",
}  # fmt: skip
"""Command specific status codes as the Fabrics commands mean them; other commands give 80h and on other names."""


def status_name(opcode: int, status: Status) -> str:
    """Return the name of a status as the command of an opcode means it."""
    own = FABRICS_STATUS_NAMES.get(status) if opcode == FABRICS_OPCODE else None
    return own or status.name


FABRICS_PROPERTIES: dict[int, int] = {
    Property.CAP: 8, Property.VS: 4, Property.CC: 4, Property.CSTS: 4, Property.NSSR: 4, Property.NSSD: 4,
    Property.CRTO: 4,
}  # fmt: skip
"""Properties that exist over fabrics, and their bytes (3.1.4)."""
WRITABLE_PROPERTIES = frozenset({Property.CC, Property.NSSR, Property.NSSD})
PROPERTY_LAYOUTS: dict[int, Layout] = {Property.CAP: CAP, Property.CC: CC, Property.CSTS: CSTS}


def is_fabrics(opcode: int) -> bool:
    """Whether an opcode is that of the Fabrics commands, on any queue."""
    return opcode == FABRICS_OPCODE


def fabrics_name(fctype: int) -> str:
    """Return the name of a Fabrics command; an unknown one is named by its number."""
    try:
        return " ".join(part.capitalize() for part in Fctype(fctype).name.split("_"))
    except ValueError:
        return f"{'Vendor' if fctype >= 0xC0 else 'Unknown'} Fabrics {fctype:02X}h"


def name_of(sqid: int, opcode: int, fctype: int) -> str:
    """Return the name of a command of a fabrics queue."""
    return fabrics_name(fctype) if is_fabrics(opcode) else command_name(sqid, opcode)


class Pdu(IntEnum):
    """Types of NVMe/TCP PDUs (TCP 3.6.1)."""

    ICREQ = 0x00
    ICRESP = 0x01
    H2C_TERM_REQ = 0x02
    C2H_TERM_REQ = 0x03
    CAPSULE_CMD = 0x04
    CAPSULE_RESP = 0x05
    H2C_DATA = 0x06
    C2H_DATA = 0x07
    R2T = 0x09


PDU_NAMES: dict[int, str] = {
    0: "ICReq", 1: "ICResp", 2: "H2CTermReq", 3: "C2HTermReq", 4: "CapsuleCmd", 5: "CapsuleResp", 6: "H2CData",
    7: "C2HData", 9: "R2T",
}  # fmt: skip
HEADER_BYTES: dict[int, int] = {0: 128, 1: 128, 2: 24, 3: 24, 4: 72, 5: 24, 6: 24, 7: 24, 9: 24}
"""HLEN by type of PDU."""
WITHOUT_DIGEST = frozenset({Pdu.ICREQ, Pdu.ICRESP, Pdu.H2C_TERM_REQ, Pdu.C2H_TERM_REQ})
WITH_DATA = frozenset({Pdu.H2C_TERM_REQ, Pdu.C2H_TERM_REQ, Pdu.CAPSULE_CMD, Pdu.H2C_DATA, Pdu.C2H_DATA})
COMMON_HEADER = 8
DIGEST_SIZE = 4
HDGSTF, DDGSTF, LAST_PDU, SUCCESS_FLAG = 1, 2, 4, 8
MOST_DATA_OFFSET = 128
MOST_TERM_REQ = 152
LEAST_MAXH2CDATA = 4096

IC = Layout("ICReq, ICResp", "TCP 3.6.2.2, 3.6.2.3", 128, (
    at("TYPE", 0, 0), at("FLAGS", 1, 1), at("HLEN", 2, 2), at("PDO", 3, 3), at("PLEN", 7, 4), at("PFV", 9, 8),
    at("PDA", 10, 10), bits("HDGST", 11, 0, 0), bits("DDGST", 11, 1, 1), at("LIMIT", 15, 12),
))  # fmt: skip
"""Both initialisation PDUs: PDA is HPDA or CPDA, LIMIT is MAXR2T or MAXH2CDATA."""


class FatalError(IntEnum):
    """Fatal Error Status of a TermReq (TCP 3.6.2.4)."""

    INVALID_HEADER_FIELD = 1
    SEQUENCE_ERROR = 2
    HEADER_DIGEST_ERROR = 3
    OUT_OF_RANGE = 4
    LIMIT_EXCEEDED = 5
    UNSUPPORTED_PARAMETER = 6


SGL_OFFSET, SGL_TRANSPORT, SGL_KEYED, SGL_KEYED_INVALIDATE = 0x01, 0x5A, 0x40, 0x4F
"""SGL identifiers (byte 15 of a descriptor): in-capsule data, transport data block, keyed data block with and
without invalidation of its key."""
SGL_ADDRESS = 0x00

CRC32C_POLYNOMIAL = 0x82F63B78
"""Castagnoli, reflected (RFC 3720, 12.1)."""


class Bth(IntEnum):
    """Reliable-connection opcodes of the RoCE base transport header (InfiniBand 1.4, 9.2)."""

    SEND_FIRST = 0x00
    SEND_MIDDLE = 0x01
    SEND_LAST = 0x02
    SEND_LAST_IMM = 0x03
    SEND_ONLY = 0x04
    SEND_ONLY_IMM = 0x05
    WRITE_FIRST = 0x06
    WRITE_MIDDLE = 0x07
    WRITE_LAST = 0x08
    WRITE_LAST_IMM = 0x09
    WRITE_ONLY = 0x0A
    WRITE_ONLY_IMM = 0x0B
    READ_REQUEST = 0x0C
    READ_RESPONSE_FIRST = 0x0D
    READ_RESPONSE_MIDDLE = 0x0E
    READ_RESPONSE_LAST = 0x0F
    READ_RESPONSE_ONLY = 0x10
    ACKNOWLEDGE = 0x11
    ATOMIC_ACKNOWLEDGE = 0x12
    COMPARE_SWAP = 0x13
    FETCH_ADD = 0x14
    SEND_LAST_INV = 0x16
    SEND_ONLY_INV = 0x17
    UD_SEND_ONLY = 0x64


BTH_SIZE, RETH_SIZE, AETH_SIZE, DETH_SIZE, IMM_SIZE, IETH_SIZE, ICRC_SIZE = 12, 16, 4, 8, 4, 4, 4
MAD_SIZE, MAD_HEADER = 256, 24
CM_CLASS = 0x07
CM_PRIVATE_HEADER = 36
"""Bytes of the IP addressing header before the private data of a connection request (InfiniBand annex A11)."""


class Cm(IntEnum):
    """Attributes of communication management datagrams (InfiniBand 1.4, 12.6)."""

    REQUEST = 0x10
    REJECT = 0x12
    REPLY = 0x13
    READY = 0x14
    DISCONNECT_REQUEST = 0x15
    DISCONNECT_REPLY = 0x16


CONSUMER_REJECT = 28
"""Reason of a reject that the consumer, here the controller, asked for."""

RDMA_REQUEST = Layout("RDMA_CM_REQUEST private data", "RDMA 3.1", 32, (
    at("RECFMT", 1, 0), at("QID", 3, 2), at("HRQSIZE", 5, 4), at("HSQSIZE", 7, 6), at("CNTLID", 9, 8),
))  # fmt: skip
RDMA_ACCEPT = Layout("RDMA_CM_ACCEPT private data", "RDMA 3.1", 32, (at("RECFMT", 1, 0), at("CRQSIZE", 3, 2)))
RDMA_REJECT = Layout("RDMA_CM_REJECT private data", "RDMA 3.1", 4, (at("RECFMT", 1, 0), at("STS", 3, 2)))

PDU_KINDS: tuple[str, ...] = (
    "unknown", *(PDU_NAMES.get(number, f"reserved {number:02X}h") for number in range(10)),
    "reserved type", "gap", "no PDU", "SYN", "FIN", "RST",
    "ConnectRequest", "ConnectReply", "ConnectReject", "ConnectReady", "DisconnectRequest",
    "Send", "SendInvalidate", "ReadRequest", "ReadResponse", "Write", "WriteImmediate", "Atomic",
)  # fmt: skip
"""What one row of ``pdus`` may be; the position is the code used in memory. The code of a PDU is its type and 1."""

KIND = {name: number for number, name in enumerate(PDU_KINDS)}
