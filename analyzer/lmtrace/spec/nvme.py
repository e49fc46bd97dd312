"""NVM Express Base numbers: properties, opcodes, queue entries, Identify fields, status codes (NVMe Base 2.1)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from lmtrace.spec.layout import Layout, at, bits

SQE_SIZE = 64
CQE_SIZE = 16


class Property(IntEnum):
    """Offsets of the controller properties (3.1.4)."""

    CAP = 0x00
    VS = 0x08
    INTMS = 0x0C
    INTMC = 0x10
    CC = 0x14
    CSTS = 0x1C
    NSSR = 0x20
    AQA = 0x24
    ASQ = 0x28
    ACQ = 0x30
    CMBLOC = 0x38
    CMBSZ = 0x3C
    BPINFO = 0x40
    BPRSEL = 0x44
    BPMBL = 0x48
    CMBMSC = 0x50
    CMBSTS = 0x58
    CMBEBS = 0x5C
    CMBSWTP = 0x60
    NSSD = 0x64
    CRTO = 0x68
    PMRCAP = 0xE00
    PMRCTL = 0xE04
    PMRSTS = 0xE08
    PMREBS = 0xE0C
    PMRSWTP = 0xE10
    PMRMSCL = 0xE14
    PMRMSCU = 0xE18


WIDE_PROPERTIES = frozenset({
    Property.CAP, Property.ASQ, Property.ACQ, Property.BPMBL, Property.CMBMSC,
})  # fmt: skip
"""Properties of 64 bits; the others have 32."""

NSSR_MAGIC = 0x4E564D65
DOORBELL_BASE = 0x1000

CAP = Layout("CAP", "3.1.4.1", 8, (
    bits("MQES", 0, 15, 0), bits("CQR", 0, 16, 16), bits("AMS", 0, 18, 17), bits("TO", 0, 31, 24),
    bits("DSTRD", 0, 35, 32), bits("NSSRS", 0, 36, 36), bits("CSS", 0, 44, 37), bits("BPS", 0, 45, 45),
    bits("CPS", 0, 47, 46), bits("MPSMIN", 0, 51, 48), bits("MPSMAX", 0, 55, 52), bits("PMRS", 0, 56, 56),
    bits("CMBS", 0, 57, 57), bits("NSSS", 0, 58, 58), bits("CRMS", 0, 60, 59), bits("NSSES", 0, 61, 61),
))  # fmt: skip
CC = Layout("CC", "3.1.4.5", 4, (
    bits("EN", 0, 0, 0), bits("CSS", 0, 6, 4), bits("MPS", 0, 10, 7), bits("AMS", 0, 13, 11),
    bits("SHN", 0, 15, 14), bits("IOSQES", 0, 19, 16), bits("IOCQES", 0, 23, 20), bits("CRIME", 0, 24, 24),
))  # fmt: skip
CSTS = Layout("CSTS", "3.1.4.6", 4, (
    bits("RDY", 0, 0, 0), bits("CFS", 0, 1, 1), bits("SHST", 0, 3, 2), bits("NSSRO", 0, 4, 4),
    bits("PP", 0, 5, 5), bits("ST", 0, 6, 6),
))  # fmt: skip
AQA = Layout("AQA", "3.1.4.8", 4, (bits("ASQS", 0, 11, 0), bits("ACQS", 0, 27, 16)))


def doorbell(offset: int, stride: int = 0) -> tuple[int, bool] | None:
    """Return (queue id, is a CQ head) for a BAR0 offset, or None if no doorbell starts there.

    ``stride`` is CAP.DSTRD (NVMe over PCIe Transport 1.2, section 3.1.2).
    """
    index, rest = divmod(offset - DOORBELL_BASE, 4 << stride)
    if index < 0 or rest or index >> 1 > 0xFFFF:
        return None
    return index >> 1, bool(index & 1)


class Admin(IntEnum):
    """Opcodes of the Admin command set (Figure 141)."""

    DELETE_IO_SQ = 0x00
    CREATE_IO_SQ = 0x01
    GET_LOG_PAGE = 0x02
    DELETE_IO_CQ = 0x04
    CREATE_IO_CQ = 0x05
    IDENTIFY = 0x06
    ABORT = 0x08
    SET_FEATURES = 0x09
    GET_FEATURES = 0x0A
    ASYNC_EVENT_REQUEST = 0x0C
    NAMESPACE_MANAGEMENT = 0x0D
    FIRMWARE_COMMIT = 0x10
    FIRMWARE_IMAGE_DOWNLOAD = 0x11
    DEVICE_SELF_TEST = 0x14
    NAMESPACE_ATTACHMENT = 0x15
    KEEP_ALIVE = 0x18
    DIRECTIVE_SEND = 0x19
    DIRECTIVE_RECEIVE = 0x1A
    VIRTUALIZATION_MANAGEMENT = 0x1C
    NVME_MI_SEND = 0x1D
    NVME_MI_RECEIVE = 0x1E
    CAPACITY_MANAGEMENT = 0x20
    DISCOVERY_INFORMATION_MANAGEMENT = 0x21
    FABRIC_ZONING_RECEIVE = 0x22
    LOCKDOWN = 0x24
    FABRIC_ZONING_LOOKUP = 0x25
    CLEAR_EXPORTED_NVM_RESOURCE = 0x28
    FABRIC_ZONING_SEND = 0x29
    CREATE_EXPORTED_NVM_SUBSYSTEM = 0x2A
    MANAGE_EXPORTED_NVM_SUBSYSTEM = 0x2D
    MANAGE_EXPORTED_NAMESPACE = 0x31
    MANAGE_EXPORTED_PORT = 0x35
    SEND_DISCOVERY_LOG_PAGE = 0x39
    TRACK_SEND = 0x3D
    TRACK_RECEIVE = 0x3E
    MIGRATION_SEND = 0x41
    MIGRATION_RECEIVE = 0x42
    CONTROLLER_DATA_QUEUE = 0x45
    DOORBELL_BUFFER_CONFIG = 0x7C
    FABRICS = 0x7F
    FORMAT_NVM = 0x80
    SECURITY_SEND = 0x81
    SECURITY_RECEIVE = 0x82
    SANITIZE = 0x84
    LOAD_PROGRAM = 0x85
    GET_LBA_STATUS = 0x86
    PROGRAM_ACTIVATION_MANAGEMENT = 0x88
    MEMORY_RANGE_SET_MANAGEMENT = 0x89


class Nvm(IntEnum):
    """Opcodes of the NVM, Zoned Namespace and shared I/O commands."""

    FLUSH = 0x00
    WRITE = 0x01
    READ = 0x02
    WRITE_UNCORRECTABLE = 0x04
    COMPARE = 0x05
    WRITE_ZEROES = 0x08
    DATASET_MANAGEMENT = 0x09
    VERIFY = 0x0C
    RESERVATION_REGISTER = 0x0D
    RESERVATION_REPORT = 0x0E
    RESERVATION_ACQUIRE = 0x11
    IO_MANAGEMENT_RECEIVE = 0x12
    RESERVATION_RELEASE = 0x15
    CANCEL = 0x18
    COPY = 0x19
    IO_MANAGEMENT_SEND = 0x1D
    ZONE_MANAGEMENT_SEND = 0x79
    ZONE_MANAGEMENT_RECEIVE = 0x7A
    ZONE_APPEND = 0x7D


class KeyValue(IntEnum):
    """Opcodes of the Key Value command set that mean something else, or nothing, in the NVM command set."""

    STORE = 0x01
    RETRIEVE = 0x02
    LIST = 0x06
    DELETE = 0x10
    EXIST = 0x14


class CommandSet(IntEnum):
    """Command Set Identifiers (CSI, Figure 311)."""

    NVM = 0
    KEY_VALUE = 1
    ZONED = 2
    SUBSYSTEM_LOCAL_MEMORY = 3
    COMPUTATIONAL = 4


_NAMES = {
    "io": "I/O", "sq": "SQ", "cq": "CQ", "nvme": "NVMe", "mi": "MI", "lba": "LBA", "nvm": "NVM",
    "event": "Event", "async": "Asynchronous",
}  # fmt: skip


def command_name(sqid: int, opcode: int, csi: int = CommandSet.NVM) -> str:
    """Return a command's name; vendor and unknown opcodes are named by their number."""
    try:
        if sqid and csi == CommandSet.KEY_VALUE and opcode in KeyValue._value2member_map_:
            word = KeyValue(opcode).name
        else:
            word = (Admin(opcode) if sqid == 0 else Nvm(opcode)).name
    except ValueError:
        kind = "Vendor" if opcode >= 0xC0 or (sqid and opcode >= 0x80) else "Unknown"
        return f"{kind} {opcode:02X}h"
    return " ".join(_NAMES.get(part, part.capitalize()) for part in word.lower().split("_"))


