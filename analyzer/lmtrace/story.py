"""Stories: tiny traces written as text, one event a line, that hold or break a rule. They are its unit tests.

A line is ``<time> <event> key=value ...``. Keys are the event's attributes, or fields of a command's entry by the
specification's names in any case; what is left out has its default. A command may say when it was fetched
(``fetch=4us``) and that no completion was seen (``status=none``). Indented lines below a command are its data:
``header``, ``nvme``, ``sq``, ``cq``, ``vendor`` of a Controller State, ``header`` and ``range`` of the structures of
memory tracking, or ``data`` with the fields of its structure, or with a little-endian number and its place in them
(``data raw=0x1234 at=132 size=1024``); further ``data`` lines add such numbers.
Of a Controller State a command moves the part that its offset and length name; without ``numdl`` or ``numd`` all.

The cast: 01:00.0 is the MMC with CNTLID 0; 01:00.1 and 01:00.2 are migratable controllers with CNTLID 1 and 2. All
three were seen being enabled, none is suspended, none has an I/O queue or a CDQ, and there are no others; the MMC
reported one state version and no UUID. The line ``0us midway`` takes all that knowledge away.

Over fabrics ``function=0x10001`` stands for the controller with CNTLID 1; qualified names in data are written as text.

For a column rule each line is a row of its table: ``<time> <table> column=value ...``.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from lmtrace.events import (
    DEFAULT_FCTYPES,
    DEFAULT_OPCODES,
    EVENTS,
    Command,
    Connect,
    CreateCdq,
    EndOfCapture,
    Event,
    FeatureCommand,
    GetControllerState,
    GetLogPage,
    Identify,
    IdentifyController,
    IdentifyStateFormats,
    StateTransfer,
    TrackMemoryChanges,
    TrackReceive,
    typed,
)
from lmtrace.known import Known
from lmtrace.pieces import Pieces
from lmtrace.session import Session
from lmtrace.session.events import observe
from lmtrace.session.fetched import begin
from lmtrace.spec import admin_data, migration
from lmtrace.spec.admin_data import Lid
from lmtrace.spec.fabrics import CONNECT_DATA
from lmtrace.spec.layout import Layout
from lmtrace.spec.nvme import IDENTIFY_CONTROLLER, SQE, Cns, Feature, Status
from lmtrace.spec.pcie import bdf
from lmtrace.units import parse_time

if TYPE_CHECKING:
    import pyarrow as pa

    from lmtrace.rule import Rule, Verdict

MMC, MIGRATABLE = 0x0100, (0x0101, 0x0102)
ORDER_STEP = 64
ALIASES = {"target": ("CNTLID", "CQS"), "head": ("HP",), "reason": ()}


class StoryError(ValueError):
    """A story that cannot be read; the message names the line."""


@dataclass(slots=True)
class Step:
    """One thing the session is told: a command's fetch (``begins``) or an event."""

    event: Event
    begins: bool


def tell(rule: Rule, text: str) -> list[Verdict]:
    """Play a story and return the rule's verdicts. Raises StoryError for text that is no story."""
    if rule.table is not None:
        return _tell_rows(rule, text)
    session, steps = parse(text)
    verdicts: list[Verdict] = []
    for step in steps:
        if step.begins:
            assert isinstance(step.event, Command)
            begin(session, step.event)
            continue
        if isinstance(step.event, rule.events):
            verdicts.extend(rule.function(step.event, session))
        observe(session, step.event)
    return verdicts


def parse(text: str) -> tuple[Session, list[Step]]:
    """Return the session at the start of a story and its steps in order."""
    session = cast_of_a_story()
    pending: list[tuple[int, int, bool, Event]] = []
    for number, (line, body) in enumerate(_lines(text)):
        words = _words(line)
        if words[1:2] == ["midway"]:
            session = Session()
            for cntlid, function in enumerate((MMC, *MIGRATABLE)):
                session.bind(function, cntlid)
            continue
        event, fetch = _event(line, words, body)
        if isinstance(event, Command):
            event.fetch_time = event.time if fetch is None else fetch
            pending.append((event.fetch_time, number * 2, True, event))
        pending.append((event.time, number * 2 + 1, False, event))
    pending.sort(key=lambda one: one[:2])
    steps: list[Step] = []
    for place, (_, _, begins, event) in enumerate(pending, 1):
        if begins:
            assert isinstance(event, Command)
            event.fetched = place * ORDER_STEP
        else:
            event.order = place * ORDER_STEP
        steps.append(Step(event, begins))
    return session, steps


