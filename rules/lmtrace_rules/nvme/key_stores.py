"""nvme-checklist G24: Store of the Key Value Command Set: sizes, options, and what is there afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import (
    INVALID_VALUE_SIZE,
    KEY_DOES_NOT_EXIST,
    KEY_EXISTS,
    KeyValue,
)
from lmtrace_rules.columns import found, numbers, there, words
from lmtrace_rules.nvme.key_values import (
    KNOWN,
    MUST_EXIST,
    MUST_NOT_EXIST,
    TABLE,
    WHAT,
    by_key,
    ended_with,
    ends_wrongly,
    is_command,
    key_existed,
    name_of,
)

SECTION = "G24 Key value"
PROFILE = ("nvme", "key-value")


@column_rule(
    "NVM21-K3.2.5-n1", table=TABLE, columns=(*WHAT, "host_bytes", "longest_value"), spec="KV Command Set 1.1, 3.2.5",
    party="controller", local=False,
)  # fmt: skip
def value_size_taken(batch: pa.RecordBatch) -> Broken:
    """A value that is longer than the namespace's format allows is not stored.

    No command could read it back.

    Holds::

        1us key_value_commands opcode=1 key=6b31 host_bytes=8192 longest_value=4096 sc=0x85

    Holds::

        1us key_value_commands opcode=1 key=6b31 host_bytes=4096 longest_value=4096 sc=0

    Breaks::

        1us key_value_commands opcode=1 key=6b31 host_bytes=8192 longest_value=4096 sc=0

    Breaks::

        1us key_value_commands opcode=1 key=6b31 host_bytes=4096 longest_value=4096 sc=0x85

    Silent::

        1us key_value_commands opcode=1 key=6b31 host_bytes=8192 sc=0

    Silent::

        1us key_value_commands opcode=1 key=6b31 host_bytes=8192 longest_value=4096 sc=0x86
    """
    size, longest = numbers(batch, "host_bytes"), numbers(batch, "longest_value")
    wrong = size > longest
    return ends_wrongly(
        batch, is_command(batch, KeyValue.STORE) & there(batch, "longest_value"),
        np.where(wrong, ended_with(batch), ended_with(batch, INVALID_VALUE_SIZE)),
        lambda row: f"its value has {size[row]:,} bytes of at most {longest[row]:,}",
    )  # fmt: skip


@column_rule(
    "NVM21-K3.2.5-n2", table=TABLE, columns=(*KNOWN, "options"), spec="KV Command Set 1.1, 3.2.5", party="controller",
    local=False,
)  # fmt: skip
def absent_key_overwritten(batch: pa.RecordBatch) -> Broken:
    """A Store that wants the key to exist is refused where it does not, and not for that where it does.

    The host relies on it to change what is there and create nothing.

    Holds::

        1us key_value_commands opcode=1 key=6b31 options=1 existed=no basis=deleted sc=0x87

    Holds::

        1us key_value_commands opcode=1 key=6b31 options=1 existed=yes basis=stored sc=0

    Breaks::

        1us key_value_commands opcode=1 key=6b31 options=1 existed=no basis=deleted writer_id=4 sc=0

    Breaks::

        1us key_value_commands opcode=1 key=6b31 options=1 existed=yes basis=stored writer_id=4 sc=0x87

    Silent::

        1us key_value_commands opcode=1 key=6b31 options=1 sc=0

    Silent::

        1us key_value_commands opcode=1 key=6b31 options=3 existed=no basis=deleted sc=0

    Silent::

        1us key_value_commands opcode=1 key=6b31 options=0 existed=no basis=deleted sc=0
    """
    asked = is_command(batch, KeyValue.STORE) & (numbers(batch, "options") & 3 == MUST_EXIST)
    existed = numbers(batch, "existed") != 0
    bad = np.where(existed, ended_with(batch, KEY_DOES_NOT_EXIST), ended_with(batch))
    return by_key(batch, asked, asked & there(batch, "existed"), bad, "it was to replace a value and the key is known")


@column_rule(
    "NVM21-K3.2.5-n3", table=TABLE, columns=(*KNOWN, "options"), spec="KV Command Set 1.1, 3.2.5", party="controller",
    local=False,
)  # fmt: skip
def existing_key_overwritten(batch: pa.RecordBatch) -> Broken:
    """A Store that wants no such key is refused where there is one, and not for that where there is none.

    Two hosts that want the same name would both believe that they have it.

    Holds::

        1us key_value_commands opcode=1 key=6b31 options=2 existed=yes basis=stored sc=0x89

    Holds::

        1us key_value_commands opcode=1 key=6b31 options=2 existed=no basis=deleted sc=0

    Breaks::

        1us key_value_commands opcode=1 key=6b31 options=2 existed=yes basis=stored writer_id=4 sc=0

    Breaks::

        1us key_value_commands opcode=1 key=6b31 options=2 existed=no basis=deleted writer_id=4 sc=0x89

    Silent::

        1us key_value_commands opcode=1 key=6b31 options=2 sc=0

    Silent::

        1us key_value_commands opcode=1 key=6b31 options=3 existed=yes basis=stored sc=0
    """
    asked = is_command(batch, KeyValue.STORE) & (numbers(batch, "options") & 3 == MUST_NOT_EXIST)
    existed = numbers(batch, "existed") != 0
    bad = np.where(existed, ended_with(batch), ended_with(batch, KEY_EXISTS))
    return by_key(batch, asked, asked & there(batch, "existed"), bad, "it was to make a new key and the key is known")


@column_rule(
    "NVM21-K3.2.5-n4", table=TABLE, columns=(*KNOWN, "host_bytes", "moved"), spec="KV Command Set 1.1, 3.2.5",
    party="controller", local=False,
)  # fmt: skip
def value_not_stored(batch: pa.RecordBatch) -> Broken:
    """A Store that succeeds has read the whole value once, and the key is there for Retrieve and Delete.

    A value that is taken in part, or under a name that nothing finds, is lost. One that is read twice as a whole is
    not; that is a warning.

    Holds::

        1us key_value_commands opcode=1 key=6b31 host_bytes=1000 moved=1000 sc=0
        2us key_value_commands opcode=2 key=6b31 host_bytes=4096 existed=yes basis=stored sc=0

    Breaks::

        1us key_value_commands opcode=1 key=6b31 host_bytes=1000 moved=512 sc=0

    Breaks::

        1us key_value_commands opcode=2 key=6b31 host_bytes=4096 existed=yes basis=stored writer_id=4 sc=0x87

    Breaks::

        1us key_value_commands opcode=0x10 key=6b31 existed=yes basis=stored writer_id=4 sc=0x87

    Silent::

        1us key_value_commands opcode=1 key=6b31 host_bytes=1000 sc=0

    Silent::

        1us key_value_commands opcode=1 key=6b31 host_bytes=1000 moved=0 sc=0x89

    Silent::

        1us key_value_commands opcode=2 key=6b31 host_bytes=4096 sc=0x87

    Silent::

        1us key_value_commands opcode=2 key=6b31 host_bytes=4096 existed=yes basis=refused sc=0x87
    """
    size, moved = numbers(batch, "host_bytes"), numbers(batch, "moved").astype(np.int64)
    stored = is_command(batch, KeyValue.STORE) & there(batch, "moved") & ended_with(batch)
    kept = ~words(batch, "basis", ("refused",))
    asked = is_command(batch, KeyValue.RETRIEVE, KeyValue.DELETE) & key_existed(batch, True) & kept
    gone = by_key(batch, asked, asked, ended_with(batch, KEY_DOES_NOT_EXIST), "the key is known to exist")
    answer = found(
        stored | asked, np.where(stored, moved != size, ended_with(batch, KEY_DOES_NOT_EXIST)),
        lambda row: (
            f"{name_of(batch, row)} moved {moved[row]:,} bytes of a value of {size[row]:,}"
            if stored[row] else gone.message(row)
        ),
    )  # fmt: skip
    again = stored & (size > 0) & (moved > size) & (moved % np.maximum(size, 1) == 0)
    known = gone.severity
    assert known is not None
    return replace(answer, severity=lambda row: "warning" if again[row] else "error" if stored[row] else known(row))


@column_rule(
    "NVM21-K3.2.5-n5", table=TABLE, columns=KNOWN, spec="KV Command Set 1.1, 3.2.5", party="controller", local=False,
)  # fmt: skip
def key_changed_by_refused_store(batch: pa.RecordBatch) -> Broken:
    """A Store that is refused for want of capacity leaves the key as it was: there, or not.

    The host still has the value that did not fit, and counts on the one before it.

    Holds::

        1us key_value_commands opcode=2 key=6b31 existed=yes basis=refused writer_id=4 sc=0

    Breaks::

        1us key_value_commands opcode=2 key=6b31 existed=yes basis=refused writer_id=4 sc=0x87

    Breaks::

        1us key_value_commands opcode=0x14 key=6b31 existed=no basis=refused writer_id=4 sc=0

    Silent::

        1us key_value_commands opcode=2 key=6b31 existed=yes basis=stored sc=0x87
    """
    asked = is_command(batch, KeyValue.RETRIEVE, KeyValue.EXIST) & words(batch, "basis", ("refused",))
    asked |= is_command(batch, KeyValue.DELETE) & words(batch, "basis", ("refused",)) & key_existed(batch, True)
    existed = numbers(batch, "existed") != 0
    bad = np.where(existed, ended_with(batch, KEY_DOES_NOT_EXIST), ended_with(batch))
    return by_key(batch, asked, asked & there(batch, "existed"), bad, "a Store was refused for want of capacity")
