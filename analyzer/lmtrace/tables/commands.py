"""Tables of commands, what belongs to them, and where they live: controllers, queues, regions."""

from __future__ import annotations

from lmtrace.tables.base import PLACE, table

TRANSACTIONS = table(
    "transactions",
    "One NVMe command, doorbell to unmask.",
    PLACE
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
reads_refused bool A read of its data was answered with an error.
reads_poisoned bool A read of its entry, list or data was answered with poisoned data.
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
asymmetric bool The controller reports asymmetric namespace access (CMIC); null while not known.
reservations bool The controller supports reservations (ONCS); null while not known.
buffer_overlaps str `buffer` of another read, or `queue`, that its buffer overlaps; null where none was found.
interrupt_due str `MSI-X` or `MSI` where a message had to follow its entry; null where it had not, or not known.
interrupt_wait_ps int64 How long that was due: until it came, the entry was consumed, or the queue ended.
early_interrupt_ps int64 A message of its vector before its entry, with nothing to announce, where none came behind it.
fetch_aligned bool It was not fetched by a read of whole entries that begins within one; null where not known.
fetch_inside bool It was not fetched by a read beyond the end of its queue; null where not known.
fetched_early bool It was fetched before the doorbell that exposed it; null where that is not certain.
fetched_again bool It was fetched once more before it was completed; null where not known.
fetched_in_order bool The entry behind it was not fetched before; null where not known.
fetched_after_shutdown bool Shutdown processing had been seen to be complete; null for admin commands.
completed_after_shutdown bool Shutdown processing had been seen to be complete; null where not known.
fetched_after_invalid_tail bool A tail that its queue does not have had been written; null where not known.
rounds_missed uint32 How often every other I/O queue could be served while it was next; null where that is open.
cq_oversubscribed bool More commands were outstanding than its completion queue takes; null where not known.
phase_written_last bool Its entry was complete when the phase tag was written; null where not known.
sqhd_beyond_tail bool SQHD lies beyond the tail; null where not known.
cq_full bool Its completion queue had no room for its entry; null where not known.
cqe_before_fetch bool Its entry was submitted, completed, and then fetched; null where not known.
sq_being_deleted bool The deletion of its queue had been fetched when it was completed; null where not known.
crd uint8 Command retry delay of the entry.
acre bool Advanced Command Retry was enabled when it was completed; null where not known.
crime bool CC.CRIME; null where not known.
css uint8 CC.CSS; null while not known.
abort_ps int64 Completion of an Abort that said that it was aborted, while it was outstanding.
waited_ps int64 How long its controller went on after its fetch, of a command outstanding at the end of its queue.
moved_late bool Data of it moved after its completion or the deletion of its queue; null where it moves none.
pointer_flaws uint32 What its PRPs or SGL descriptors are found to be, bits of `Flaw`; null where not certain.
metadata_expected uint64 Bytes of separate metadata that it should move; null where not known.
metadata_bytes uint64 Bytes of separate metadata seen.
bytes_described uint64 Bytes that its SGL accounts for; null unless all of it was read.
bytes_discarded uint64 Bytes of its data that bit buckets take.
bytes_outside uint64 Bytes written behind its buffer by writes that began in it.
data_covered bool No byte of its buffer moved more often than others; null unless enough moved for all of them.
data_lacks_end bool One piece of its buffer did not move: the end, or else one before it; null where more or none.
buffer_shared bool Some of its TLPs may belong to another command, or elsewhere in its buffer; null where none does.
over_transfer_limit bool It moves more data than MDTS allows; null while that is not known.
fuse_paired bool The other command of its fused operation is next to it, for the same namespace; null where open.
fuse_partner_failed bool The first command of its fused operation failed; null where it is not the second of one.
nsid_active bool The active namespaces that Identify listed hold its namespace; null while they are not known.
sgls uint32 SGLS of Identify Controller; null while not seen.
namespaces uint32 NN of it.
oncs uint16 ONCS of it.
oacs uint16 OACS of it.
beyond_end bool Its blocks reach beyond the namespace (NSZE); null while its size is not known.
write_protected bool Its namespace was write protected; null while not known, and for what does not write.
media_read_only bool The SMART log said last that media are read only; null for what does not write.
over_zeroes_limit bool A Write Zeroes of more than WZSL allows; null while not known, and where there is no limit.
broadcast_supported bool A Flush of all namespaces is supported (VWC); null while not known, and for other commands.
directive_enabled bool The directive type of a Write is enabled; null where it names none, and where that is not known.
fdp_enabled bool Flexible Data Placement is enabled, of an I/O Management Receive; null while not known.
protection_enabled bool The namespace has protection information (DPS); null where PRINFO is 0, and while not known.
reference_fits bool The expected reference tag is that of SLBA, where type 1 has it checked; null elsewhere.
metadata_made bool With PRACT the controller makes and strips all metadata of its blocks; null while not known.
guards_fit bool The guards that moved are those of the blocks; null where not all was seen or none are checked.
application_tags_fit bool The application tags that moved are those it names; null likewise.
reference_tags_fit bool The reference tags that moved count on from the one it names; null likewise, and for type 3.
reserved_away bool A reservation of another host stands in its way; null while not known.
cmb_lacks str Of pointers in the controller memory buffer, the field that does not let them be there, or `nothing`.
cid_in_use bool Another command of its queue with its identifier was outstanding when it was fetched.
""",
)

CHILDREN = table(
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

CONTROLLERS = table(
    "controllers",
    "One life of a controller: from enabling to its reset.",
    PLACE
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
vendor_id uint16 Vendor ID of the configuration space; null while not seen, and for a VF.
subsystem_vendor_id uint16 Subsystem Vendor ID of it.
total_vfs uint16 TotalVFs of it.
first_vf uint16 First VF Offset of it.
vf_stride uint16 VF Stride of it.
msix_vectors uint16 Entries of the MSI-X table by it.
msi_vectors uint16 Messages that its MSI capability offers.
class_code uint32 Class code of the configuration space; null while not seen, and for a VF.
bar0_size uint64 Bytes of BAR0; null while not known.
bar0_prefetchable bool BAR0 is prefetchable; null while not known.
highest_doorbell uint32 One past the last byte of BAR0 that is a doorbell of a queue of this life.
msix_place str Where MSI-X table and pending bits lie: `apart`, `beyond the BAR`, `in doorbells`; null while not known.
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

QUEUES = table(
    "queues",
    "One life of a queue.",
    PLACE
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
vectors_enabled uint16 Interrupt vectors enabled when a CQ was created: 1 for one MSI; null where not known.
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
overlaps str The `queue` or `buffer` that its memory overlapped when it was created; null where none was found.
learnt str `seen`, `inferred` or `given`.
confidence float32 1 when seen.
""",
)