SQE = Layout("Submission Queue Entry", "4.1.1", 64, (
    at("OPC", 0, 0), bits("FUSE", 1, 1, 0), bits("PSDT", 1, 7, 6), at("CID", 3, 2), at("NSID", 7, 4),
    at("CDW2", 11, 8), at("CDW3", 15, 12), at("MPTR", 23, 16), at("PRP1", 31, 24), at("PRP2", 39, 32),
    at("CDW10", 43, 40), at("CDW11", 47, 44), at("CDW12", 51, 48), at("CDW13", 55, 52), at("CDW14", 59, 56),
    at("CDW15", 63, 60),
))  # fmt: skip
CQE = Layout("Completion Queue Entry", "4.2.1", 16, (
    at("DW0", 3, 0), at("DW1", 7, 4), at("SQHD", 9, 8), at("SQID", 11, 10), at("CID", 13, 12),
    bits("P", 14, 0, 0), bits("SC", 14, 8, 1), bits("SCT", 14, 11, 9), bits("CRD", 14, 13, 12),
    bits("M", 14, 14, 14), bits("DNR", 14, 15, 15),
))  # fmt: skip

IDENTIFY_CONTROLLER = Layout("Identify Controller", "5.1.13.2.1", 4096, (
    at("VID", 1, 0), at("SSVID", 3, 2), at("SN", 23, 4), at("MN", 63, 24), at("FR", 71, 64), at("CMIC", 76, 76),
    at("MDTS", 77, 77), at("CNTLID", 79, 78), at("VER", 83, 80), at("RTD3E", 91, 88), at("OAES", 95, 92),
    at("CTRATT", 99, 96), at("CNTRLTYPE", 111, 111), at("OACS", 257, 256), at("ACL", 258, 258),
    at("AERL", 259, 259), at("FRMW", 260, 260), at("LPA", 261, 261), at("ELPE", 262, 262), at("NPSS", 263, 263),
    at("MTFA", 271, 270), at("HMPRE", 275, 272), at("HMMIN", 279, 276), at("TNVMCAP", 295, 280), at("KAS", 321, 320),
    at("SQES", 512, 512), at("CQES", 513, 513),
    at("MAXCMD", 515, 514), at("NN", 519, 516), at("ONCS", 521, 520), at("FUSES", 523, 522), at("VWC", 525, 525),
    at("SGLS", 539, 536), at("MNAN", 543, 540), at("CMMRTD", 571, 570), at("NMMRTD", 573, 572),
    at("MINMRTG", 574, 574), at("MAXMRTG", 575, 575), at("TRATTR", 576, 576), at("MCUDMQ", 579, 578),
    at("MNSUDMQ", 581, 580), at("MCMR", 583, 582), at("NMCMR", 585, 584), at("MCDQPC", 587, 586),
))  # fmt: skip
"""The fields lmtrace reads; gaps between them hold fields it does not, so ``reserved_bits`` means nothing here."""

