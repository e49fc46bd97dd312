"""nvme-checklist G01: messages, digests, lengths, and what nobody sees."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, Severity, column_rule, not_a_rule
from lmtrace.spec.tlp_checks import Control, Header, Pairing
from lmtrace_rules.columns import bits, found, numbers, there, words
from lmtrace_rules.pcie.headers import MESSAGES, seen

SECTION = "G01 TLP header format"
PROFILE = "pcie"

SENT = ("kind", "direction", "damaged", "message_code", "permitted", "forbidden")
ASSERT, DEASSERT = range(0x20, 0x24), range(0x24, 0x28)
ERRORS = {0x30: Control.CORRECTABLE, 0x31: Control.NON_FATAL, 0x33: Control.FATAL}


def _messages(batch: pa.RecordBatch) -> np.ndarray:
    sound: np.ndarray = words(batch, "direction", ("upstream",)) & words(batch, "kind", MESSAGES)
    sound &= (numbers(batch, "damaged") == 0) & there(batch, "message_code")
    return sound


@column_rule(
    "PCIE-2.2.8.1-n1", table="tlps", columns=("kind", "direction", "damaged", "message_code", "pairing"),
    spec="PCIe Base 5.0, 2.2.8.1", party="controller", severity="warning", local=False,
)  # fmt: skip
def interrupt_line_changes(batch: pa.RecordBatch) -> Broken:
    """A message about an interrupt line says that it changed.

    A line that is asserted twice is deasserted once, and somebody misses the other. Only what follows within 1 ms is
    looked at, as a reset of the link deasserts every line without a message.

    Holds::

        1us tlps kind=Msg direction=upstream message_code=0x20 damaged=no

    Breaks::

        1us tlps kind=Msg direction=upstream message_code=0x20 damaged=no pairing=0x10000000
    """
    code = numbers(batch, "message_code")
    return found(
        _messages(batch) & (code >= ASSERT.start) & (code < DEASSERT.stop), bits(batch, "pairing", Pairing.UNCHANGED),
        lambda row: f"INT{'ABCD'[code[row] & 3]} was {'asserted' if code[row] in ASSERT else 'not asserted'} before",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.8.1-n2", table="tlps", columns=SENT, spec="PCIe Base 5.0, 2.2.8.1", party="controller", local=False
)
def interrupt_line_in_use(batch: pa.RecordBatch) -> Broken:
    """An interrupt line is asserted only without Interrupt Disable, MSI and MSI-X.

    The host does not listen there otherwise.

    Holds::

        1us tlps kind=Msg direction=upstream message_code=0x20 damaged=no permitted=4 forbidden=0

    Breaks::

        1us tlps kind=Msg direction=upstream message_code=0x20 damaged=no permitted=0 forbidden=4

    Silent::

        1us tlps kind=Msg direction=upstream message_code=0x24 damaged=no permitted=0 forbidden=4
    """
    code = numbers(batch, "message_code")
    applies = _messages(batch) & (code >= ASSERT.start) & (code < ASSERT.stop)
    return found(
        applies & (bits(batch, "permitted", Control.INTX) | bits(batch, "forbidden", Control.INTX)),
        bits(batch, "forbidden", Control.INTX),
        lambda row: f"INT{'ABCD'[code[row] & 3]} was asserted with interrupt lines disabled or MSI or MSI-X enabled",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.8-n2", table="tlps", columns=SENT, spec="PCIe Base 5.0, 6.2.4", party="controller", severity="warning",
    local=False,
)  # fmt: skip
def error_message_enabled(batch: pa.RecordBatch) -> Broken:
    """A function reports errors of a class only where that is enabled.

    The host has asked not to be told.

    Holds::

        1us tlps kind=Msg direction=upstream message_code=0x30 damaged=no permitted=0x1000 forbidden=0

    Breaks::

        1us tlps kind=Msg direction=upstream message_code=0x30 damaged=no permitted=0 forbidden=0x1000
    """
    code, sound = numbers(batch, "message_code"), _messages(batch)
    permitted, forbidden = numbers(batch, "permitted"), numbers(batch, "forbidden")
    due = np.zeros(len(code), np.int64)
    for value, control in ERRORS.items():
        due[code == value] = control
    return found(
        sound & ((permitted | forbidden) & due != 0), forbidden & due != 0,
        lambda row: f"error message {code[row]:02X}h was sent, and reports of its class are not enabled",
    )  # fmt: skip


@column_rule("PCIE-2.2.3-n1", table="tlps", columns=("kind", "header_flags", "damaged"), spec="PCIe Base 5.0, 2.7.1",
             party="both")  # fmt: skip
def digest_is_right(batch: pa.RecordBatch) -> Broken:
    """The digest of a TLP is the ECRC of what it carries.

    Something on the way changed it otherwise.

    Holds::

        1us tlps kind=MWr header_flags=0x48001 damaged=no

    Breaks::

        1us tlps kind=MWr header_flags=0x58001 damaged=no
    """
    return found(
        seen(batch) & bits(batch, "header_flags", Header.DIGEST_CHECKED),
        bits(batch, "header_flags", Header.DIGEST_WRONG),
        lambda row: f"the digest of a {batch.column('kind')[row]} is not its ECRC",
    )  # fmt: skip


@column_rule("PCIE-2.2.1-n2", table="tlps", columns=("kind", "header_flags", "length_dw"), spec="PCIe Base 5.0, 2.2.1",
             party="both")  # fmt: skip
def payload_as_long_as_said(batch: pa.RecordBatch) -> Broken:
    """A TLP with data has as many dwords of them as its Length says.

    A record of a packet may have been cut by whoever wrote it down; only a bus shows for sure where a TLP ends.

    Holds::

        1us tlps kind=MWr header_flags=0x40000 length_dw=4

    Breaks::

        1us tlps kind=MWr header_flags=0x60000 length_dw=4
    """
    length = numbers(batch, "length_dw")
    sure = bits(batch, "header_flags", Header.SHORT)

    def severity(row: int) -> Severity:
        return "error" if sure[row] else "info"

    return found(
        bits(batch, "header_flags", Header.SEEN) & (length > 0), bits(batch, "header_flags", Header.SHORT | Header.CUT),
        lambda row: f"a {batch.column('kind')[row]} ends before the {length[row]} dwords that its Length says",
        severity,
    )  # fmt: skip


not_a_rule(
    "PCIE-2.2.1-n1",
    "What begins with a Fmt and Type that no TLP has is taken for something else than a TLP, and is counted as trouble "
    "with its place: a capture does not tell a malformed TLP from what a recorder put beside TLPs.",
)
