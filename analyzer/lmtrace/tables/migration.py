"""Tables of live migration: states, logs, steps, numbers."""

from __future__ import annotations

from lmtrace.tables.base import PLACE, table

CONTROLLER_STATES = table(
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
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

CONTROLLER_STATE_QUEUES = table(
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
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

CDQ_ENTRIES = table(
    "cdq_entries",
    "One entry posted to a controller data queue.",
    PLACE
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
learnt str How the queue of the command that created it was learnt: `seen`, `inferred` or `given`.
""",
)

CDQ_REWRITES = table(
    "cdq_rewrites",
    "One write of a part of a data queue slot whose entry had just been posted.",
    PLACE
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
learnt str How the queue of the command that created it was learnt: `seen`, `inferred` or `given`.
""",
)

DIRTY_LOG = table(
    "dirty_log",
    "One range of blocks that the log of a controller's changes tells of or lacks, or one answer about such a log.",
    PLACE
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
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

MIGRATION_STEPS = table(
    "migration_steps",
    "One step of a migration: a command, or a state it led to.",
    PLACE
    + """
function uint16 Function that took the command.
target uint16 CNTLID it is about.
step str `create CDQ`, `start logging`, `suspend`, `suspended`, `get state`, `resume` and so on.
time_ps int64 Start.
end_ps int64 End; null while it lasts.
status str Status of the command.
transaction_id uint64 The command.
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

MIGRATIONS = table(
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
blackout_ps int64 Last completion of the source to first one of the destination; null where no clock tells.
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
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

MIGRATION_PHASES = table(
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
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

PRECOPY_ROUNDS = table(
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
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

STATE_COMPARISON = table(
    "state_comparison",
    "One fact about a migrated controller as two witnesses tell it: read and set, or state and wire.",
    PLACE
    + """
controller uint16 CNTLID of the controller at the end that is judged.
migration_id uint64 The migration.
comparison str `read and set`, `suspension while reading`, `state and wire at the source`, `capability` and so on.
item str Field: `SQ 1 IOSQHP`, `VSS`, `vendor part` and so on.
first str What was read, or what the state says, or the source's capability.
second str What was set, or what the wire showed, or the destination's capability.
first_number uint64 The first value, where it is a number.
second_number uint64 The second value, where it is a number.
judgement str `equal`, `differs` or `unknown`.
reason str Why it is unknown, or what differs in detail.
first_transaction_id uint64 The command that the first value comes from.
second_transaction_id uint64 The command that the second value comes from.
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

MIGRATED_COMMANDS = table(
    "migrated_commands",
    "One I/O command that was under way or waiting when its controller was suspended, and what became of it.",
    PLACE
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
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)

USER_DATA = table(
    "user_data",
    "One range of blocks of a namespace that moves with its controller, and what became of it.",
    PLACE
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
learnt str `inferred` where a command, queue or controller that it rests on is; else `seen`.
""",
)
