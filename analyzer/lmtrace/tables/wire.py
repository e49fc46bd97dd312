"""Tables of what crossed a link: TLPs, network packets, registers, doorbells."""

from __future__ import annotations

from lmtrace.tables.base import PLACE, table

TLPS = table(
    "tlps",
    "One TLP seen on a link.",
    PLACE
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
header_flags uint32 What else its header says, as bits of `lmtrace.spec.tlp_checks.Header`; null where none was seen.
pairing uint32 What requests and completions before it say of it, bits of `Pairing` there; null where that is not known.
permitted uint32 What configuration lets its function do at that time, as bits of `Control` there.
forbidden uint32 What configuration does not let its function do; null, as the next, where nothing of it was seen.
max_payload uint16 Max_Payload_Size in force for its function, bytes.
max_read_request uint16 Max_Read_Request_Size in force, bytes.
read_completion_boundary uint8 Read completion boundary of the root as the function was told, bytes.
source_offset int64 Place in the uncompressed capture: byte offset, or packet number from 1.
""",
)

PDUS = table(
    "pdus",
    "One PDU of NVMe/TCP or one message of NVMe/RDMA, and what end of a connection sent it; numbered on from `tlps`.",
    PLACE
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
admin_first bool Of the response to a Connect: the queue pair was asked for behind that of the admin queue it joined.
""",
)

TLP_TRANSACTIONS = table(
    "tlp_transactions",
    "One link between a TLP and a transaction.",
    """
tlp_id uint64 The TLP.
transaction_id uint64 The transaction.
kind str As in `children`.
offset uint64 Offset of its first byte in the command's data, of a TLP that moves data or asks for them; null otherwise.
""",
)

PROPERTIES = table(
    "properties",
    "One access of the host to a controller property.",
    PLACE
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
completer uint16 Completer of a read; null while unanswered, and where it is 0.
is_virtual bool The function is a VF; null where not known.
memory bool VF MSE was set, of a VF; null where not known.
before uint64 What a read of the same bytes returned before the host wrote to them, of CAP and VS; null otherwise.
reset_of uint16 VF whose reset came between the last read of RDY as 1 and this one as 0; null otherwise.
tlp_id uint64 The request.
completion_tlp_id uint64 The completion.
msix bool MSI-X was enabled; null where not known.
rung bool Of CSTS before RDY was read as 1: the tail doorbell of the admin queue had been written before.
learnt str How BAR0 of its controller was learnt: `seen`, `inferred` or `given`.
""",
)

SHADOW_ACCESSES = table(
    "shadow_accesses",
    "One access of a controller to shadow doorbells or event indices.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
epoch uint32 Life of the controller in which they were set up.
write bool A write of an event index; else a read of shadow doorbells.
kind str `SQ` or `CQ`, of the first queue that a read is about.
qid uint16 Queue identifier.
exists bool The queue existed; null where the capture does not show every queue.
in_force bool The controller was not reset since they were set up.
time_ps int64 Time.
tlp_id uint64 The TLP.
learnt str How BAR0 of its controller was learnt: `seen`, `inferred` or `given`.
""",
)

QUEUE_USES = table(
    "queue_uses",
    "One life of a queue and what became of it.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
epoch uint32 Life of the controller.
kind str `SQ` or `CQ`.
qid uint16 Queue identifier.
ended_by str `delete`, `reset`, `suspend`, or null at the end of the capture.
used_after bool Its controller took or posted the next entry after its end; null where that is not looked for.
unfetched uint32 Entries of an SQ that were passed over, or left for 1 ms; null while not known.
moved_by_request bool Of a queue in controller memory: entries were fetched or posted across the link; null elsewhere.
vector_programmed bool The vector of a CQ was in the MSI-X table when its first entry was posted; null where not known.
others_stalled bool Other CQs stood still while it was full for 1 ms and more; null where it was not, or they were idle.
time_ps int64 When it was used after its end, else the end.
tlp_id uint64 TLP of that.
learnt str `seen`, `inferred` or `given`.
""",
)

QUIET_PERIODS = table(
    "quiet_periods",
    "One period in which a controller was disabled and had said that it is not ready, and what it asked for then.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
begun_ps int64 The read that showed RDY as 0 was answered.
ended_ps int64 The controller was enabled; null at the end of the capture.
requests uint32 Memory requests of its function meanwhile.
writes uint32 Writes among them.
address uint64 Address of the first one.
time_ps int64 When that was, else the beginning.
tlp_id uint64 TLP of that.
learnt str How its function was learnt: `seen`, `inferred` or `given`.
""",
)