REGIONS = table(
    "regions",
    "One address region with an owner and a life time; buffers of commands are found by their transaction.",
    PLACE
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

COMMAND_DATA = table(
    "command_data",
    "The data of one admin command, or the list of ranges or keys of an I/O command, as far as it was seen.",
    """
id uint64 Row number.
transaction_id uint64 The command.
to_device bool Direction.
size uint64 Bytes of the buffer, as far as lmtrace knows them.
data bytes The bytes from offset 0; bytes not seen are 0.
seen list[uint64] Pairs of start and end of the byte ranges seen, ascending.
learnt str How the queue of the command was learnt: `seen`, `inferred` or `given`.
""",
)

HOST_MEMORY_USES = table(
    "host_memory_uses",
    "What a controller did with a Host Memory Buffer that it was lent, beside it, or after it was taken back.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
transaction_id uint64 The Set Features that enabled the buffer, or disabled it.
what str `inside` the buffer, `beside` it or `after` it was disabled; these two of requests that belong to nothing.
requests uint64 How many there were.
address uint64 The first of them; null where there was none.
bytes uint64 Bytes of the buffer.
time_ps int64 That request, or the completion of the Set Features.
tlp_id uint64 TLP of it.
learnt str `seen` or `inferred`.
""",
)

DATA_CHECKS = table(
    "data_checks",
    "The blocks of one read, compare or retrieve that should hold something known, by the reason for it.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
transaction_id uint64 The command that showed them.
opcode uint8 Its opcode.
csi uint8 Command set of the namespace; null while not known.
nsid uint32 Namespace.
basis str Why: `written`, `copied`, `zeroes`, `deallocated`, `uncorrectable`, `read`, `formatted`, `sanitized`.
other_function bool Another function changed them last, or read them first.
blocks uint64 Blocks that could be compared; 1 for the value of a key.
differ uint64 Blocks of them that differ.
first_lba uint64 The first block that differs, else the first.
writer_id uint64 The command that changed that block last; null where none differs.
failed bool It failed: a compare, a read of blocks made unreadable, or one `refused` as its blocks are unwritten.
unwritten_fails bool Reads of unwritten blocks are to fail (DULBE); null while not known, and for most reasons.
time_ps int64 Its completion.
tlp_id uint64 TLP of its completion.
learnt str `inferred` where commands may have gone unseen, else `seen`.
""",
)

RANGE_COMMANDS = table(
    "range_commands",
    "One Dataset Management or Copy command that completed, with the ranges it named and the limits they have.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
transaction_id uint64 The command.
opcode uint8 Its opcode.
nsid uint32 Namespace.
sct uint8 Status code type.
sc uint8 Status code.
ranges uint16 How many ranges it named.
longest uint32 Blocks of the longest; null unless all were seen.
blocks uint64 Blocks of all together.
beyond_end bool One reaches beyond its namespace; null while not known.
copy_format uint8 Descriptor format of a Copy; null for others, as all that follows.
format_offered bool OCFS offers that format; null while not known.
most_per_range uint16 MSSRL of the namespace; null while not known.
most_blocks uint32 MCL of it.
most_ranges uint16 MSRC of it, as a count.
overlaps bool A source overlaps the destination.
formats_differ bool A source has another format or protection than the destination; null while not known.
time_ps int64 Its completion.
tlp_id uint64 TLP of its completion.
learnt str `inferred` where commands may have gone unseen, else `seen`.
""",
)

RESERVATION_COMMANDS = table(
    "reservation_commands",
    "One reservation command that completed, and how a report compares with the commands before it.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
transaction_id uint64 The command.
opcode uint8 Its opcode.
nsid uint32 Namespace.
action uint8 RREGA, RACQA or RRELA: CDW10 bits 2:0.
persistence uint8 CPTPL of a Register: CDW10 bits 31:30.
sct uint8 Status code type.
sc uint8 Status code.
report_flaw str What a report has wrong: `type`, `missing`, `stranger`, `key` or `holder`; null for nothing.
time_ps int64 Its completion.
tlp_id uint64 TLP of its completion.
learnt str `inferred` where commands may have gone unseen, else `seen`.
""",
)

KEY_VALUE_COMMANDS = table(
    "key_value_commands",
    "One command to a Key Value namespace that completed, with what was known of its key when it was fetched.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
transaction_id uint64 The command.
opcode uint8 Its opcode.
nsid uint32 Namespace.
sct uint8 Status code type.
sc uint8 Status code.
dw0 uint32 Dword 0 of its completion; null where the SUCCESS flag of NVMe/TCP stood for the completion.
key_length uint8 KL.
key str The key in hexadecimal digits; of a List, the key that is wrong in it.
options uint8 Its options, CDW11 bits 15:8.
host_bytes uint32 CDW10: bytes of the value to store, or of the host's buffer.
moved uint64 Bytes of the value that moved; null where that is not certain, and for other commands.
longest_key uint16 KVKML of the namespace's format; null while not known.
longest_value uint32 KVVML of it; null while not known.
other_paths bool Hosts that the capture does not show may reach the namespace: what is known of its keys is not sure.
existed bool The key existed; null where that is not known, or other commands on the key were in flight.
basis str Why: it was `stored`, `deleted` or `told` by another command, a format `emptied` all, a Store was `refused`.
value_bytes uint32 Bytes of the value that was stored; null where not known.
writer_id uint64 The command that told or made it so; null where it is not known.
delete_errors bool Delete of a key that does not exist is an error (EDNEK); null where no feature of this life told it.
keys_listed uint32 Keys that a List returned; null where its data were not seen.
list_flaw str What is wrong with a List: `overrun`, `counted`, `repeated` or `absent`; null for nothing.
list_told bool That a listed key is absent is known only because another command said so, or a format removed all.
time_ps int64 Its completion.
tlp_id uint64 TLP of its completion.
learnt str `inferred` where commands may have gone unseen, else `seen`.
""",
)
