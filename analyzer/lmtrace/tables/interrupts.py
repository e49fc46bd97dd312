"""Tables of interrupts: messages, pins, what the host writes to vectors, and what it reads of pending bits."""

from __future__ import annotations

from lmtrace.tables.base import PLACE, table

INTERRUPTS = table(
    "interrupts",
    "One MSI or MSI-X message of a controller.",
    PLACE
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
mechanism str `MSI-X` or `MSI` by what has its address and data, or its address; null where nothing known has.
size uint16 Bytes written.
matched bool A vector has its address and data; null where vectors that may be meant are not known.
msix_off_ps int64 How long MSI-X had been disabled; null where it was not.
msi_off_ps int64 How long MSI had been disabled; null where it was not.
entry_masked_ps int64 How long the vector's own mask had been set; null where it was not.
function_masked_ps int64 How long the Function Mask had been set; null where it was not.
intms_masked_ps int64 How long INTMS had masked the vector of an MSI message; null where it had not.
announced uint32 Entries posted for the vector since its last message; null where not all are known.
unconsumed uint32 Entries for the vector that the host had not consumed; null where not all are known.
idle_ps int64 How long the host had had nothing left to consume for the vector; null where it had, or not known.
idle_run uint32 Messages of the vector in a row, up to it, that had nothing new or left to announce.
queues uint16 Completion queues of this life that use the vector; null where not all are known.
silent_queues uint16 Completion queues of this life that have it and no interrupts; null where not all are known.
starving uint16 Another vector whose entries still waited for a message, unmasked; null where none did.
not_ready_ps int64 How long the controller had been disabled and known not to be ready; null where it was not.
delay_ps int64 How long the oldest entry of an I/O queue had waited for it; null where none had.
admin_delay_ps int64 How long the oldest entry of the admin queue had waited for it; null where none had.
coalescing_ps int64 Aggregation time in force, 0 for none; null where no Set Features in this life told it.
coalescing_off bool Coalescing is disabled for the vector.
named_function uint16 Another function whose vector has its address and data, while entries wait for that one.
""",
)

PINS = table(
    "pins",
    "One time that a function kept its interrupt pin asserted.",
    PLACE
    + """
function uint16 Function (BDF) that sent the messages.
controller uint16 CNTLID.
time_ps int64 Assertion.
tlp_id uint64 The TLP.
end_ps int64 Deassertion, or what else ended it.
ended_by str `deasserted`, `reset`, `asserted again`, `enabled messages`; null at the end of the capture.
is_virtual bool The function is a VF; null where not known.
msix_on_ps int64 How long MSI-X had been enabled at the assertion; null where it was not.
msi_on_ps int64 How long MSI had been enabled at the assertion; null where it was not.
idle_ps int64 How long the host had had nothing left to consume at the end; null where it had, or not known.
learnt str How the controller was learnt.
""",
)

VECTOR_WRITES = table(
    "vector_writes",
    "One write of the host to an MSI-X table, a row for each dword.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
vector uint16 Entry of the table.
field str `address`, `upper address`, `data` or `control`.
offset uint32 Offset in the table.
size uint16 Bytes that the whole write moved.
whole bool The write moves whole dwords.
value uint32 Value of the dword; null where only a part was written.
changes bool It differs from what the dword held; null where that is not known.
live bool The entry could send messages: not masked, nor the function, and MSI-X enabled; null where not known.
time_ps int64 Time.
tlp_id uint64 The TLP.
learnt str How the place of the table was learnt.
""",
)

PENDING_BITS = table(
    "pending_bits",
    "One bit of a pending bit array that the host read, of a vector that a completion queue uses.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
vector uint16 The vector.
pending bool The bit.
masked_ps int64 How long the vector had been masked; null where it was not.
unconsumed uint32 Entries for the vector that waited, unconsumed, since before it was masked or while it was.
waited_ps int64 How long the newest of them had waited; null without one.
opened_ps int64 How long ago the vector was unmasked with its bit set, no message having come; null where it was not.
time_ps int64 Request of the read.
tlp_id uint64 The TLP.
learnt str How the place of the bits was learnt.
""",
)

INTERRUPT_MODES = table(
    "interrupt_modes",
    "One write of the host that says whether a function sends its interrupts by MSI or MSI-X.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
msi bool MSI is enabled behind it; null while not known.
msix bool MSI-X is enabled behind it; null while not known.
time_ps int64 Time.
tlp_id uint64 The TLP.
""",
)

SRIOV_WRITES = table(
    "sriov_writes",
    "One write of the host to SR-IOV Control or NumVFs.",
    PLACE
    + """
function uint16 Physical function (BDF).
field str `control` or `NumVFs`.
enabled_before bool VF Enable before it; null while not known.
enabled bool VF Enable behind it; null while not known.
memory bool VF MSE behind it; null while not known.
vfs uint16 NumVFs behind it; null while not known.
vfs_written bool NumVFs was written in this capture.
total_vfs uint16 TotalVFs; null while not known.
time_ps int64 Time.
tlp_id uint64 The TLP.
""",
)
