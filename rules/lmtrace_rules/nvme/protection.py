"""nvme-checklist G20: end-to-end protection information of the blocks that commands move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Nvm
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.pointers import name, succeeded

SECTION = "G20 NVM command set"
PROFILE = ("nvme", "blocks", "protection")
SPEC = "NVM Command Set 1.2, 5.3"
WHO = ("sqid", "cid", "opcode", "nsid", "cdw12", "protection_enabled", "sct", "sc")
MEDIA = 2
ACTION, GUARD, APPLICATION, REFERENCE = 1 << 29, 1 << 28, 1 << 27, 1 << 26
"""PRACT and PRCHK in CDW12."""
UNSEEN = "the capture does not show all bytes of the blocks and of their tags, or not their format"
CHECKS = (
    ("guards_fit", GUARD, 0x82, "guard"), ("application_tags_fit", APPLICATION, 0x83, "application tag"),
    ("reference_tags_fit", REFERENCE, 0x84, "reference tag"),
)  # fmt: skip
"""What is found of the tags that moved, the bit that has it checked, the media error, and its name."""


def _unseen(batch: pa.RecordBatch, opcodes: tuple[int, ...], asked: int, judged: np.ndarray) -> int:
    """Return how many commands had tags checked that moved, and are not judged."""
    word = numbers(batch, "cdw12")
    protected = there(batch, "protection_enabled", "sct") & (numbers(batch, "protection_enabled") != 0)
    moved = np.isin(numbers(batch, "opcode"), np.array(opcodes)) & (word & ACTION == 0)
    return int(np.count_nonzero(protected & moved & (word & asked != 0) & ~judged))


@column_rule(
    "NVM21-N5.3-n1", table="transactions", columns=(*WHO, *(fact for fact, *_ in CHECKS)), spec=SPEC,
    party="controller", local=False,
)  # fmt: skip
def wrong_tag_taken(batch: pa.RecordBatch) -> Broken:
    """A command whose guards, application tags or reference tags do not fit fails, if it has them checked.

    PRCHK names what is checked. An application tag of FFFFh, for type 3 with a reference tag of FFFFFFFFh, exempts its
    block. Guards that a read returns are NVM21-N5.3-n3's. A write fails for a tag only if that one does not fit.

    Holds::

        1us transactions sqid=1 cid=5 opcode=1 nsid=1 cdw12=0x10000007 guards_fit=no sct=2 sc=0x82

    Holds::

        1us transactions sqid=1 cid=5 opcode=1 nsid=1 cdw12=0x18000007 guards_fit=no application_tags_fit=no sct=2 \
            sc=0x83

    Breaks::

        1us transactions sqid=1 cid=5 opcode=1 nsid=1 cdw12=0x10000007 guards_fit=no sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 nsid=1 cdw12=0x08000007 application_tags_fit=no sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=1 nsid=1 cdw12=0x14000007 guards_fit=no reference_tags_fit=yes sct=2 \
            sc=0x84

    Silent::

        1us transactions sqid=1 cid=5 opcode=1 nsid=1 cdw12=0x04000007 guards_fit=no reference_tags_fit=yes sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=1 nsid=1 cdw12=0x1c000007 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=1 nsid=1 cdw12=0x10000007 guards_fit=no sct=0 sc=0x81
    """
    opcode, asked, code = numbers(batch, "opcode"), numbers(batch, "cdw12"), numbers(batch, "sc")
    done, status = succeeded(batch), there(batch, "sct", "sc")
    media = status & (numbers(batch, "sct") == MEDIA)
    applies, bad = np.zeros(batch.num_rows, np.bool_), np.zeros(batch.num_rows, np.bool_)
    mismatched: dict[str, np.ndarray] = {}
    for fact, bit, error, tag in CHECKS:
        judged = status & there(batch, fact) & (asked & bit != 0)
        if bit == GUARD:
            judged &= opcode != Nvm.READ
        fits = numbers(batch, fact) != 0
        mismatched[tag] = judged & ~fits
        applies |= judged
        bad |= (judged & ~fits & done) | (judged & fits & media & (code == error) & (opcode == Nvm.WRITE))

    def message(row: int) -> str:
        wrong = " and ".join(tag for tag, rows in mismatched.items() if rows[row])
        if done[row]:
            return f"{name(batch, row)} succeeded, though its {wrong} does not fit"
        named = next(tag for _, _, error, tag in CHECKS if error == code[row])
        return f"{name(batch, row)} failed for its {named}, which fits"

    answer = found(applies, bad, message)
    writers = _unseen(batch, (Nvm.WRITE, Nvm.COMPARE), GUARD | APPLICATION | REFERENCE, applies)
    readers = _unseen(batch, (Nvm.READ,), APPLICATION | REFERENCE, applies | ~done)
    return replace(answer, unseen=writers + readers, reason=UNSEEN)


@column_rule(
    "NVM21-N5.3-n3", table="transactions", columns=(*WHO, "guards_fit"), spec=SPEC, party="controller", local=False,
)  # fmt: skip
def unfitting_guard_returned(batch: pa.RecordBatch) -> Broken:
    """The guards that a read with guard checking returns are the CRC of its blocks.

    A host may have written others without having them checked, so reads without the check are not judged.

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 nsid=1 cdw12=0x10000007 guards_fit=yes sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 nsid=1 cdw12=0x10000007 guards_fit=no sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 nsid=1 cdw12=0x0c000007 guards_fit=no sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 nsid=1 cdw12=0x10000007 guards_fit=no sct=2 sc=0x82
    """
    asked = numbers(batch, "cdw12") & GUARD != 0
    applies = (numbers(batch, "opcode") == Nvm.READ) & asked & there(batch, "guards_fit") & succeeded(batch)
    answer = found(
        applies, numbers(batch, "guards_fit") == 0,
        lambda row: f"{name(batch, row)} returned blocks of namespace {numbers(batch, 'nsid')[row]} with guards that "
        "do not fit them, though they were to be checked",
    )  # fmt: skip
    return replace(answer, unseen=_unseen(batch, (Nvm.READ,), GUARD, applies | ~succeeded(batch)), reason=UNSEEN)


@column_rule(
    "NVM21-N5.3-n4", table="transactions", columns=(*WHO, "metadata_made", "metadata_bytes", "buffer_shared"),
    spec=SPEC, party="controller", local=False,
)  # fmt: skip
def made_metadata_moved(batch: pa.RecordBatch) -> Broken:
    """With PRACT no metadata move where they are nothing but protection information.

    The controller makes and strips it. Where there is more of metadata, all of them move, and NVM21-Xlen-n2 counts
    them; where they are part of the data, NVM21-Xlen-n1 does. It is the host that asks and the controller that moves.

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 nsid=1 cdw12=0x20000007 metadata_made=yes metadata_bytes=0 sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 nsid=1 cdw12=0x20000007 metadata_made=yes metadata_bytes=64 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 nsid=1 cdw12=0x20000007 metadata_made=no metadata_bytes=128 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 nsid=1 cdw12=0x20000007 metadata_made=yes metadata_bytes=64 \
            buffer_shared=yes sct=0 sc=0
    """
    made = there(batch, "metadata_made") & (numbers(batch, "metadata_made") != 0)
    alone = ~there(batch, "buffer_shared") | (numbers(batch, "buffer_shared") == 0)
    moved = numbers(batch, "metadata_bytes")
    return found(
        made & alone & there(batch, "metadata_bytes", "sct"), moved > 0,
        lambda row: f"{int(moved[row]):,} bytes of metadata of {name(batch, row)} moved, which the controller makes "
        "itself",
    )  # fmt: skip