def cast_of_a_story() -> Session:
    """Return the session that every story starts from; see the module."""
    session = Session(link="link")
    for cntlid, function in enumerate((MMC, *MIGRATABLE)):
        controller = session.bind(function, cntlid)
        controller.hmlms = Known.of(function == MMC)
        controller.virtual = Known.of(function != MMC)
        controller.suspended.set(0, Known.NO)
        controller.enabled.set(0, Known.YES)
        controller.offline.set(0, Known.NO)
        controller.io_queues.set(0, Known.NO)
        controller.complete_history = True
        controller.page_size = 4096
        controller.administration.host_memory.set(0, Known.NO)
    session.all_identifiers = frozenset((0, 1, 2))
    session.formats[MMC] = (1, 0)
    return session


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (line, the indented lines below it)."""
    current: tuple[str, list[str]] | None = None
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace():
            if current is None:
                raise StoryError(f"the story starts with an indented line: {line.strip()!r}")
            current[1].append(line.strip())
            continue
        if current is not None:
            yield current
        current = (line.strip(), [])
    if current is not None:
        yield current


def _words(line: str) -> list[str]:
    words = shlex.split(line)
    if len(words) < 2:
        raise StoryError(f"{line!r} is no `<time> <event> key=value ...`")
    return words


def _pairs(words: list[str], line: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise StoryError(f"{word!r} in {line!r} is no key=value")
        found[key] = value
    return found


def _event(line: str, words: list[str], body: list[str]) -> tuple[Event, int | None]:
    kind = EVENTS.get(words[1])
    if kind is None:
        raise StoryError(f"no event {words[1]!r} (in {line!r}); there are: {', '.join(sorted(EVENTS))}")
    try:
        time = parse_time(words[0])
    except ValueError as error:
        raise StoryError(f"{line!r}: {error}") from None
    keys = _pairs(words[2:], line)
    fetch = parse_time(keys.pop("fetch")) if "fetch" in keys else None
    if issubclass(kind, Command):
        return _command(kind, time, keys, body, line), fetch
    hints = get_type_hints(kind)
    values: dict[str, Any] = {"time": time}
    for key, value in keys.items():
        if key not in hints or key in ("name", "layout"):
            raise StoryError(f"{words[1]} has no key {key!r} (in {line!r})")
        values[key] = _value(key, value, hints[key], line)
    if kind is EndOfCapture:
        values.setdefault("function", 0)
    return kind(**values), None


def _value(key: str, text: str, hint: object, line: str) -> Any:
    wanted = str(hint)
    if text == "none" and "None" in wanted:
        return None
    if "Status" in wanted:
        return Status.parse(text)
    if key in ("function", "owner") and "." in text:
        return bdf(text)
    if "bool" in wanted:
        if text not in ("0", "1", "yes", "no"):
            raise StoryError(f"{key}={text} in {line!r} is neither yes nor no")
        return text in ("1", "yes")
    if hint is bytes:
        return bytes.fromhex(text)
    if "tuple" in wanted:
        return tuple(_number(part, line) for part in text.split("+"))
    return _number(text, line) if "int" in wanted else text


def _number(text: str, line: str) -> int:
    try:
        return int(text[:-1], 16) if text[-1:] in "hH" and text[:-1] else int(text, 0)
    except ValueError:
        raise StoryError(f"{text!r} in {line!r} is no number") from None


def _quantity(text: str, line: str) -> int:
    """Return the value of a field of data: a number, or a qualified name as the number that its bytes are."""
    return int.from_bytes(text.encode(), "little") if text.startswith("nqn.") else _number(text, line)


def _command(kind: type[Command], time: int, keys: dict[str, str], body: list[str], line: str) -> Command:
    opcode, low = DEFAULT_OPCODES.get(kind.name, (0, 0))
    cid = _number(keys["cid"], line) if keys.get("cid") else 1
    entry = SQE.encode(OPC=opcode, NSID=DEFAULT_FCTYPES.get(kind.name, 0), CDW10=low, CID=cid)
    sqe = int.from_bytes(entry, "little")
    layouts = [one for one in (kind.layout, SQE) if one is not None]
    hints = get_type_hints(kind)
    direct: dict[str, Any] = {"time": time}
    csup: int | None = None
    for key, text in keys.items():
        if key == "cid":
            continue
        if key == "csup":
            csup = _number(text, line)
            continue
        names = {key.upper(), *ALIASES.get(key, ())}
        field = next((one for layout in layouts for one in layout.fields if one.name in names), None)
        if field is None and key == "cdqid" and kind is CreateCdq:
            direct["dw0"] = _number(text, line)
        elif field is None and key in hints:
            direct[key] = _value(key, text, hints[key], line)
        elif field is None:
            raise StoryError(f"{kind.name} has no key {key!r} (in {line!r})")
        else:
            mask = ((1 << field.width) - 1) << field.lo
            sqe = sqe & ~mask | _number(text, line) << field.lo & mask
    if csup is not None:
        direct["dw0"] = direct.get("dw0", 0) & ~1 | csup
    command = kind(sqe=sqe.to_bytes(64, "little"), **direct)
    if body:
        data = _data(command, body, line)
        if isinstance(command, StateTransfer):
            data = _moved(command, data, keys)
        elif isinstance(command, TrackReceive) and "numdl" in keys:
            data = data[: command.length]
        elif isinstance(command, TrackReceive):
            command.sqe = command.sqe[:48] + (len(data) // 4 - 1).to_bytes(4, "little") + command.sqe[52:]
        command.data = Pieces.of(data)
    made = command if type(command) is not Command else typed(command)
    if made.status is None:
        made.outcome = "outstanding"
    return made


def _moved(command: StateTransfer, data: bytes, keys: dict[str, str]) -> bytes:
    """Return the part of a structure that a command moves; one that names no length moves all from its offset on."""
    reads = isinstance(command, GetControllerState)
    if ("numdl" if reads else "numd") not in keys:
        dwords = max(len(data) - command.offset, 0) // 4
        command.sqe = command.sqe[:60] + max(dwords - reads, 0).to_bytes(4, "little")
    part = data[command.offset : command.offset + command.length]
    if "bytes_to_device" not in keys and not reads:
        command.bytes_to_device = len(part)
    if "bytes_from_device" not in keys and reads:
        command.bytes_from_device = len(part)
    return part


_DATA_LAYOUTS: dict[type[Command], Layout] = {IdentifyController: IDENTIFY_CONTROLLER, Connect: CONNECT_DATA}
_LOG_LAYOUTS: dict[int, Layout] = {
    Lid.ERROR_INFORMATION: admin_data.ERROR_ENTRY, Lid.SMART: admin_data.SMART_LOG,
    Lid.FIRMWARE_SLOT: admin_data.FIRMWARE_SLOT_LOG, Lid.SANITIZE_STATUS: admin_data.SANITIZE_STATUS_LOG,
    Lid.RESERVATION_NOTIFICATION: admin_data.RESERVATION_LOG,
}  # fmt: skip
_FEATURE_LAYOUTS: dict[int, Layout] = {
    Feature.TIMESTAMP: admin_data.TIMESTAMP_DATA, Feature.HOST_BEHAVIOR_SUPPORT: admin_data.HOST_BEHAVIOR_DATA,
    Feature.HOST_MEMORY_BUFFER: admin_data.HOST_MEMORY_DESCRIPTOR,
}  # fmt: skip


def _data_layout(command: Command) -> Layout | None:
    """Return the structure that a command's data have, None where their bytes are told by place."""
    if type(command) is Identify and command.cns == Cns.NAMESPACE:
        return admin_data.IDENTIFY_NAMESPACE
    if isinstance(command, GetLogPage):
        return _LOG_LAYOUTS.get(command.lid)
    if isinstance(command, FeatureCommand):
        return _FEATURE_LAYOUTS.get(command.fid)
    return _DATA_LAYOUTS.get(type(command))


