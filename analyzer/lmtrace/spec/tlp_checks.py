"""What is noted of a TLP beside the fields of its row: bits of its header, what configuration says of its function,
what was found when completions were paired with requests."""

from __future__ import annotations

from enum import IntFlag


class Header(IntFlag):
    """Bits of ``header_flags``: what else the header of a TLP says (PCIe Base 5.0, 2.2)."""

    DIGEST = 1
    """TD: a digest follows the payload."""
    HINTS = 1 << 1
    """TH."""
    TRANSLATION = 1 << 2
    """AT 01b: translation request."""
    TRANSLATED = 1 << 3
    """AT 10b: translated. With TRANSLATION: 11b, which is reserved."""
    RESERVED = 1 << 4
    """A reserved bit is set."""
    BRIDGED = 1 << 5
    """BCM of a completion."""
    LENGTH = 1 << 6
    """The Length field is not zero although it is reserved."""
    ROUTING = 7 << 7
    """Routing of a message."""
    REBUILT = 1 << 10
    """The header is not that of the wire: a core wrote it anew, so that its size and reserved bits say nothing."""
    PREFIX = 1 << 11
    """TLP prefixes stood before the header."""
    PREFIX_UNKNOWN = 1 << 12
    """One of them is of no known type."""
    PREFIX_ORDER = 1 << 13
    """A local prefix stood behind an end-to-end one."""
    PASID = 1 << 14
    """One of them holds a PASID."""
    DIGEST_CHECKED = 1 << 15
    """The digest was there, and the TLP whole."""
    DIGEST_WRONG = 1 << 16
    """It is not the one that the TLP has."""
    SHORT = 1 << 17
    """The payload ended on the wire before its Length."""
    SEEN = 1 << 18
    """The header was seen: without this nothing is known."""
    CUT = 1 << 19
    """The record of it ended before its Length, and says that this is all of it."""


ROUTING_SHIFT = 7


class Pairing(IntFlag):
    """Bits of ``pairing``: what the requests and completions before a TLP say of it (2.2.6.2, 2.2.9, 2.3.1)."""

    REQUEST = 1
    """A request that is not posted."""
    ANSWER = 1 << 1
    """A completion whose request was seen."""
    FIRST = 1 << 2
    """The first completion of its request."""
    READ = 1 << 3
    """Its request is a memory read."""
    CONFIG = 1 << 4
    """Its request is a configuration request."""
    DATA_DUE = 1 << 5
    """Its request asks for data."""
    FLUSH = 1 << 6
    """Its request is a read without enabled bytes."""
    SURE = 1 << 7
    """The capture cannot have lost a TLP: a waveform shows every clock."""
    LAST = 1 << 8
    """It completes its request."""

    TAG_IN_USE = 1 << 10
    """The tag of this request was in use."""
    ORPHAN = 1 << 11
    """Its requester and tag were used before, but nothing is outstanding."""
    AFTER_ERROR = 1 << 12
    """The request before it of that requester and tag ended with an error."""
    COPIED = 1 << 13
    """Traffic class, relaxed ordering or no snoop are not those of the request."""
    DATA = 1 << 14
    """It brings data where none are due, or none where they are."""
    BYTE_COUNT = 1 << 15
    """The byte count is neither what is left nor what the lower address says."""
    LOWER_ADDRESS = 1 << 16
    """The lower address is not that of the next byte."""
    HOLE = 1 << 17
    """Byte count and lower address agree, and leave bytes out that were due before."""
    BACKWARDS = 1 << 18
    """Byte count and lower address agree, and name bytes that came already."""
    UNALIGNED = 1 << 19
    """It ends neither with its request nor at a multiple of 64 bytes (128 of a device)."""
    UNALIGNED_128 = 1 << 20
    """It ends neither with its request nor at a multiple of 128 bytes."""
    SPLIT = 1 << 21
    """It brings a part of a read that lies between two multiples of 64 bytes (128 of a device)."""
    SPLIT_128 = 1 << 22
    """It brings a part of a read that lies between two multiples of 128 bytes."""
    TOTAL = 1 << 23
    """With it the data are complete by the byte count, but more or fewer came."""
    COMPLETER = 1 << 24
    """The completer is not the function that a configuration request was for."""
    LATE = 1 << 25
    """More than 50 ms passed since the request."""
    UNANSWERED = 1 << 26
    """The capture goes on for more than 50 ms, and no completion came."""
    PARTLY = 1 << 27
    """With TAG_IN_USE: a part of the answer to the request before it had come."""
    UNCHANGED = 1 << 28
    """A message about an interrupt line that was as it says already, by a message of the last millisecond."""


class Control(IntFlag):
    """Bits of ``permitted`` and ``forbidden``: what configuration lets a function do (7.5, 9.3, 10.5).

    A bit in neither is not known, as while a configuration write is on its way.
    """

    BUS_MASTER = 1
    """Command, bit 2."""
    MEMORY_SPACE = 1 << 1
    """Command, bit 1; VF MSE for a VF."""
    INTX = 1 << 2
    """No Interrupt Disable, and neither MSI nor MSI-X enabled."""
    RELAXED_ORDERING = 1 << 3
    """Device Control, bit 4."""
    NO_SNOOP = 1 << 4
    """Device Control, bit 11."""
    EXTENDED_TAG = 1 << 5
    """Device Control, bit 8."""
    TEN_BIT_TAG = 1 << 6
    """Device Control 2, bit 12."""
    IDO_REQUEST = 1 << 7
    """Device Control 2, bit 8."""
    IDO_COMPLETION = 1 << 8
    """Device Control 2, bit 9."""
    TRANSLATION = 1 << 9
    """ATS Control, bit 15."""
    HINTS = 1 << 10
    """TPH Requester Control, bits 9:8."""
    PASID = 1 << 11
    """PASID Control, bit 0."""
    CORRECTABLE = 1 << 12
    """Device Control, bit 0."""
    NON_FATAL = 1 << 13
    """Device Control, bit 1, or SERR# Enable."""
    FATAL = 1 << 14
    """Device Control, bit 2, or SERR# Enable."""
    EXISTS = 1 << 15
    """The function, or VF Enable and NumVFs for a VF."""
    OPERATIONAL = 1 << 16
    """No Function Level Reset is under way."""
    AWAKE = 1 << 17
    """PowerState is not D3hot."""
    NO_DIGEST = 1 << 18
    """ECRC Generation Enable is 0."""
    IDENTITY = 1 << 19
    """The function number is one that configuration requests have found."""
    DEFAULT_TIMEOUT = 1 << 20
    """Completion Timeout Value is the default, 50 us to 50 ms, and it is not disabled."""
    VIRTUAL = 1 << 21
    """The function is a VF."""
    OTHER_CLASSES = 1 << 22
    """A traffic class but 0 is mapped to an enabled virtual channel."""