KEY_VALUE_NAMESPACE = Layout("Key Value Identify Namespace", "KV 1.1, 4.1.5.1", 4096, (
    at("NSZE", 7, 0), at("NUSE", 23, 16), at("NSFEAT", 24, 24), at("NKVF", 25, 25), bits("KVFC", 29, 3, 0),
))  # fmt: skip
KEY_VALUE_FORMATS = 72
"""Where the first of the formats of a Key Value namespace is told."""
KEY_VALUE_FORMAT = Layout("Key Value Format", "KV 1.1, 4.1.5.1", 16, (
    at("KVKML", 1, 0), at("KVVML", 7, 4), at("MNKS", 11, 8),
))  # fmt: skip

SUBNQN = slice(768, 1024)
OACS_HMLMS = 1 << 11
SECONDARY_OFFLINE = 7
"""ACT of Virtualization Management that takes a secondary controller offline."""


class Cns(IntEnum):
    """CNS values of Identify (Figure 310)."""

    NAMESPACE = 0x00
    CONTROLLER = 0x01
    ACTIVE_NAMESPACES = 0x02
    NAMESPACE_DESCRIPTORS = 0x03
    NVM_SETS = 0x04
    IO_NAMESPACE = 0x05
    IO_CONTROLLER = 0x06
    IO_ACTIVE_NAMESPACES = 0x07
    INDEPENDENT_NAMESPACE = 0x08
    ALLOCATED_NAMESPACES = 0x10
    ALLOCATED_NAMESPACE = 0x11
    ATTACHED_CONTROLLERS = 0x12
    CONTROLLER_LIST = 0x13
    PRIMARY_CONTROLLER = 0x14
    SECONDARY_CONTROLLERS = 0x15
    IO_ALLOCATED_NAMESPACES = 0x1A
    IO_COMMAND_SETS = 0x1C
    CONTROLLER_STATE_FORMATS = 0x20


