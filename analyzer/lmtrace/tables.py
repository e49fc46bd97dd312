"""Every table lmtrace leaves behind: its columns, their types, and a sentence for each.

Times are integer picoseconds since the first timestamp of the capture and finer units are rounded down; the order of
things is the order of ``id``. ``<thing>_id`` is a row number of that table. ``source_offset`` counts bytes of the
uncompressed capture, or packets. In a network capture PDUs take the place of TLPs: a ``<thing>_tlp_id`` is a row of
``pdus`` there, whose ids go on where those of ``tlps`` end. A column is null where the fact does not exist or was not
seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its type (``uint16``, ``str``, ``bytes``, ``bool``, ``list[uint64]``), its meaning."""

    name: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what one row is, and its columns."""

    name: str
    text: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The column names in order."""
        return tuple(column.name for column in self.columns)

    def schema(self) -> pa.Schema:
        """Return the Arrow schema, with the schema version and the sentences in its metadata."""
        import pyarrow as pa

        plain = {"str": pa.string(), "bytes": pa.binary(), "bool": pa.bool_()}

        def arrow(name: str) -> Any:
            if name.startswith("list["):
                return pa.list_(arrow(name[5:-1]))
            return plain.get(name) or getattr(pa, name)()

        fields = [pa.field(one.name, arrow(one.type), metadata={"text": one.text}) for one in self.columns]
        return pa.schema(fields, metadata={"lmtrace.schema": str(SCHEMA_VERSION), "lmtrace.table": self.name})


def _table(name: str, text: str, columns: str) -> Table:
    """Build a table from lines of ``name type sentence``."""
    rows = (line.strip().split(None, 2) for line in columns.splitlines() if line.strip())
    return Table(name, text, tuple(Column(*row) for row in rows))


_PLACE = """
id uint64 Row number.
capture str Name of the capture file.
link str Name of the link in the capture.
"""

TLPS = _table(
    "tlps",
    "One TLP seen on a link.",
    _PLACE
    + """
time_ps int64 Start of the TLP.
end_ps int64 End of the TLP: its last beat, or the start where the capture has one time a packet.
direction str `downstream` is towards the device, `upstream` towards the host.
kind str MRd, MWr, Cpl, CplD, CfgRd0, Msg and so on.
header_dw uint8 Dwords of the header, 3 or 4; null where the bus does not carry it.
requester_id uint16 Requester, bus 15:8, device 7:3, function 2:0.
completer_id uint16 Completer of a completion, target of a configuration request.
tag uint16 Tag.
tc uint8 Traffic class.
attr uint8 Attributes: bit 2 IDO, bit 1 relaxed ordering, bit 0 no snoop.
address uint64 Address of a memory or I/O request, byte offset of a configuration request.
length_dw uint16 Length in dwords, 1 to 1024; 0 for a TLP without data.
first_be uint8 First dword byte enables of a request.
last_be uint8 Last dword byte enables of a request.
byte_count uint16 Byte count of a completion, 1 to 4096.
lower_address uint16 Lower address of a completion; above 127 where the bus shows reserved bits of its field.
status uint8 Completion status: 0 SC, 1 UR, 2 CRS, 4 CA.
message_code uint8 Code of a message.
function uint16 Function that a request was delivered to, where the bus tells; of a side-band interrupt its sender.
bar uint8 BAR that a request hit, where the bus tells.
tag_assumed bool The tag on this bus may not be the one on the wire.
requester_assumed bool The requester id was filled in by the core and is inferred.
poisoned bool The EP bit.
damaged bool The capture shows x, z or a cut inside this TLP.
payload bytes Payload in memory order, as far as it was captured; null if not kept.
payload_hash uint64 xxHash-like digest of the payload; null without payload and for one that is damaged.
role str What the TLP is for; a completion has the role of its request.
owner str Region or queue it belongs to, or the nearest region of an unrelated TLP.
request_tlp_id uint64 The request that a completion answers.
source_offset int64 Place in the uncompressed capture: byte offset, or packet number from 1.
""",
)

