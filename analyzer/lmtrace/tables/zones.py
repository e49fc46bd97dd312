"""Tables about zoned namespaces."""

from __future__ import annotations

from lmtrace.tables.base import PLACE, table

ZONE_COMMANDS = table(
    "zone_commands",
    "One command to a zoned namespace that completed, with what was known of its zone when it was fetched.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
transaction_id uint64 The command.
opcode uint8 Its opcode.
nsid uint32 Namespace.
sct uint8 Status code type.
sc uint8 Status code.
slba uint64 SLBA, or ZSLBA.
blocks uint32 Blocks that it reads or writes; null for other commands.
action uint8 ZSA or ZRA; null for other commands.
select_all bool Select All of Zone Management Send.
partial bool Partial Report of Zone Management Receive.
filter uint8 ZRASF of Zone Management Receive.
remap bool PIREMAP of Zone Append.
zone uint64 First block of the zone that SLBA lies in; null while the size of zones is not known.
zone_size uint64 ZSZE, in blocks; null while not known.
capacity uint64 ZCAP of the zone, in blocks; null while not known.
states uint32 Bit n is 1 where the zone may have been in state n; all are while it is not known or in flux.
wp uint64 Write pointer of the zone; null where it is not known, or not valid, or in flux.
area bool A Zone Random Write Area is associated with the zone; null while not known.
area_size uint32 ZRWASZ; null while not known.
alba uint64 First block that a Zone Append that succeeded wrote.
wp_least uint64 Least write pointer that a Zone Append may have found; null where it is not known.
wp_most uint64 Greatest one.
flaw str Of a write: its blocks `overlap` those of another, or leave a `gap` below; null for nothing.
across bool Reads may cross zones (OZCS); null while not known.
append_limit uint64 Most bytes that a Zone Append may write (ZASL); 0 for no limit, null while not known.
bytes uint64 Bytes of data that it describes; null while not known.
moved uint64 Bytes that moved; null where that is not certain.
protection uint8 Protection information type of the namespace; null while not known.
open_least uint32 Other zones that were open whatever the controller did; null while not known.
open_most uint32 Other zones that may have been open; null while not known.
active_least uint32 Other zones that were active whatever the controller did.
active_most uint32 Other zones that may have been active.
open_limit uint64 MOR + 1; 2^32 for no limit, null while not known.
active_limit uint64 MAR + 1, in the same way.
above uint32 Blocks read above the write pointer that could be looked at.
above_odd uint32 Blocks of them that hold something else than DLFEAT says; null where it says nothing.
zones_counted uint64 Number of Zones of a report; null where its data were not seen.
zones_fit uint64 Descriptors that its buffer has room for.
listed_bytes uint64 Bytes of a report up to its last descriptor.
zones_due uint64 Zones from SLBA to the end of the namespace; null while not known.
report_flaw str What is wrong with its descriptors: `order`, `spacing`, `place`, `type`, `capacity` or `pointer`.
report_zone uint64 First block of the zone whose descriptor that is.
unwanted uint64 First block of a zone in another state than the report was asked for; null for none.
reported_open uint32 Zones that a report of all shows open; null where commands were in flight.
reported_active uint32 Zones that it shows active.
shared bool The namespace may be attached to controllers that the capture does not show (NMIC); null while not known.
time_ps int64 Its completion.
tlp_id uint64 TLP of its completion.
learnt str `inferred` where commands may have gone unseen, else `seen`.
""",
)

REPORTED_ZONES = table(
    "reported_zones",
    "One zone of a zone report, where something was known of it before; unchanged ones are not all kept.",
    PLACE
    + """
function uint16 Function (BDF).
controller uint16 CNTLID.
transaction_id uint64 The Zone Management Receive.
nsid uint32 Namespace.
zone uint64 First block of the zone.
state uint8 ZS.
attributes uint8 ZA.
wp uint64 Write pointer; null in states that have none.
capacity uint64 ZCAP.
states uint32 Bit n is 1 where state n was due, or could have come about without a command.
wp_due uint64 Write pointer that was due; null where it is not known.
full_due bool What was written filled the zone.
cause str Why: it was `written`, `opened`, `closed`, `finished`, `reset`, `extended`, set `offline`, or `reported` so.
of_all bool By a command with Select All.
writer_id uint64 The command that made it so, or told.
extension_differs bool Its descriptor extension is another than the one that was set; null where either was not seen.
shared bool The namespace may be attached to controllers that the capture does not show (NMIC); null while not known.
time_ps int64 Completion of the report.
tlp_id uint64 TLP of it.
learnt str `inferred` where commands may have gone unseen, else `seen`.
""",
)
