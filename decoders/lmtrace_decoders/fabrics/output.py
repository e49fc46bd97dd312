"""The tables of a network capture: transactions, children, controllers, queues, properties, PDUs."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import numpy as np

from lmtrace.spec.nvme import Property
from lmtrace.stage import Link
from lmtrace.store import Capture, Store
from lmtrace_decoders.fabrics import records
from lmtrace_decoders.fabrics.state import Association, Command, Connection
from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.announcements import MECHANISMS
from lmtrace_decoders.nvme.command import OVERLAPS
from lmtrace_decoders.nvme.controller_memory import LACKS
from lmtrace_decoders.nvme.spool import Spill, write_batches

CHILD_KINDS = (*spool.CHILD_KINDS, "capsule", "r2t", "response")
CAPSULE, R2T, RESPONSE = (CHILD_KINDS.index(name) for name in ("capsule", "r2t", "response"))
DATA = spool.DATA_CHILD
CHILD = np.dtype([*spool.CHILD.descr, ("source_offset", "<i8")])
_SQE, _CQE = struct.Struct("<IIIIQQQ6I"), struct.Struct("<IIHHHH")
_NO_RESULT = (-1,) * 9
_NAMES = spool.TRANSACTION.names or ()
_NOT_DUE = (-1,) * (len(_NAMES) - _NAMES.index("last_tlp_id") - 1)
_PROPERTIES = {int(one): one.name for one in Property}


class Output:
    """The rows of one capture."""

    def __init__(self, store: Store, capture: Capture) -> None:
        self.store, self.capture = store, capture
        self.links: list[str] = []
        self.texts: list[str] = []
        self.first_transaction = store.writer("transactions").count
        self.count = 0
        self._counts: Counter[int] = Counter()
        """PDUs of each connection."""
        self._transactions = Spill(store.folder / "fabrics.transactions.spill", spool.TRANSACTION)
        self._children = Spill(store.folder / "fabrics.children.spill", CHILD)
        self._pdus = Spill(store.folder / "fabrics.pdus.spill", records.RECORD)

    def link(self, name: str, text: str) -> int:
        """Return the number of a link."""
        if name not in self.links:
            self.links.append(name)
            self.texts.append(text)
        return self.links.index(name)

    def number(self) -> int:
        """Return the number of the next command of the capture."""
        self.count += 1
        return self.count - 1

    def pdus(self, part: np.ndarray) -> None:
        """Add records of PDUs."""
        self._pdus.extend(part)
        numbers, counts = np.unique(part["connection"], return_counts=True)
        self._counts.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))

    def child(self, command: Command, kind: int, row: Any, address: int, length: int, tlp: int) -> None:
        """Add one PDU of a command. ``row`` has its times and packet."""
        self._children.append((
            self.first_transaction + command.number, kind, row.time, row.end, address, length, tlp, tlp, 1.0,
            row.packet,
        ))  # fmt: skip

    def transaction(self, command: Command, outcome: int) -> None:
        """Add a command whose life is over."""
        connection, sqe, cqe = command.connection, command.sqe, command.cqe
        association = connection.association
        cdw0, nsid, cdw2, cdw3, mptr, dptr1, dptr2, *dwords = _SQE.unpack(sqe)
        result = _NO_RESULT
        if cqe is not None:
            dw0, dw1, head, _, _, status = _CQE.unpack(cqe)
            result = (status >> 9 & 7, status >> 1 & 0xFF, status >> 15, status >> 14 & 1, dw0, dw1, head, -1, -1)
        qid = -1 if connection.qid is None else connection.qid
        self._transactions.put(command.number, (
            max(connection.link, 0), -1, association.number if association is not None else -1,
            association.life.epoch if association is not None else 0, qid, qid, cdw0 >> 16, cdw0 & 0xFF, nsid,
            command.csi, sqe[1] >> 6, sqe[1] & 3, dptr1, dptr2, mptr, cdw0, cdw2, cdw3, *dwords, -1, -1, -1,
            command.time, -1, command.first_data_ps, command.last_data_ps, command.cqe_ps, -1, -1, -1, -1, *result,
            -1 if command.expected is None else command.expected, command.moved_out, command.moved_in, outcome,
            int(command.sure and command.moved_out >= command.asked_out), spool.SEEN, command.tlp, command.cqe_tlp,
            command.tlp, max(command.last_tlp, command.tlp), *_NOT_DUE,
        ))  # fmt: skip
        if command.buffer is not None and (command.buffer.ranges or command.expected):
            self._data(command, command.buffer)

    def _data(self, command: Command, pieces: Any) -> None:
        self.store.writer("command_data").add({
            "transaction_id": self.first_transaction + command.number, "to_device": command.moves == 1,
            "size": max(command.expected or 0, len(pieces.data)), "data": bytes(pieces.data),
            "seen": [at for pair in pieces.ranges for at in pair], "learnt": "seen",
        })  # fmt: skip

    def property(
        self, command: Command, write: bool, offset: int, size: int, value: int | None, status: int | None
    ) -> None:
        """Add one Property Get or Set that completed."""
        connection = command.connection
        association = connection.association
        self.store.writer("properties").add({
            "capture": self.capture.name, "link": self.links[connection.link], "function": None,
            "controller": association.cntlid if association is not None else None,
            "epoch": association.life.epoch if association is not None else 0, "time_ps": command.cqe_ps,
            "end_ps": command.cqe_ps, "write": write, "offset": offset,
            "name": _PROPERTIES.get(offset & ~3, "reserved"), "size": size, "value": value, "status": status,
            "tlp_id": command.cqe_tlp, "completion_tlp_id": command.cqe_tlp,
            "learnt": "seen" if association is not None and association.known else "inferred",
        })  # fmt: skip

    def controllers(self, association: Association) -> None:
        """Add every life of a controller."""
        writer = self.store.writer("controllers")
        for life in association.lives:
            writer.add({
                "capture": self.capture.name, "link": self.links[association.link], "function": None,
                "epoch": life.epoch, "controller": association.cntlid, "io_sqe_size": 64, "io_cqe_size": 16,
                "enabled_ps": life.enabled_ps,
                "enabled_tlp_id": life.enabled, "ended_ps": life.ended_ps, "ended_by": life.ended_by,
                "ended_tlp_id": life.ended, "first_tlp_id": life.first,
                "learnt": "seen" if association.known else "inferred",
                "confidence": 1.0 if association.known else 0.8,
            })  # fmt: skip

    def queue(self, connection: Connection, time: int | None, tlp: int | None, why: str | None) -> None:
        """Add the two queues of a connection, whose life is over or that live at the end of the capture."""
        association = connection.association
        if association is None or connection.qid is None:
            return
        created = connection.created
        for kind in ("CQ", "SQ"):
            self.store.writer("queues").add({
                "capture": self.capture.name, "link": self.links[connection.link], "function": None,
                "controller": association.cntlid, "epoch": association.life.epoch, "kind": kind,
                "qid": connection.qid, "size": connection.slots, "entry_size": 64 if kind == "SQ" else 16,
                "cqid": connection.qid if kind == "SQ" else None,
                "origin": "connect" if created is not None else "inferred", "first_head": 0, "first_tail": 0,
                "created_ps": created[0] if created is not None else None,
                "created_tlp_id": created[1] if created is not None else None, "deleted_ps": time,
                "deleted_tlp_id": tlp, "ended_by": why, "learnt": "seen" if created is not None else "inferred",
                "confidence": 1.0 if created is not None else 0.8,
            })  # fmt: skip

    def finish(self, connections: list[Connection], associations: list[Association]) -> None:
        """Write everything that waits."""
        cntlid = {
            (one.link, one.number): one.cntlid for one in associations if one.cntlid is not None
        }  # fmt: skip
        words = {
            "outcome": spool.OUTCOMES, "learnt": spool.LEARNT, "interrupt_due": MECHANISMS, "buffer_overlaps": OVERLAPS,
            "cmb_lacks": LACKS,
        }  # fmt: skip
        write_batches(
            self.store, "transactions", self._transactions, self.capture.name, self.links, words, cntlid,
            functions=False,
        )  # fmt: skip
        write_batches(
            self.store, "children", self._children, self.capture.name, self.links, {"kind": CHILD_KINDS}, cntlid
        )
        for association in associations:
            self.controllers(association)
        places = {
            one.number: (
                self.links[one.link], one.association.cntlid if one.association is not None else None,
            ) for one in connections
        }  # fmt: skip
        texts = [one.text for one in connections]
        records.write(self.store, self.capture.name, self._pdus.batches(), self.capture.first_tlp, texts, places)
        self._pdus.close()
        for one in connections:
            self.capture.units[self.links[one.link]] += self._counts[one.number]
        self.capture.links = [Link(name, text) for name, text in zip(self.links, self.texts, strict=True)]