PDUS = _table(
    "pdus",
    "One PDU of NVMe/TCP or one message of NVMe/RDMA, and what end of a connection sent it; numbered on from `tlps`.",
    _PLACE
    + """
time_ps int64 First byte.
end_ps int64 Last byte, when it was complete.
first_packet int64 Packet with its first byte, from 1.
source_offset int64 Packet that completed it, from 1.
connection str Transport, host and target of its connection.
transport str `tcp` or `rdma`.
direction str `downstream` is towards the controller, `upstream` towards the host.
kind str CapsuleCmd, C2HData, R2T and so on; Send, Write, ReadRequest; gap, FIN, RST, no PDU.
controller uint16 CNTLID; null while not known.
sqid uint16 Queue of the connection.
transaction_id uint64 The command it belongs to.
size uint32 Bytes of it, or bytes lost in a gap.
data_bytes uint32 Bytes of data in it.
holes bool Some of its data were not recorded.
type uint8 PDU-Type.
flags uint8 FLAGS of the common header.
hlen uint8 HLEN.
pdo uint8 PDO.
plen uint32 PLEN.
header_digest str `good` or `bad`; null without one.
data_digest str `good` or `bad`; null without one.
cid uint16 Command identifier.
ttag uint16 TTAG.
offset uint32 DATAO or R2TO.
length uint32 DATAL or R2TL, bytes of an RDMA transfer.
opcode uint8 Opcode of a command.
fctype uint8 Fabrics command type.
sgl uint8 Identifier of SGL1: type 7:4, subtype 3:0.
sgl_address uint64 Address of SGL1.
sgl_length uint32 Length of SGL1.
key uint32 Key of an SGL, an RDMA transfer or an invalidation.
address uint64 Address of an RDMA transfer.
sct uint8 Status code type of a response.
sc uint8 Status code of a response.
sqhd uint16 SQ head pointer of a response.
pfv uint16 PFV of ICReq and ICResp.
pda uint8 HPDA or CPDA.
digests uint8 DGST: bit 0 header, bit 1 data.
limit uint32 MAXR2T or MAXH2CDATA.
reserved bool ICReq or ICResp has a reserved bit set.
fes uint16 FES of a TermReq.
fei uint32 FEI of a TermReq.
recfmt uint16 RECFMT of a connection request or reject.
host_receives uint16 HRQSIZE of a connection request.
host_sends uint16 HSQSIZE of a connection request.
reject uint16 STS of a connection reject.
connect_qid uint16 QID of a Connect.
connect_kato uint32 KATO of a Connect, in ms.
first bool First of its direction, on a connection whose beginning was seen.
phase str Before it: `new`, `requested` (ICReq), `ready` (ICResp), `closing` (TermReq); null while not known.
digests_due uint8 DGST that the host asked for, of an ICResp.
header_digest_due bool Header digests were agreed on.
data_digest_due bool Data digests were agreed on.
alignment uint16 What PDO must be a multiple of.
connected str Before a capsule, whether the queue was connected: `no`, `pending`, `yes`; null while not known.
capsule_limit uint32 Bytes of in-capsule data that the controller takes.
command str The CID it names: `new`, `in use`, `outstanding`, `completed`, `completed by SUCCESS`, `unknown`, `outside`.
moves str What the named command moves: `nothing`, `to device`, `from device`, `both`, `in capsule`.
offset_due uint64 Where it ought to begin.
end_due uint64 Where the buffer, or what was asked for, ends.
last_due bool Whether it ends the transfer.
after_last bool Data were said to be complete before it.
r2ts_open uint16 R2Ts of the command not served yet, this one not counted.
r2ts_allowed uint32 MAXR2T and 1.
ttag_open bool An R2T with this TTAG waits.
ttag_due uint16 TTAG of the R2T that is to be served first.
length_limit uint32 MAXH2CDATA.
flow_control bool SQ flow control is in force.
queue_size uint32 Entries of the submission queue.
bytes_left uint64 Bytes of data that the command still lacked.
last_seen bool LAST_PDU came before.
finished bool The host had shut the controller down or disconnected before.
data_damaged bool Data of the command came with a wrong digest.
fes_due uint16 FES that the error before it asks for.
after str It came after a `fatal error`, a `termination`, a `disconnect`.
idle_ps int64 Time since the last capsule of the host to this controller; since the TermReq, of FIN and RST.
keep_alive_ms uint32 Keep alive timeout in force.
key_due uint32 Key of the SGL of the command.
invalidates bool The command asked that its key be invalidated.
""",
)

TLP_TRANSACTIONS = _table(
    "tlp_transactions",
    "One link between a TLP and a transaction.",
    """
tlp_id uint64 The TLP.
transaction_id uint64 The transaction.
kind str As in `children`.
offset uint64 Offset of its first byte in the command's data, of a TLP that moves data or asks for them; null otherwise.
""",
)