def _data(command: Command, body: list[str], line: str) -> bytes:
    """Return the data that the indented lines describe."""
    parts: dict[str, list[dict[str, int]]] = {"header": [], "nvme": [], "sq": [], "cq": [], "vendor": [], "data": []}
    parts["range"] = []
    for text in body:
        words = text.split()
        if words[0] not in parts:
            raise StoryError(f"no data line {words[0]!r} below {line!r}; there are: {', '.join(parts)}")
        pairs = _pairs(words[1:], line)
        parts[words[0]].append({key.upper(): _quantity(value, line) for key, value in pairs.items()})
    if parts["data"]:
        values = parts["data"][0]
        if isinstance(command, IdentifyStateFormats):
            head = bytes((values.get("NV", 1), values.get("NUUID", 0)))
            return (head + values.get("VERSION", 0).to_bytes(2, "little")).ljust(values.get("SIZE", 4096), b"\0")
        size, layout = values.pop("SIZE", None), _data_layout(command)
        raw = sum(one.pop("RAW", 0) << 8 * one.pop("AT", 0) for one in parts["data"])
        if layout is None:
            return raw.to_bytes(size or 4096, "little")
        made = int.from_bytes(layout.encode(**values), "little") | raw
        return made.to_bytes(max(layout.size, -(-made.bit_length() // 8)), "little")[:size]
    if isinstance(command, TrackMemoryChanges | TrackReceive):
        return _tracked_bytes(command, parts["header"][0] if parts["header"] else {}, parts["range"])
    return state_bytes(parts)


def _tracked_bytes(
    command: TrackMemoryChanges | TrackReceive, header: dict[str, int], ranges: list[dict[str, int]]
) -> bytes:
    """Return a structure of memory tracking; the count of its ranges and the CNTLID fill themselves in."""
    raw = header.pop("RAW_BYTE", None)
    if isinstance(command, TrackReceive):
        values = {"NTMCD": len(ranges), "CNTLID": command.target} | header
        head, layout = migration.TRACKED_MEMORY_HEADER.encode(**values), migration.TRACKED_MEMORY_DESCRIPTOR
    else:
        values = {"RNMRTD": len(ranges)} | header
        head, layout = migration.TRACK_MEMORY_HEADER.encode(**values), migration.TRACK_MEMORY_DESCRIPTOR
    made = b""
    for row in ranges:
        poked = row.pop("RAW_BYTE", None)
        made += _poke(layout.encode(**{"LEN": 1} | row), poked)
    return _poke(head, raw) + made


def state_bytes(parts: dict[str, list[dict[str, int]]]) -> bytes:
    """Return a Controller State structure from the fields of its parts; sizes and counts fill themselves in.

    Queue fields may be named without their prefix (``qid`` for IOSQQID); ``size`` counts entries. ``raw_byte`` of a
    part sets one byte of it, as ``raw_byte=0x0715`` for byte 7 to 15h, for reserved fields.
    """
    queues = b""
    for prefix, layout, rows in (
        ("IOSQ", migration.IO_SQ_STATE, parts["sq"]), ("IOCQ", migration.IO_CQ_STATE, parts["cq"]),
    ):  # fmt: skip
        for row in rows:
            values = {"PC": 1, prefix + "QSIZE": row.pop("SIZE", 16) - 1, prefix + "PRP1": 0x10000}
            names = {field.name for field in layout.fields}
            raw = row.pop("RAW_BYTE", None)
            short = {"HEAD": "HP", "TAIL": "TP"}
            for key, value in row.items():
                key = short.get(key, key)
                values[key if key in names else prefix + key] = value
            queues += _poke(layout.encode(**values), raw)
    nvme = b""
    if parts["nvme"] or parts["sq"] or parts["cq"]:
        values = {"NIOSQ": len(parts["sq"]), "NIOCQ": len(parts["cq"])} | (parts["nvme"][0] if parts["nvme"] else {})
        raw = values.pop("RAW_BYTE", None)
        nvme = _poke(migration.NVME_CONTROLLER_STATE.encode(**values), raw) + queues
    vendor = b""
    for row in parts["vendor"]:
        vendor += row.get("FILL", 0).to_bytes(1, "little") * 4 * row.get("DWORDS", 1)
    values = {"NVMECSS": len(nvme) // 4, "VSS": len(vendor) // 4} | (parts["header"][0] if parts["header"] else {})
    raw = values.pop("RAW_BYTE", None)
    return _poke(migration.CONTROLLER_STATE_HEADER.encode(**values), raw) + nvme + vendor


def _poke(data: bytes, raw: int | None) -> bytes:
    if raw is None:
        return data
    place, value = raw >> 8, raw & 0xFF
    return data[:place] + bytes((value,)) + data[place + 1 :]


def _tell_rows(rule: Rule, text: str) -> list[Verdict]:
    """Play a column rule's story: every line a row of its table."""
    from lmtrace.rule import broken, held

    if rule.witness is not None and _words(next(_lines(text))[0])[1:2] == [rule.witness.table]:
        return [held(Event())] * rule.witness.count(rows_of(rule.witness.table, text))
    batch = rows_of(rule.table or "", text)
    found = rule.function(batch)
    events = [Event(order=row) for row in range(batch.num_rows)]
    verdicts = [broken(found.message(int(row)), events[int(row)]) for row in found.rows]
    return verdicts + [held(Event())] * (found.applied - len(found.rows))


def rows_of(table: str, text: str) -> pa.RecordBatch:
    """Return the rows that a column rule's story describes."""
    import pyarrow as pa

    from lmtrace.arrow import column
    from lmtrace.tables import TABLES

    schema = TABLES[table].schema()
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for number, (line, _) in enumerate(_lines(text)):
        words = _words(line)
        if words[1] != table:
            raise StoryError(f"{line!r} is about {words[1]!r}, the rule reads {table}")
        pairs = _pairs(words[2:], line)
        unknown = sorted(set(pairs) - set(columns))
        if unknown:
            raise StoryError(f"{table} has no column {unknown[0]!r} (in {line!r})")
        values: dict[str, Any] = {"id": number, "time_ps": parse_time(words[0])}
        for key, value in pairs.items():
            hint = {"bool": "bool", "string": "str"}.get(str(schema.field(key).type), "int")
            if (key.endswith("function") or key in ("requester_id", "completer_id")) and "." in value:
                values[key] = bdf(value)
            else:
                values[key] = _value(key, value, hint, line)
        for name, cells in columns.items():
            cells.append(values.get(name))
    arrays = [column(columns[name], schema.field(name).type) for name in schema.names]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
