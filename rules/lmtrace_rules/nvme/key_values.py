"""nvme-checklist G24: commands of the Key Value Command Set but Store, by what is known of each key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import (
    INVALID_KEY_SIZE,
    INVALID_OPCODE,
    KEY_DOES_NOT_EXIST,
    KeyValue,
    Nvm,
    Status,
    command_name,
)
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G24 Key value"
PROFILE = ("nvme", "key-value")
TABLE = "key_value_commands"
WHAT = ("opcode", "key", "sct", "sc")
KNOWN = (*WHAT, "existed", "basis", "writer_id", "other_paths")
LARGEST_KEY = 16
MUST_EXIST, MUST_NOT_EXIST = 1 << 0, 1 << 1
"""Options of Store."""
RAW = 1 << 0
"""Option of Retrieve."""
LARGEST_TLP = 4096
"""Bytes of payload that one TLP carries at most (PCIe Base 5.0, 2.2.2)."""
KEYED = (KeyValue.STORE, KeyValue.RETRIEVE, KeyValue.DELETE, KeyValue.EXIST)
NOT_SHARED = (
    Nvm.WRITE_UNCORRECTABLE, Nvm.COMPARE, Nvm.WRITE_ZEROES, Nvm.DATASET_MANAGEMENT, Nvm.VERIFY, Nvm.COPY,
    Nvm.ZONE_MANAGEMENT_SEND, Nvm.ZONE_MANAGEMENT_RECEIVE, Nvm.ZONE_APPEND,
)  # fmt: skip
"""Commands of other command sets that the Key Value Command Set neither has nor names otherwise."""
OVERLAPPING = "whether the key existed is not known, or other commands on it were in flight"


def is_command(batch: pa.RecordBatch, *opcodes: int) -> np.ndarray:
    """Return which rows are one of those commands."""
    return np.isin(numbers(batch, "opcode"), np.array(opcodes))


def ended_with(batch: pa.RecordBatch, *statuses: Status) -> np.ndarray:
    """Return the commands that ended with one of these; none means success."""
    sct, sc = numbers(batch, "sct"), numbers(batch, "sc")
    wanted = np.array([one.sct << 8 | one.sc for one in statuses or (Status(0, 0),)])
    return np.isin(sct << 8 | sc, wanted)


def key_existed(batch: pa.RecordBatch, wanted: bool) -> np.ndarray:
    """Return which rows are known to name a key that existed, or that did not if ``wanted`` is false."""
    return np.asarray(there(batch, "existed") & ((numbers(batch, "existed") != 0) == wanted))


def reached_otherwise(batch: pa.RecordBatch) -> np.ndarray:
    """Return the commands to namespaces that hosts which are not seen may reach."""
    return np.asarray(there(batch, "other_paths") & (numbers(batch, "other_paths") != 0))


def name_of(batch: pa.RecordBatch, row: int) -> str:
    """Return which command a row is, for people."""
    key = batch.column("key")[row].as_py()
    name = command_name(1, int(numbers(batch, "opcode")[row]), 1)
    return f"{name} of key {key}h" if key else name


def _status(batch: pa.RecordBatch, row: int) -> str:
    status = Status(int(numbers(batch, "sct")[row]), int(numbers(batch, "sc")[row]))
    return "succeeded" if status.ok else f"ended with {status.name}"


def ends_wrongly(
    batch: pa.RecordBatch, applies: np.ndarray, bad: np.ndarray, why: Callable[[int], str] | str
) -> Broken:
    """Return the commands that ended as they must not; ``why`` says what forbids it."""
    return found(
        applies, bad,
        lambda row: f"{name_of(batch, row)} {_status(batch, row)}, though {why if isinstance(why, str) else why(row)}",
    )  # fmt: skip


def by_key(batch: pa.RecordBatch, asked: np.ndarray, applies: np.ndarray, bad: np.ndarray, what: str) -> Broken:
    """Return the commands that ended as their key does not allow; ``asked`` are all whose end depends on it.

    What is known only because another command said so may have been changed through another port, and what is behind
    a network by another host: that is a warning.
    """
    writer, told = numbers(batch, "writer_id"), words(batch, "basis", ("told",)) | reached_otherwise(batch)

    def why(row: int) -> str:
        known = there(batch, "writer_id")[row]
        return what + (f", by transaction {writer[row]}" if known else "")

    answer = ends_wrongly(batch, applies, bad, why)
    unseen = int((asked & ~there(batch, "existed")).sum())
    return replace(answer, severity=lambda row: "warning" if told[row] else "error", unseen=unseen, reason=OVERLAPPING)


@column_rule(
    "NVM21-K3.2-n1", table=TABLE, columns=(*WHAT, "key_length", "longest_key"), spec="KV Command Set 1.1, 3.2",
    party="controller", local=False,
)  # fmt: skip
def key_size_taken(batch: pa.RecordBatch) -> Broken:
    """A key that is empty, or longer than the namespace or the entry can hold, is refused.

    What would be stored has a name that nobody can ask for. A List without a key begins with the first one.

    Holds::

        1us key_value_commands opcode=1 key_length=17 sc=0x86

    Holds::

        1us key_value_commands opcode=2 key_length=8 longest_key=8 sc=0

    Breaks::

        1us key_value_commands opcode=1 key_length=17 sc=0

    Breaks::

        1us key_value_commands opcode=2 key_length=9 longest_key=8 sc=0

    Breaks::

        1us key_value_commands opcode=0x14 key_length=0 sc=0

    Breaks::

        1us key_value_commands opcode=1 key_length=8 longest_key=8 sc=0x86

    Silent::

        1us key_value_commands opcode=1 key_length=9 sc=0x86

    Silent::

        1us key_value_commands opcode=1 key_length=17 sc=0x0b

    Silent::

        1us key_value_commands opcode=6 key_length=0 sc=0
    """
    length, longest = numbers(batch, "key_length"), numbers(batch, "longest_key")
    known = there(batch, "longest_key")
    most = np.where(known, np.minimum(longest, LARGEST_KEY), LARGEST_KEY)
    keyed = is_command(batch, *KEYED)
    wrong = (length > most) | ((length == 0) & keyed)
    right = known & ~wrong
    refused = ended_with(batch, INVALID_KEY_SIZE)
    applies = (keyed | is_command(batch, KeyValue.LIST)) & (wrong | right)
    return ends_wrongly(
        batch, applies, (wrong & ended_with(batch)) | (right & refused & keyed),
        lambda row: f"its key has {length[row]} bytes of at most {most[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-K3.2.4-n1", table=TABLE, columns=KNOWN, spec="KV Command Set 1.1, 3.2.4", party="controller", local=False,
)  # fmt: skip
def absent_key_retrieved(batch: pa.RecordBatch) -> Broken:
    """Retrieve of a key that never was fails.

    What it returned is a value of something else. Keys that were deleted have a rule of their own.

    Holds::

        1us key_value_commands opcode=2 key=6b31 existed=no basis=emptied writer_id=4 sc=0x87

    Breaks::

        1us key_value_commands opcode=2 key=6b31 existed=no basis=emptied writer_id=4 sc=0

    Silent::

        1us key_value_commands opcode=2 key=6b31 sc=0

    Silent::

        1us key_value_commands opcode=2 key=6b31 existed=no basis=emptied sc=0x86
    """
    asked = is_command(batch, KeyValue.RETRIEVE) & ~words(batch, "basis", ("deleted", "refused"))
    return by_key(batch, asked, asked & key_existed(batch, False), ended_with(batch), "the key is known not to exist")


@column_rule(
    "NVM21-K3.2.4-n2", table=TABLE,
    columns=(*WHAT, "host_bytes", "moved", "dw0", "options", "existed", "value_bytes", "writer_id", "other_paths"),
    spec="KV Command Set 1.1, 3.2.4", party="controller", local=False,
)  # fmt: skip
def other_value_size_returned(batch: pa.RecordBatch) -> Broken:
    """Retrieve tells the size of the whole value, and returns as much of it as the buffer takes.

    The host learns from the size whether it has all. What fills the last dword is not counted; where no more is
    missing than one TLP carries, the recorder may have lost it, and the rule only warns.

    Holds::

        1us key_value_commands opcode=2 key=6b31 host_bytes=4096 moved=1000 dw0=1000 existed=yes value_bytes=1000 sc=0

    Holds::

        1us key_value_commands opcode=2 key=6b31 host_bytes=512 moved=512 dw0=1000 existed=yes value_bytes=1000 sc=0

    Breaks::

        1us key_value_commands opcode=2 key=6b31 host_bytes=512 moved=512 dw0=512 existed=yes value_bytes=1000 sc=0

    Breaks::

        1us key_value_commands opcode=2 key=6b31 host_bytes=9000 moved=512 dw0=9000 sc=0

    Breaks::

        1us key_value_commands opcode=2 key=6b31 host_bytes=4096 moved=4096 dw0=1000 sc=0

    Silent::

        1us key_value_commands opcode=2 key=6b31 host_bytes=4096 moved=1000 dw0=900 options=1 value_bytes=1200 sc=0

    Silent::

        1us key_value_commands opcode=2 key=6b31 host_bytes=4096 dw0=1000 sc=0

    Silent::

        1us key_value_commands opcode=2 key=6b31 host_bytes=4096 moved=12 dw0=9 sc=0
    """
    room, moved, whole = (numbers(batch, name).astype(np.int64) for name in ("host_bytes", "moved", "dw0"))
    value = numbers(batch, "value_bytes").astype(np.int64)
    wanted = np.minimum(room, whole)
    read = (
        is_command(batch, KeyValue.RETRIEVE)
        & there(batch, "dw0")
        & ended_with(batch)
        & (numbers(batch, "options") & RAW == 0)
    )
    sized, counted = there(batch, "value_bytes"), there(batch, "moved")
    other = sized & (whole != value)
    short, long = counted & (moved < wanted), counted & (moved > wanted + -wanted % 4)
    lost = short & ~other & (wanted - moved <= LARGEST_TLP)
    answer = found(
        read & (sized | counted), other | short | long,
        lambda row: (
            f"{name_of(batch, row)} tells {whole[row]:,} bytes of the {value[row]:,} that were stored"
            if other[row]
            else f"{name_of(batch, row)} moved {moved[row]:,} bytes of a value of {whole[row]:,} into {room[row]:,}"
        ),
    )  # fmt: skip
    unsure = lost | (other & reached_otherwise(batch))
    return replace(answer, severity=lambda row: "warning" if unsure[row] else "error")


@column_rule(
    "NVM21-K3.2.1-n1", table=TABLE, columns=(*KNOWN, "delete_errors"), spec="KV Command Set 1.1, 3.2.1",
    party="controller", local=False,
)  # fmt: skip
def absent_key_deleted(batch: pa.RecordBatch) -> Broken:
    """Delete of a key that does not exist fails, where the host has asked for that.

    Without EDNEK of the Key Value Configuration feature, such a Delete may succeed.

    Holds::

        1us key_value_commands opcode=0x10 key=6b31 existed=no basis=deleted delete_errors=yes sc=0x87

    Breaks::

        1us key_value_commands opcode=0x10 key=6b31 existed=no basis=deleted writer_id=4 delete_errors=yes sc=0

    Silent::

        1us key_value_commands opcode=0x10 key=6b31 existed=no basis=deleted sc=0

    Silent::

        1us key_value_commands opcode=0x10 key=6b31 existed=no basis=deleted delete_errors=no sc=0
    """
    asked = is_command(batch, KeyValue.DELETE)
    wanted = there(batch, "delete_errors") & (numbers(batch, "delete_errors") != 0)
    answer = by_key(
        batch,
        asked & wanted,
        asked & wanted & key_existed(batch, False),
        ended_with(batch),
        "the key is known not to exist",
    )
    unseen = int((asked & ~there(batch, "delete_errors")).sum())
    if not unseen:
        return answer
    return replace(answer, unseen=answer.unseen + unseen, reason="whether such a Delete is an error (EDNEK) is unknown")


@column_rule(
    "NVM21-K3.2.1-n2", table=TABLE, columns=KNOWN, spec="KV Command Set 1.1, 3.2.1", party="controller", local=False,
)  # fmt: skip
def deleted_key_still_there(batch: pa.RecordBatch) -> Broken:
    """A key that was deleted does not exist any more.

    Its value would come back to whoever asks next.

    Holds::

        1us key_value_commands opcode=2 key=6b31 existed=no basis=deleted writer_id=4 sc=0x87

    Breaks::

        1us key_value_commands opcode=2 key=6b31 existed=no basis=deleted writer_id=4 sc=0

    Breaks::

        1us key_value_commands opcode=0x14 key=6b31 existed=no basis=deleted writer_id=4 sc=0

    Silent::

        1us key_value_commands opcode=0x14 key=6b31 existed=no basis=emptied writer_id=4 sc=0
    """
    asked = is_command(batch, KeyValue.RETRIEVE, KeyValue.EXIST) & words(batch, "basis", ("deleted",))
    return by_key(batch, asked, asked & key_existed(batch, False), ended_with(batch), "the key was deleted")


@column_rule(
    "NVM21-K3.2.2-n1", table=TABLE, columns=KNOWN, spec="KV Command Set 1.1, 3.2.2", party="controller", local=False,
)  # fmt: skip
def existence_told_wrongly(batch: pa.RecordBatch) -> Broken:
    """Exist succeeds for a key that there is, and says that there is none for any other.

    It has nothing else to tell. Keys that were deleted, or whose Store was refused, have rules of their own.

    Holds::

        1us key_value_commands opcode=0x14 key=6b31 existed=yes basis=stored sc=0
        2us key_value_commands opcode=0x14 key=6b32 existed=no basis=emptied sc=0x87

    Breaks::

        1us key_value_commands opcode=0x14 key=6b31 existed=yes basis=stored writer_id=4 sc=0x87

    Breaks::

        1us key_value_commands opcode=0x14 key=6b31 existed=no basis=emptied writer_id=4 sc=0

    Silent::

        1us key_value_commands opcode=0x14 key=6b31 sc=0x87

    Silent::

        1us key_value_commands opcode=0x14 key=6b31 existed=yes basis=stored sc=0x83
    """
    asked = is_command(batch, KeyValue.EXIST) & ~words(batch, "basis", ("deleted", "refused"))
    existed = numbers(batch, "existed") != 0
    bad = np.where(existed, ended_with(batch, KEY_DOES_NOT_EXIST), ended_with(batch))
    return by_key(batch, asked, asked & there(batch, "existed"), bad, "the opposite is known of the key")


FLAWS = {
    "overrun": "wrote behind the host's buffer", "counted": "counts other keys than it returned",
    "repeated": "returned a key twice", "absent": "returned a key that does not exist",
}  # fmt: skip


@column_rule(
    "NVM21-K3.2.3-n1", table=TABLE, columns=(*WHAT, "keys_listed", "list_flaw", "list_told", "other_paths"),
    spec="KV Command Set 1.1, 3.2.3", party="controller", local=False,
)  # fmt: skip
def keys_listed_wrongly(batch: pa.RecordBatch) -> Broken:
    """A List returns keys that exist, each once, as many as it counts, and nothing behind the buffer.

    A host that walks the list would ask for keys that are not there, or never come to its end. What another layout of
    the list would explain, a count and a key that nobody named before, is a warning.

    Holds::

        1us key_value_commands opcode=6 keys_listed=3 sc=0

    Breaks::

        1us key_value_commands opcode=6 keys_listed=3 list_flaw=repeated key=6b31 sc=0

    Breaks::

        1us key_value_commands opcode=6 keys_listed=3 list_flaw=absent key=6b31 sc=0

    Breaks::

        1us key_value_commands opcode=6 keys_listed=3 list_flaw=counted sc=0

    Breaks::

        1us key_value_commands opcode=6 keys_listed=3 list_flaw=overrun sc=0

    Silent::

        1us key_value_commands opcode=6 sc=0
    """
    asked = is_command(batch, KeyValue.LIST) & ended_with(batch)
    unsure = (numbers(batch, "list_told") != 0) | words(batch, "list_flaw", ("counted",))
    unsure |= reached_otherwise(batch) & words(batch, "list_flaw", ("absent",))
    answer = found(
        asked & there(batch, "keys_listed"), there(batch, "list_flaw"),
        lambda row: f"{name_of(batch, row)} {FLAWS[batch.column('list_flaw')[row].as_py()]}",
        lambda row: "warning" if unsure[row] else "error",
    )  # fmt: skip
    unseen = int((asked & ~there(batch, "keys_listed")).sum())
    return replace(answer, unseen=unseen, reason="the data of the List were not seen")


@column_rule(
    "NVM21-K3.2-n2", table=TABLE, columns=WHAT, spec="KV Command Set 1.1, 3.2", party="controller", local=False,
)  # fmt: skip
def block_command_taken(batch: pa.RecordBatch) -> Broken:
    """A command for blocks that the Key Value Command Set does not have is refused.

    The namespace has no blocks that it could mean.

    Holds::

        1us key_value_commands opcode=8 sc=1

    Breaks::

        1us key_value_commands opcode=8 sc=0

    Breaks::

        1us key_value_commands opcode=5 sct=2 sc=0x85

    Silent::

        1us key_value_commands opcode=8 sc=0x0b

    Silent::

        1us key_value_commands opcode=0 sc=0
    """
    done = ended_with(batch) | (numbers(batch, "sct") == 2)
    return ends_wrongly(
        batch, is_command(batch, *NOT_SHARED), done,
        f"the namespace has the Key Value Command Set, where that is {INVALID_OPCODE.name}",
    )  # fmt: skip