TRANSACTIONS = _table(
    "transactions",
    "One NVMe command, doorbell to unmask.",
    _PLACE
    + """
controller uint16 CNTLID; null while not known.
function uint16 Function (BDF) of the controller.
epoch uint32 Count of the controller's lives on this link, from 0.
sqid uint16 Submission queue.
cqid uint16 Completion queue.
cid uint16 Command identifier.
opcode uint8 Opcode.
name str Name of the command.
nsid uint32 Namespace.
csi uint8 Command set of the namespace: 0 NVM, 1 Key Value, 2 Zoned; null while not known, and for admin commands.
psdt uint8 PRP or SGL for data transfer.
fuse uint8 Fused operation.
dptr1 uint64 Data pointer, bytes 24 to 31: PRP1.
dptr2 uint64 Data pointer, bytes 32 to 39: PRP2.
mptr uint64 Metadata pointer.
cdw0 uint32 Command dword 0: opcode, FUSE, reserved bits, PSDT, CID.
cdw2 uint32 Command dword 2.
cdw3 uint32 Command dword 3.
cdw10 uint32 Command dword 10.
cdw11 uint32 Command dword 11.
cdw12 uint32 Command dword 12.
cdw13 uint32 Command dword 13.
cdw14 uint32 Command dword 14.
cdw15 uint32 Command dword 15.
sq_slot uint16 Slot of the submission queue it was fetched from.
cq_slot uint16 Slot of the completion queue its entry was posted to.
sq_doorbell_ps int64 Tail doorbell write that exposed it.
fetch_ps int64 Memory read that fetched it.
list_fetch_ps int64 First read of its PRP list.
first_data_ps int64 First data TLP.
last_data_ps int64 Last data TLP.
cqe_ps int64 Memory write that posted its completion queue entry.
interrupt_ps int64 Interrupt after the entry.
masked_ps int64 Start of the wait when the vector was masked.
cq_doorbell_ps int64 Head doorbell write that consumed the entry.
unmask_ps int64 Unmasking of its vector.
sct uint8 Status code type.
sc uint8 Status code.
status str Name of the status.
dnr bool Do not retry.
more bool More information in the error log.
dw0 uint32 Command specific dword 0 of the entry.
dw1 uint32 Command specific dword 1 of the entry.
sqhd uint16 SQ head pointer of the entry.
phase bool Phase tag of the entry.
cqe_sqid uint16 Submission queue that the entry names.
bytes_expected uint64 Data bytes the command should move; null where not known.
bytes_to_device uint64 Data bytes seen towards the device, lists and entries not counted.
bytes_from_device uint64 Data bytes seen from the device.
outcome str `completed`, `outstanding`, `reset` or `deleted`.
data_decoded bool False where the data pointer was not decoded (reserved or vendor kinds, controller memory).
learnt str How its queue was learnt: `seen`, `inferred` or `given`.
fetch_tlp_id uint64 First TLP of the fetch.
cqe_tlp_id uint64 TLP that posted the entry.
first_tlp_id uint64 First TLP.
last_tlp_id uint64 Last TLP.
cq_slot_due uint16 Slot of the completion queue that was next when its entry was posted; null where not known.
phase_due bool Phase tag that was next, where the entry went to the slot that was; null where not known.
sqhd_in_range bool SQHD lies between the one before and the newest entry fetched; null where not known.
sqhd_past_entry bool SQHD lies behind the command's own entry; null where not known.
cid_in_use bool Another command of its queue with its identifier was outstanding when it was fetched.
""",
)

CHILDREN = _table(
    "children",
    "One event that belongs to a transaction.",
    """
id uint64 Row number.
transaction_id uint64 The transaction.
kind str `sq_doorbell`, `sqe_fetch`, `prp_list`, `sgl_segment`, `data`, `metadata`, `cqe`, `interrupt` and the like.
time_ps int64 Start.
end_ps int64 End.
address uint64 Address.
length uint64 Bytes.
first_tlp_id uint64 First TLP.
last_tlp_id uint64 Last TLP.
confidence float32 1 when seen, less when inferred.
source_offset int64 Packet of the PDU, of a network capture.
""",
)

CONTROLLERS = _table(
    "controllers",
    "One life of a controller: from enabling to its reset.",
    _PLACE
    + """
function uint16 Function (BDF).
epoch uint32 Count of lives on this link, from 0.
controller uint16 CNTLID.
bar0 uint64 Base of the controller properties.
doorbell_stride uint8 CAP.DSTRD.
page_size uint32 Memory page in bytes, of CC.MPS.
io_sqe_size uint16 Bytes of an I/O submission entry.
io_cqe_size uint16 Bytes of an I/O completion entry.
msix_table uint64 Address of the MSI-X table; null while not known.
is_virtual bool A VF by its configuration space; null while not known.
enabled_ps int64 CC.EN 0 to 1; null where it was enabled before the capture.
enabled_tlp_id uint64 TLP of it.
ended_ps int64 End of this life.
ended_by str `CC.EN cleared`, `NSSR`, `FLR`, `behaved as reset` or null at the end of the capture.
ended_tlp_id uint64 TLP of the end.
first_tlp_id uint64 First TLP.
learnt str How BAR0 was learnt: `seen`, `inferred` or `given`.
confidence float32 1 when seen.
""",
)