class Feature(IntEnum):
    """Feature identifiers lmtrace names (Figure 385)."""

    ARBITRATION = 0x01
    POWER_MANAGEMENT = 0x02
    LBA_RANGE_TYPE = 0x03
    TEMPERATURE_THRESHOLD = 0x04
    ERROR_RECOVERY = 0x05
    VOLATILE_WRITE_CACHE = 0x06
    NUMBER_OF_QUEUES = 0x07
    INTERRUPT_COALESCING = 0x08
    INTERRUPT_VECTOR_CONFIGURATION = 0x09
    WRITE_ATOMICITY = 0x0A
    ASYNC_EVENT_CONFIGURATION = 0x0B
    AUTONOMOUS_POWER_STATES = 0x0C
    HOST_MEMORY_BUFFER = 0x0D
    TIMESTAMP = 0x0E
    KEEP_ALIVE_TIMER = 0x0F
    HOST_THERMAL_MANAGEMENT = 0x10
    NON_OPERATIONAL_POWER_STATES = 0x11
    HOST_BEHAVIOR_SUPPORT = 0x16
    KEY_VALUE_CONFIGURATION = 0x20
    CONTROLLER_DATA_QUEUE = 0x21
    SOFTWARE_PROGRESS_MARKER = 0x80
    HOST_IDENTIFIER = 0x81
    RESERVATION_NOTIFICATION_MASK = 0x82
    NAMESPACE_WRITE_PROTECTION = 0x84
    BOOT_PARTITION_PROTECTION = 0x85


class Status(NamedTuple):
    """A completion's status: status code type and status code (4.2.3)."""

    sct: int
    sc: int

    def __str__(self) -> str:
        return f"{self.sct}/{self.sc:02X}h"

    @property
    def name(self) -> str:
        """The status code's name, or its numbers when the specification has none."""
        return STATUS_NAMES.get((self.sct, self.sc), "Vendor specific" if self.sct == 7 else f"Status {self}")

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.sct == 0 and self.sc == 0

    @classmethod
    def parse(cls, text: str) -> Status:
        """Return the status written as ``1/3Ah``; raises ValueError for text of another form."""
        sct, slash, sc = text.partition("/")
        if not slash:
            raise ValueError(f"{text!r} is not a status like 1/3Ah")
        return cls(int(sct, 16), int(sc.rstrip("hH"), 16))