PMR_USES = table(
    "pmr_uses",
    "The accesses of the host to a persistent memory region while it was in one state.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
state str `disabled` by PMRCTL, `not ready` or `ready` by PMRSTS; null while not known.
reads uint32 Reads.
writes uint32 Writes.
checked uint32 Blocks of 64 bytes read that had been written before the controller was reset, and not since.
changed uint32 Those of them that had other contents.
address uint64 Address of the first block that had, else of the first access.
time_ps int64 When that was.
tlp_id uint64 TLP of that.
learnt str How its function was learnt: `seen`, `inferred` or `given`.
""",
)

FUNCTION_RESETS = table(
    "function_resets",
    "One reset of a function, and what its configuration and its completions show of it.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
how str `FLR`, or `NSSR` of the subsystem.
time_ps int64 The write that asked for it.
tlp_id uint64 TLP of that, or of what `kept` or `stale` tell.
answered bool A configuration read behind it succeeded, so that it is over.
shown uint8 Registers that were read behind it before they were written: Command, BAR0, Message Control of MSI-X.
kept str The first of them that was not reset; null where there is none.
stale uint32 Completions of requests of before it that came when it was over.
""",
)

DOORBELLS = table(
    "doorbells",
    "One doorbell write, or an access to doorbells that is none.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
epoch uint32 Life of the controller.
kind str `SQ` or `CQ`.
qid uint16 Queue identifier.
value uint32 New tail or head; null where the access tells none.
time_ps int64 Time.
tlp_id uint64 The TLP.
reserved uint16 Bits 31:16 of what was written.
enabled bool The controller was enabled; null while not known.
exists bool The queue existed; null where the capture does not show every queue.
entries uint32 Entries of the queue; null while not known.
moved uint32 Entries that the tail or head moved over; null while not known.
room uint32 Entries that a tail could move over by the last SQHD, 0 for a head that goes back; else null.
size uint16 Bytes accessed.
missing str Why there is no such queue: `never` created, `deleted`, still `creating`, or `not in the state` restored.
after_report bool An event told before of an invalid value for this queue, and the host had taken it.
read bool A read.
early_ps int64 Time from a head to the posting of the first entry that it consumed, where that came later.
shutting_down bool CC.SHN asked for a shutdown; null while CC is not known.
apart bool It begins at no doorbell, between those in use; null where that is not certain.
learnt str How BAR0 of its controller was learnt: `seen`, `inferred` or `given`.
""",
)

UNMATCHED_COMPLETIONS = table(
    "unmatched_completions",
    "One entry posted to a completion queue that completes no command known.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
epoch uint32 Life of the controller.
cqid uint16 Completion queue.
cq_slot uint16 Slot.
sqid uint16 Submission queue that the entry names.
cid uint16 Command that the entry names.
completed_before bool A command of that name is among the last ones of its queue, and was completed.
sq_deleted bool The command it names ended when its submission queue was deleted.
sqhd uint16 SQ head pointer of the entry.
phase bool Phase tag of the entry.
sct uint8 Status code type.
sc uint8 Status code.
time_ps int64 Time.
tlp_id uint64 The TLP that completed the entry.
learnt str How its queue was learnt: `seen`, `inferred` or `given`.
""",
)
