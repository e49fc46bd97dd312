"""Digests of the blocks that commands moved, from the data TLPs of just these commands.

A block's digest is a sum over its bytes, each times a number of its place, so that TLPs may come in any order and
split anywhere; it counts only where every byte came once. It tells damage, not malice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmtrace.arrow import to_numpy
from lmtrace.native import njit
from lmtrace.spec.pcie import Kind
from lmtrace.stage import Flag
from lmtrace.store import Store
from lmtrace_decoders.both_ends.ends import numbers

MOST_TLPS = 1 << 22
"""Data TLPs of copies that are looked at; with more of them nothing is said about what they carried."""
MOST_BLOCK = 1 << 17
_CHUNK = 1 << 15
_NEVER = -1 << 40
"""Bytes covered of a block with damage, which no further bytes make whole."""
_DAMAGED = Flag.POISONED | Flag.UNKNOWN_BITS | Flag.CUT
_CARRIERS = np.array([int(Kind.MWr), int(Kind.CplD)], np.uint8)


def weights(size: int) -> np.ndarray:
    """Return the number of each place in a block: SplitMix64 of the place, made odd."""
    value = (np.arange(1, size + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ value >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ value >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return (value ^ value >> np.uint64(31)) | np.uint64(1)


def digest_of(data: bytes) -> int:
    """Return the digest of one block."""
    values = np.frombuffer(data, np.uint8).astype(np.uint64) + np.uint64(1)
    return int((values * weights(len(data))).sum(dtype=np.uint64))


@njit(cache=True)
def _add(payload, starts, counts, offsets, firsts, sizes, limits, table, digests, covered):  # type: ignore[no-untyped-def]
    """Add the bytes of TLPs to the digests of the blocks they lie in."""
    for i in range(len(starts)):
        size, offset = sizes[i], offsets[i]
        count = min(counts[i], limits[i] - offset)
        slot, place = firsts[i] + offset // size, offset % size
        total = np.uint64(0)
        done = 0
        for k in range(count):
            total += (np.uint64(payload[starts[i] + k]) + np.uint64(1)) * table[place]
            place += 1
            done += 1
            if place == size:
                digests[slot] += total
                covered[slot] += done
                total = np.uint64(0)
                done, place = 0, 0
                slot += 1
        if done:
            digests[slot] += total
            covered[slot] += done


@dataclass(slots=True)
class Blocks:
    """The blocks of some commands, one after the other: ``first`` is the place of each command's first one."""

    first: np.ndarray
    digest: np.ndarray
    known: np.ndarray
    """Whether every byte of a block was seen once."""


def block_digests(store: Store, ids: np.ndarray, blocks: np.ndarray, sizes: np.ndarray) -> Blocks:
    """Return the digests of the blocks that commands moved.

    ``ids`` are transactions in ascending order, ``blocks`` how many blocks each moved, ``sizes`` the bytes of one,
    0 where that is not known.
    """
    first = np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64)
    digests, covered = np.zeros(int(first[-1]), np.uint64), np.zeros(int(first[-1]), np.int64)
    wanted = (sizes > 0) & (sizes <= MOST_BLOCK)
    if wanted.any():
        table = weights(int(sizes[wanted].max()))
        found = store.read(
            "tlp_transactions", ("tlp_id", "transaction_id", "offset"),
            [("kind", "==", "data"), ("transaction_id", "in", ids[wanted].tolist())],
        )  # fmt: skip
        if found.num_rows <= MOST_TLPS:
            tlps, offsets = to_numpy(found.column("tlp_id")).astype(np.int64), numbers(found, "offset")
            owner = np.searchsorted(ids, to_numpy(found.column("transaction_id")).astype(np.int64))
            order = np.argsort(tlps, kind="stable")
            _walk(store, tlps[order], offsets[order], owner[order], first, sizes, blocks, table, digests, covered)
    return Blocks(first, digests, covered == np.repeat(np.maximum(sizes, 1), blocks))


def _walk(
    store: Store, tlps: np.ndarray, offsets: np.ndarray, owner: np.ndarray, first: np.ndarray, sizes: np.ndarray,
    blocks: np.ndarray, table: np.ndarray, digests: np.ndarray, covered: np.ndarray,
) -> None:  # fmt: skip
    """Go through the TLPs in their order, some at a time."""
    at = 0
    while at < len(tlps):
        start = int(tlps[at])
        end = int(np.searchsorted(tlps, start + _CHUNK))
        rows = store.tlps(start, int(tlps[end - 1]) + 1)
        base, payload = store.payload_span(rows)
        mine = rows[tlps[at:end] - start]
        lead, count = _carried(mine)
        keep = np.isin(mine["kind"], _CARRIERS) & (mine["status"] == 0) & (offsets[at:end] >= 0) & (count > 0)
        keep &= offsets[at:end] < (sizes * blocks)[owner[at:end]]
        bad = keep & (mine["flags"] & _DAMAGED != 0)
        who = owner[at:end][keep]
        _add(
            payload, (mine["payload_start"] - base + lead)[keep], count[keep], offsets[at:end][keep], first[who],
            sizes[who], (sizes * blocks)[who], table, digests, covered,
        )  # fmt: skip
        who, place = owner[at:end][bad], offsets[at:end][bad]
        slot, last = place // sizes[who], np.minimum((place + count[bad] - 1) // sizes[who], blocks[who] - 1)
        for step in range(int((last - slot).max(initial=-1)) + 1):
            hit = slot + step <= last
            covered[(first[who] + slot + step)[hit]] = _NEVER
        at = end


def _carried(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes to skip at the start of each payload, and the data bytes that follow (PCIe Base 5.0, 2.2.5)."""
    writes = rows["kind"] == int(Kind.MWr)
    be = rows["first_be"].astype(np.int64)
    lead = np.where(be & 1, 0, np.where(be & 2, 1, np.where(be & 4, 2, np.where(be & 8, 3, 0))))
    last = np.where(rows["length_dw"] == 1, be, rows["last_be"].astype(np.int64))
    tail = np.where(last & 8, 0, np.where(last & 4, 1, np.where(last & 2, 2, np.where(last & 1, 3, 0))))
    skip = np.where(writes, lead, rows["lower_address"] & 3).astype(np.int64)
    count = rows["payload_bytes"].astype(np.int64) - skip - np.where(writes, tail, 0)
    return skip, np.where(writes, count, np.minimum(count, rows["byte_count"].astype(np.int64)))