SUCCESS = Status(0, 0x00)
INVALID_OPCODE = Status(0, 0x01)
INVALID_FIELD = Status(0, 0x02)
INVALID_NAMESPACE = Status(0, 0x0B)
COMMAND_SEQUENCE_ERROR = Status(0, 0x0C)
PRP_OFFSET_INVALID = Status(0, 0x13)
KEEP_ALIVE_TIMEOUT_INVALID = Status(0, 0x1A)
SANITIZE_IN_PROGRESS = Status(0, 0x1D)
COMMAND_PROHIBITED = Status(0, 0x23)
CAPACITY_EXCEEDED = Status(0, 0x81)
FORMAT_IN_PROGRESS = Status(0, 0x84)
INVALID_VALUE_SIZE = Status(0, 0x85)
INVALID_KEY_SIZE = Status(0, 0x86)
KEY_DOES_NOT_EXIST = Status(0, 0x87)
KEY_EXISTS = Status(0, 0x89)
ABORT_REQUESTED = Status(0, 0x07)
ABORTED_BY_DELETION = Status(0, 0x08)
ABORT_LIMIT_EXCEEDED = Status(1, 0x03)
EVENT_REQUEST_LIMIT_EXCEEDED = Status(1, 0x05)
INVALID_FIRMWARE_SLOT = Status(1, 0x06)
INVALID_FORMAT = Status(1, 0x0A)
OVERLAPPING_RANGE = Status(1, 0x14)
INSUFFICIENT_CAPACITY = Status(1, 0x15)
ALREADY_ATTACHED = Status(1, 0x18)
NOT_ATTACHED = Status(1, 0x1A)
CONTROLLER_LIST_INVALID = Status(1, 0x1C)
SELF_TEST_IN_PROGRESS = Status(1, 0x1D)
BOOT_PARTITION_PROHIBITED = Status(1, 0x1E)
SANITIZE_PROHIBITED_BY_PMR = Status(1, 0x23)
INVALID_LOG_PAGE = Status(1, 0x09)
FEATURE_NOT_SAVEABLE = Status(1, 0x0D)
FEATURE_NOT_CHANGEABLE = Status(1, 0x0E)
FEATURE_NOT_NAMESPACE_SPECIFIC = Status(1, 0x0F)
INVALID_CONTROLLER_IDENTIFIER = Status(1, 0x1F)
INVALID_CONTROLLER_DATA_QUEUE = Status(1, 0x37)
NOT_ENOUGH_RESOURCES = Status(1, 0x38)
CONTROLLER_SUSPENDED = Status(1, 0x39)
CONTROLLER_NOT_SUSPENDED = Status(1, 0x3A)
CONTROLLER_DATA_QUEUE_FULL = Status(1, 0x3B)


def _named(sct: int, text: str) -> dict[tuple[int, int], str]:
    pairs = (part.strip().split(" ", 1) for part in text.split("·"))
    return {(sct, int(code, 16)): name.strip() for code, name in pairs}