QUEUES = _table(
    "queues",
    "One life of a queue.",
    _PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
epoch uint32 Life of the controller.
kind str `SQ` or `CQ`.
qid uint16 Queue identifier.
base uint64 Base address (PRP1).
size uint32 Entries.
entry_size uint16 Bytes of an entry.
cqid uint16 Completion queue of an SQ.
priority uint8 QPRIO of an SQ.
vector uint16 Interrupt vector of a CQ.
interrupts bool IEN of a CQ.
contiguous bool PC.
pages list[uint64] Pages of a queue that is not contiguous.
origin str `admin`, `create`, `state data`, `inferred` or `given`.
first_head uint32 Head pointer at the start of this life.
first_tail uint32 Tail pointer at the start of this life.
first_phase bool Phase tag of the first entry, of a CQ.
created_ps int64 Start of this life.
created_tlp_id uint64 TLP that started it.
deleted_ps int64 End of this life.
deleted_tlp_id uint64 TLP that ended it.
ended_by str `delete`, `reset`, `suspend`, or null at the end of the capture.
learnt str `seen`, `inferred` or `given`.
confidence float32 1 when seen.
""",
)

REGIONS = _table(
    "regions",
    "One address region with an owner and a life time.",
    _PLACE
    + """
function uint16 Function whose address space it is in.
kind str `bar0`, `doorbells`, `msix_table`, `sq`, `cq`, `cdq`, `prp_list` and so on.
owner str Queue, CDQ or controller it belongs to.
start uint64 First byte.
end uint64 One past the last byte.
from_ps int64 Start of its life.
to_ps int64 End of its life.
learnt str `seen`, `inferred` or `given`.
confidence float32 1 when seen.
""",
)

PROPERTIES = _table(
    "properties",
    "One access of the host to a controller property.",
    _PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
epoch uint32 Life of the controller.
time_ps int64 Request.
end_ps int64 Completion of a read.
write bool A write.
offset uint32 Offset in BAR0.
name str Name of the property.
size uint8 Bytes accessed.
value uint64 Value written, or read where the completion was seen.
status uint8 Completion status of a read; null while unanswered.
tlp_id uint64 The request.
completion_tlp_id uint64 The completion.
""",
)

DOORBELLS = _table(
    "doorbells",
    "One doorbell write.",
    _PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
epoch uint32 Life of the controller.
kind str `SQ` or `CQ`.
qid uint16 Queue identifier.
value uint32 New tail or head.
time_ps int64 Time.
tlp_id uint64 The TLP.
reserved uint16 Bits 31:16 of what was written.
enabled bool The controller was enabled; null while not known.
exists bool The queue existed; null where the capture does not show every queue.
entries uint32 Entries of the queue; null while not known.
moved uint32 Entries that the tail or head moved over; null while not known.
room uint32 Entries that a tail could move over by the last SQHD; null while not known, and for heads.
""",
)

INTERRUPTS = _table(
    "interrupts",
    "One MSI or MSI-X message of a controller.",
    _PLACE
    + """
function uint16 Function (BDF) that sent it.
controller uint16 CNTLID.
vector uint16 Vector by the message's address and data; null where the table is not known.
address uint64 Address written.
data uint32 Data written.
masked bool The vector was masked when it was sent; null where the mask is not known.
time_ps int64 Time.
tlp_id uint64 The TLP.
learnt str How the table was learnt: `seen`, `inferred` or `given`.
""",
)

UNMATCHED_COMPLETIONS = _table(
    "unmatched_completions",
    "One entry posted to a completion queue that completes no command known.",
    _PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
epoch uint32 Life of the controller.
cqid uint16 Completion queue.
cq_slot uint16 Slot.
sqid uint16 Submission queue that the entry names.
cid uint16 Command that the entry names.
completed_before bool A command of that name is among the last ones of its queue, and was completed.
sqhd uint16 SQ head pointer of the entry.
phase bool Phase tag of the entry.
sct uint8 Status code type.
sc uint8 Status code.
time_ps int64 Time.
tlp_id uint64 The TLP that completed the entry.
learnt str How its queue was learnt: `seen`, `inferred` or `given`.
""",
)

COMMAND_DATA = _table(
    "command_data",
    "The data of one admin command, or the range list of an I/O command, as far as it was seen.",
    """
id uint64 Row number.
transaction_id uint64 The command.
to_device bool Direction.
size uint64 Bytes of the buffer, as far as lmtrace knows them.
data bytes The bytes from offset 0; bytes not seen are 0.
seen list[uint64] Pairs of start and end of the byte ranges seen, ascending.
""",
)