STATUS_NAMES: dict[tuple[int, int], str] = {
    **_named(0, """00 Successful Completion · 01 Invalid Command Opcode · 02 Invalid Field in Command
        · 03 Command ID Conflict · 04 Data Transfer Error · 05 Aborted due to Power Loss Notification
        · 06 Internal Error · 07 Command Abort Requested · 08 Aborted due to SQ Deletion
        · 09 Aborted due to Failed Fused Command · 0A Aborted due to Missing Fused Command
        · 0B Invalid Namespace or Format · 0C Command Sequence Error · 0D Invalid SGL Segment Descriptor
        · 0E Invalid Number of SGL Descriptors · 0F Data SGL Length Invalid · 10 Metadata SGL Length Invalid
        · 11 SGL Descriptor Type Invalid · 12 Invalid Use of Controller Memory Buffer · 13 PRP Offset Invalid
        · 14 Atomic Write Unit Exceeded · 15 Operation Denied · 16 SGL Offset Invalid
        · 18 Host Identifier Inconsistent Format · 19 Keep Alive Timer Expired · 1A Keep Alive Timeout Invalid
        · 1B Aborted due to Preempt and Abort · 1C Sanitize Failed · 1D Sanitize In Progress
        · 1E SGL Data Block Granularity Invalid · 1F Command Not Supported for Queue in CMB
        · 20 Namespace is Write Protected · 21 Command Interrupted · 22 Transient Transport Error
        · 23 Command Prohibited by Command and Feature Lockdown · 24 Admin Command Media Not Ready
        · 25 Invalid Key Tag · 26 Host Dispersed Namespace Support Not Enabled · 27 Host Identifier Not Initialized
        · 28 Incorrect Key · 29 FDP Disabled · 2A Invalid Placement Handle List · 80 LBA Out of Range
        · 81 Capacity Exceeded · 82 Namespace Not Ready · 83 Reservation Conflict · 84 Format In Progress
        · 85 Invalid Value Size · 86 Invalid Key Size · 87 KV Key Does Not Exist · 88 Unrecovered Error
        · 89 Key Exists"""),
    **_named(1, """00 Completion Queue Invalid · 01 Invalid Queue Identifier · 02 Invalid Queue Size
        · 03 Abort Command Limit Exceeded · 05 Asynchronous Event Request Limit Exceeded
        · 06 Invalid Firmware Slot · 07 Invalid Firmware Image · 08 Invalid Interrupt Vector · 09 Invalid Log Page
        · 0A Invalid Format · 0B Firmware Activation Requires Conventional Reset · 0C Invalid Queue Deletion
        · 0D Feature Identifier Not Saveable · 0E Feature Not Changeable · 0F Feature Not Namespace Specific
        · 10 Firmware Activation Requires NVM Subsystem Reset
        · 11 Firmware Activation Requires Controller Level Reset
        · 12 Firmware Activation Requires Maximum Time Violation · 13 Firmware Activation Prohibited
        · 14 Overlapping Range · 15 Namespace Insufficient Capacity · 16 Namespace Identifier Unavailable
        · 18 Namespace Already Attached · 19 Namespace Is Private · 1A Namespace Not Attached
        · 1B Thin Provisioning Not Supported · 1C Controller List Invalid · 1D Device Self-test In Progress
        · 1E Boot Partition Write Prohibited · 1F Invalid Controller Identifier
        · 20 Invalid Secondary Controller State · 21 Invalid Number of Controller Resources
        · 22 Invalid Resource Identifier · 23 Sanitize Prohibited While PMR is Enabled
        · 24 ANA Group Identifier Invalid · 25 ANA Attach Failed · 26 Insufficient Capacity
        · 27 Namespace Attachment Limit Exceeded · 28 Prohibition of Command Execution Not Supported
        · 29 I/O Command Set Not Supported · 2A I/O Command Set Not Enabled
        · 2B I/O Command Set Combination Rejected · 2C Invalid I/O Command Set · 2D Identifier Unavailable
        · 2E Namespace Is Dispersed · 2F Invalid Discovery Information · 30 Zoning Data Structure Locked
        · 31 Zoning Data Structure Not Found · 32 Insufficient Discovery Resources · 33 Requested Function Disabled
        · 34 ZoneGroup Originator Invalid · 35 Invalid Host · 36 Invalid NVM Subsystem
        · 37 Invalid Controller Data Queue · 38 Not Enough Resources · 39 Controller Suspended
        · 3A Controller Not Suspended · 3B Controller Data Queue Full · 80 Conflicting Attributes
        · 81 Invalid Protection Information · 82 Attempted Write to Read Only Range
        · 83 Command Size Limit Exceeded · 84 Invalid Command ID · 85 Incompatible Namespace or Format
        · 86 Fast Copy Not Possible · 87 Overlapping I/O Range · 88 Namespace Not Reachable
        · 89 Insufficient Resources · B6 Invalid Zone Operation Request · B7 Zone Random Write Area Unavailable
        · B8 Zone Boundary Error · B9 Zone Is Full · BA Zone Is Read Only · BB Zone Is Offline
        · BC Zone Invalid Write · BD Too Many Active Zones · BE Too Many Open Zones
        · BF Invalid Zone State Transition"""),
    **_named(2, """80 Write Fault · 81 Unrecovered Read Error · 82 End-to-end Guard Check Error
        · 83 End-to-end Application Tag Check Error · 84 End-to-end Reference Tag Check Error
        · 85 Compare Failure · 86 Access Denied · 87 Deallocated or Unwritten Logical Block
        · 88 End-to-end Storage Tag Check Error"""),
    **_named(3, """00 Internal Path Error · 01 Asymmetric Access Persistent Loss
        · 02 Asymmetric Access Inaccessible · 03 Asymmetric Access Transition · 60 Controller Pathing Error
        · 70 Host Pathing Error · 71 Command Aborted By Host"""),
}  # fmt: skip