DATA_CHECKS = _table(
    "data_checks",
    "The blocks of one read, compare or retrieve that should hold something known, by the reason for it.",
    _PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
transaction_id uint64 The command that showed them.
opcode uint8 Its opcode.
csi uint8 Command set of the namespace; null while not known.
nsid uint32 Namespace.
basis str Why: `written`, `copied`, `zeroes`, `deallocated`, `uncorrectable`, or `read` the same way before.
other_function bool Another function changed them last, or read them first.
blocks uint64 Blocks that could be compared; 1 for the value of a key.
differ uint64 Blocks of them that differ.
first_lba uint64 The first block that differs, else the first.
writer_id uint64 The command that changed that block last; null where none differs.
failed bool The command is a compare that failed.
time_ps int64 Its completion.
tlp_id uint64 TLP of its completion.
learnt str `inferred` where commands may have gone unseen, else `seen`.
""",
)

CONTROLLER_STATES = _table(
    "controller_states",
    "One piece of Controller State read or set.",
    """
id uint64 Row number.
transaction_id uint64 The Get or Set Controller State command.
structure uint32 Number of the structure it is a piece of, counted in each capture.
set bool True for Set.
target uint16 CNTLID of the controller whose state it is.
sequence str SEQIND of a Set: `first`, `middle`, `last`, `only`.
offset uint64 Offset in the structure.
length uint64 Bytes moved.
csvi uint8 Version index.
csuuidi uint8 UUID index.
committed bool The Set that committed the whole structure.
ver uint16 VER of the structure assembled so far.
cp bool CSATTR.CP.
nvmecss uint64 Dwords of the NVMe part.
vss uint64 Dwords of the vendor part.
niosq uint16 I/O submission queues.
niocq uint16 I/O completion queues.
size uint64 Bytes of the whole structure by its header.
seen list[uint64] Pairs of start and end of the byte ranges known with this piece.
holes list[uint64] Pairs of start and end of the byte ranges not known yet, up to the end by the header.
overlaps list[uint64] Pairs of start and end of the byte ranges that came more than once.
changed list[uint64] Those of them whose bytes were others the next time.
data bytes The structure put together from all its pieces, of its last piece; null for the others.
""",
)

CONTROLLER_STATE_QUEUES = _table(
    "controller_state_queues",
    "One queue in a Controller State structure.",
    """
controller_state_id uint64 The structure.
kind str `SQ` or `CQ`.
qid uint16 Queue identifier.
prp1 uint64 PRP1 of its creation.
size uint32 Entries.
contiguous bool PC.
cqid uint16 Completion queue of an SQ.
priority uint8 QPRIO of an SQ.
vector uint16 Interrupt vector of a CQ.
interrupts bool IEN of a CQ.
phase bool S0PT of a CQ.
head uint16 Head pointer.
tail uint16 Tail pointer.
""",
)

CDQ_ENTRIES = _table(
    "cdq_entries",
    "One entry posted to a controller data queue.",
    _PLACE
    + """
controller uint16 CNTLID of the owner of the queue.
function uint16 Function that owns the queue.
requester_id uint16 Function that wrote the entry.
epoch uint32 Life of the owner.
cdqid uint16 Controller data queue.
target uint16 CNTLID whose changes it logs.
slot uint32 Slot.
time_ps int64 Write that completed the entry.
first_tlp_id uint64 First write.
last_tlp_id uint64 Last write.
phase_tlp_id uint64 Write that held byte 31.
nsid uint32 Namespace.
nlb uint32 Blocks, 0's based.
slba uint64 First block.
cdqp bool Phase tag.
esa uint8 Entry sequence attribute.
dlba bool Deallocated.
lbacir uint8 How the range is reported.
data bytes The entry's 32 bytes.
""",
)

CDQ_REWRITES = _table(
    "cdq_rewrites",
    "One write of a part of a data queue slot whose entry had just been posted.",
    _PLACE
    + """
controller uint16 CNTLID of the owner of the queue.
function uint16 Function that owns the queue.
requester_id uint16 Function that wrote.
epoch uint32 Life of the owner.
cdqid uint16 Controller data queue.
slot uint32 Slot.
first_byte uint8 First byte of the slot written.
size uint8 Bytes.
time_ps int64 Time.
tlp_id uint64 The write.
""",
)

DIRTY_LOG = _table(
    "dirty_log",
    "One range of blocks that the log of a controller's changes tells of or lacks, or one answer about such a log.",
    _PLACE
    + """
controller uint16 CNTLID of the owner of the queue.
function uint16 Function that owns the queue.
cdqid uint16 Controller data queue.
target uint16 CNTLID whose changes it logs.
period uint32 Times it was logged to before, in this life of the queue.
opened_by str What began the logging: `start` or `resume`.
closed_by str What ended it: `stop`, `suspend`, `full`, or `end` where that is not known.
about str `change`, `entry` of the log, its `deallocation`, its `end`, that it `resumed`, or `copy` by the host.
judgement str `logged`, `missed`, `early`, `late`, `spurious`, `copied`, `not copied`, or `unknown`.
doubtful bool The command may have changed nothing, or a later copy may be unseen.
phase str Of a change: `start` and `end` while logging began or ended, else `logging`.
cause str Name of the command.
nsid uint32 Namespace.
slba uint64 First block.
blocks uint64 Blocks; null for all from the first one on.
slot uint32 Slot of the entry.
missing uint32 Of the `end` of a log: ranges that it lacks.
reason str Why it is unknown.
time_ps int64 Completion of the command, or posting of the entry.
tlp_id uint64 TLP of it.
transaction_id uint64 The command.
cdq_entry_id uint64 The entry: of a change, the one that tells of it.
""",
)

MIGRATION_STEPS = _table(
    "migration_steps",
    "One step of a migration: a command, or a state it led to.",
    _PLACE
    + """
function uint16 Function that took the command.
target uint16 CNTLID it is about.
step str `create CDQ`, `start logging`, `suspend`, `suspended`, `get state`, `resume` and so on.
time_ps int64 Start.
end_ps int64 End; null while it lasts.
status str Status of the command.
transaction_id uint64 The command.
""",
)

MIGRATIONS = _table(
    "migrations",
    "One migration, from suspension to the end.",
    """
id uint64 Row number.
capture str Capture of the source.
link str Link of the source.
source uint16 CNTLID of the source.
destination_capture str Capture of the destination.
destination_link str Link of the destination.
destination uint16 CNTLID of the destination; the source itself for a rollback.
outcome str `resumed`, `rolled back`, `suspended` or `reset`.
suspend_ps int64 Fetch of the Suspend command.
suspended_ps int64 Its completion.
state_read_ps int64 First Get Controller State.
state_read_end_ps int64 Last completion of one.
state_set_ps int64 First Set Controller State.
committed_ps int64 Completion of the Set that committed.
resume_ps int64 Fetch of the Resume command.
resumed_ps int64 Its completion.
first_completion_ps int64 First completion queue entry of the destination after it.
last_completion_ps int64 Last completion queue entry of the source before it.
blackout_ps int64 Last completion of the source to first one of the destination; null without a common clock.
blackout_least_ps int64 Least it can have been, where the two ends have no common clock.
in_flight uint32 I/O commands of the source that were fetched and not completed when the Suspend was fetched.
drained uint32 Those of them that completed before the Suspend did.
rounds uint32 Pre-copy rounds.
queue_full uint32 Times that the data queue ran full and logging ended.
state_bytes uint64 Bytes of Controller State read.
state_set_bytes uint64 Bytes of Controller State set.
copy_read_bytes uint64 Bytes read by the managing controller of the source since tracking began.
copy_write_bytes uint64 Bytes written by the managing controller of the destination since then.
dirty_read_bytes uint64 Those of the bytes read that lie in blocks which an entry had named.
dirty_write_bytes uint64 Those of the bytes written that lie in blocks which an entry had named.
entry_bytes uint64 Bytes of data queue entries.
report_bytes uint64 Bytes of memory change reports.
suspend_transaction_id uint64 The Suspend command.
resume_transaction_id uint64 The Resume command.
read_state_id uint64 Row of `controller_states` with the state read of the source.
set_state_id uint64 Row of `controller_states` with the state set at the destination.
match str Why source and destination belong together: `bytes`, `bytes in part`, `bytes with differences`, `order`.
differing_bytes uint64 Bytes of the state that differ between what was read and what was set, CSATTR aside.
get_transaction_id uint64 The Get Controller State that completed what was set, or the last one.
set_transaction_id uint64 The Set Controller State that committed.
tracking_ps int64 Start of the memory tracking that lasted at the suspension; null where a report of it was not seen.
final_report_ps int64 Completion of the report on memory that said SUSP and had no more to tell.
source_resumed_ps int64 Completion of a Resume of the source that put none but its own state to work.
""",
)

MIGRATION_PHASES = _table(
    "migration_phases",
    "One phase of a migration; the phases that make up its blackout add up to it.",
    """
id uint64 Row number.
migration_id uint64 The migration.
phase str `announce`, `track`, `pre-copy`, `suspend drain`, `state read`, `state set`, `resume` and so on.
capture str Capture whose clock the times are of.
link str Link.
controller uint16 CNTLID it is about.
start_ps int64 Start; null for `other`, and where it began before the capture.
end_ps int64 End; null while it lasts and for `other`.
duration_ps int64 From start to end; of `other`, the time of the blackout that is in no phase.
blackout_ps int64 What of it lies in the blackout and in no later phase; null without a common clock.
commands uint32 Commands of this phase that succeeded.
refused uint32 Commands of this phase that failed.
bytes uint64 Bytes that it moved.
""",
)

PRECOPY_ROUNDS = _table(
    "precopy_rounds",
    "One round of pre-copy: up to the consumption of a part of the log, or the end of a memory change report.",
    """
id uint64 Row number.
migration_id uint64 The migration.
kind str `user data` or `memory`.
round uint32 Number within the migration and kind, from 1.
capture str Capture of the source.
link str Link.
controller uint16 CNTLID of the source.
start_ps int64 End of the round before, or when tracking began.
end_ps int64 When the head was moved, or the last report of a series came.
duration_ps int64 From start to end.
entries uint32 Entries, or descriptors of changed ranges.
dirty_bytes uint64 Bytes they name; null where an entry names a whole namespace, or the block size is not known.
dirty_rate float64 Bytes a second.
convergence float64 Dirty bytes by those of the round before; below 1 it converges.
copy_read_bytes uint64 Bytes read by the managing controller in this round.
copy_write_bytes uint64 Bytes written by it in this round; of a destination in another capture they are not known.
final bool It ended after the suspension, or the host never consumed it.
""",
)

STATE_COMPARISON = _table(
    "state_comparison",
    "One fact about a migrated controller as two witnesses tell it: read and set, or state and wire.",
    _PLACE
    + """
controller uint16 CNTLID of the controller at the end that is judged.
migration_id uint64 The migration.
comparison str `read and set`, `order of reading and setting`, `state and wire at the source`, `capability` and so on.
item str Field: `SQ 1 IOSQHP`, `VSS`, `vendor part` and so on.
first str What was read, or what the state says, or the source's capability.
second str What was set, or what the wire showed, or the destination's capability.
first_number uint64 The first value, where it is a number.
second_number uint64 The second value, where it is a number.
judgement str `equal`, `differs` or `unknown`.
reason str Why it is unknown, or what differs in detail.
first_transaction_id uint64 The command that the first value comes from.
second_transaction_id uint64 The command that the second value comes from.
""",
)

MIGRATED_COMMANDS = _table(
    "migrated_commands",
    "One I/O command that was under way or waiting when its controller was suspended, and what became of it.",
    _PLACE
    + """
controller uint16 CNTLID of the destination; the source itself for a rollback.
migration_id uint64 The migration.
sqid uint16 Submission queue.
slot uint16 Slot.
cid uint16 Command identifier; null for an entry that nobody was seen to fetch.
opcode uint8 Opcode.
name str Name of the command.
fetched_at_source bool The source fetched it; else it was rung there and only waited.
result str `completed at source`, `completed at destination`, `lost`, `doubled` or `unknown`.
cause str How it was lost or doubled, in a word.
reason str How it was lost or doubled, in a sentence.
source_transaction_id uint64 The command at the source.
destination_transaction_id uint64 The command at the destination.
""",
)

USER_DATA = _table(
    "user_data",
    "One range of blocks of a namespace that moves with its controller, and what became of it.",
    _PLACE
    + """
controller uint16 CNTLID of the destination.
migration_id uint64 The migration.
nsid uint32 Namespace.
slba uint64 First block.
blocks uint64 Blocks.
finding str `copied`, `unknown`, or what is wrong: `read before logging`, `not read again`, and so on.
reason str What is wrong, or why it is unknown, in a sentence.
change_transaction_id uint64 The last command that changed the range at the source.
cdq_entry_id uint64 The last entry of the log that names the range.
read_transaction_id uint64 The last command that read the range at the source.
write_transaction_id uint64 The last command that wrote the range at the destination.
""",
)

TRACKED_RANGES = _table(
    "tracked_ranges",
    "One memory range that a Track Send asked to be tracked.",
    _PLACE
    + """
transaction_id uint64 The Track Send command.
function uint16 Function that took it.
target uint16 CNTLID of the controller to be tracked.
number uint32 Place among the descriptors of the command, from 0.
address uint64 First byte.
length uint64 Bytes.
granularity uint64 Bytes of one unit, 4096 times a power of two.
complete bool Every byte of the structure was seen.
status str Status of the command.
from_ps int64 Completion of the Track Send; null where it was refused.
to_ps int64 End of the tracking; null while it lasts, or where it was refused.
ended_by str `stop`, `start`, `reset`, or null.
""",
)

MEMORY_REPORTS = _table(
    "memory_reports",
    "One Track Receive that succeeded, with what the writes seen on the link say about its report.",
    _PLACE
    + """
transaction_id uint64 The Track Receive command.
function uint16 Function that took it.
target uint16 CNTLID of the tracked controller.
fetch_ps int64 Fetch of the command.
time_ps int64 Its completion.
tlp_id uint64 TLP that completed it.
more bool MTR: there is more to report.
suspended bool SUSP: the controller was suspended meanwhile.
granularity uint64 Bytes of one unit.
descriptors uint32 Descriptors announced (NTMCD).
complete bool Every byte of the report was seen.
length uint64 Bytes that its ranges name, each once.
judged bool It was compared with the writes of the tracked controller, all of which were seen.
reason str Why it was not.
final bool It is the first one with SUSP 1 and MTR 0 since the controller was suspended.
pages_changed uint64 4 KiB pages of it that were written since they were reported last.
pages_repeated uint64 Pages reported again without a write in between, at the granularity of the tracking.
pages_unwritten uint64 Pages reported for the first time that were not written since the tracking began.
pages_missed uint64 Pages written before the suspension that neither this final report nor one before named.
pages_late uint64 Those of the missed ones that a later report named.
pages_eaten uint64 Those of the missed ones that waited while a Track Receive failed.
learnt str How the tracked controller's function was learnt: `seen`, `inferred` or `given`.
""",
)

MEMORY_CHANGES = _table(
    "memory_changes",
    "One descriptor of a Track Receive report.",
    _PLACE
    + """
transaction_id uint64 The Track Receive command.
target uint16 CNTLID of the tracked controller.
number uint32 Place among the descriptors of the report, from 0.
address uint64 First byte of the changed range.
length uint64 Bytes.
more bool MTR of the report.
suspended bool SUSP of the report.
time_ps int64 Completion of the command.
complete bool Every byte of the report was seen; else descriptors may be missing here.
pages_changed uint64 4 KiB pages of it that were seen written since they were reported last; null where not followed.
""",
)

MEMORY_LOG = _table(
    "memory_log",
    "One memory range where reports and writes of a tracked controller do not agree.",
    _PLACE
    + """
target uint16 CNTLID of the tracked controller.
function uint16 Its function.
judgement str `missed`, `late`, `repeated`, `unwritten`, or `unread`: written and not asked for before the end.
address uint64 First byte.
length uint64 Bytes, in units of the granularity of the tracking.
time_ps int64 When it showed: completion of the report, or end of the tracking.
transaction_id uint64 The report that shows it; null for `unread`.
written_ps int64 First write that should have been reported.
written_tlp_id uint64 Its TLP.
late_transaction_id uint64 The later report that named a part of it.
eaten_transaction_id uint64 The failed Track Receive after the write, which may have consumed it.
""",
)

VIOLATIONS = _table(
    "violations",
    "One broken rule.",
    """
id uint64 Row number.
rule str Rule.
name str Name of the rule.
severity str `error`, `warning` or `info`.
party str Who is obliged: `controller`, `host` or `both`.
capture str Name of the capture file.
link str Link.
controller uint16 CNTLID.
time_ps int64 When it broke.
message str What happened, in a sentence.
spec str Section of the specification.
fingerprint str Stable across runs: rule, controller, queue and command, never time.
waived str Reason of the waiver that covers it; null without one.
transaction_id uint64 The command.
tlp_id uint64 The TLP that shows it.
source_offset int64 Place of that TLP in the capture.
""",
)

OUTCOMES = _table(
    "outcomes",
    "One rule in this run.",
    """
rule str Rule.
name str Name of the rule.
severity str Severity of its worst broken answer, else of the rule.
outcome str `held`, `broken`, `not exercised` or `not observable`.
held uint64 Times it held.
broken uint64 Times it was broken.
not_observable uint64 Times the evidence was not in the capture.
reason str Why it could not be judged.
""",
)

TROUBLES = _table(
    "troubles",
    "One kind of thing import could not understand.",
    """
name str Kind of trouble.
capture str Name of the capture file.
severity str `info`, `data-loss` or `error`.
count uint64 How often.
first_time_ps int64 First time; null before any.
first_offset int64 First byte offset or packet; null where there is none.
text str What was seen the first time.
advice str What to do.
""",
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        TLPS, PDUS, TLP_TRANSACTIONS, TRANSACTIONS, CHILDREN, CONTROLLERS, QUEUES, REGIONS, PROPERTIES, DOORBELLS,
        INTERRUPTS, UNMATCHED_COMPLETIONS, COMMAND_DATA, DATA_CHECKS, CONTROLLER_STATES, CONTROLLER_STATE_QUEUES,
        CDQ_ENTRIES, CDQ_REWRITES, DIRTY_LOG, MIGRATION_STEPS, MIGRATIONS, MIGRATION_PHASES, PRECOPY_ROUNDS,
        STATE_COMPARISON, MIGRATED_COMMANDS, USER_DATA, TRACKED_RANGES, MEMORY_REPORTS, MEMORY_CHANGES, MEMORY_LOG,
        VIOLATIONS, OUTCOMES, TROUBLES,
    )
}  # fmt: skip
"""Every table by name."""

ROLES = (
    "config", "register", "sq_doorbell", "cq_doorbell", "sqe_fetch", "prp_list", "sgl_segment", "data", "metadata",
    "cqe", "interrupt", "msix_table", "cdq_entry", "shadow_doorbell", "cmb", "message", "unrelated", "hmb",
)  # fmt: skip
"""What a TLP may be for; the position is the code used in memory."""
