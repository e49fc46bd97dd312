"""The executable model: what it puts on the wire is legal, and agrees with what it says it did."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from struct import unpack

import pytest

import lmtrace_samples
from lmtrace.scenario import Options, WireTlp, scenarios
from lmtrace.spec.pcie import Direction
from lmtrace_samples.choices import Choices
from lmtrace_samples.record import Done, Record

NAMES = [
    "log-full", "log-of-all-kinds", "manager-reset", "memory-tracking", "memory-tracking-refusals",
    "memory-tracking-reset", "memory-tracking-several", "migration", "migration-two-captures", "migrations-at-once",
    "migrations-in-a-row", "plain-io", "random-migration", "refusals", "reset-in-flow", "reset-while-suspended",
    "rollback", "sanitize", "state-in-one", "state-in-pieces", "stress", "subsystem-reset",
]  # fmt: skip
SEEDS = (1, 2, 3, 8)
FAULTS = [(name, fault) for name, one in scenarios().items() for fault in one.faults]
EVENT_REQUEST = 0x0C
LARGE = {"stress": 10_000, "random-migration": 10_000, "protected-blocks": 8_000}


class Wire:
    """A reader of TLPs that shares nothing with the writer: header fields by hand, straight from the bytes."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.time = 0
        self.open: dict[tuple[str, int, int, int], list[int]] = {}
        self.writes: dict[tuple[str, int, int], tuple[int, bytes]] = {}
        self.phases: dict[tuple[str, int], int] = {}
        self.completions = 0
        self.wide = self.narrow = 0
        self.at: dict[tuple[str, int], list[bytes]] = {}

    def take(self, tlp: WireTlp) -> None:
        assert tlp.time_ps >= self.time
        self.time = tlp.time_ps
        data, head = tlp.data, tlp.data[0]
        form, kind = head >> 5, head & 0x1F
        assert form < 4
        header = 16 if form & 1 else 12
        count = unpack(">H", data[2:4])[0] & 0x3FF
        assert len(data) == header + (4 * (count or 1024) if form & 2 else 0)
        if kind == 0x0A:
            self._completion(tlp, form)
        elif kind == 0x00:
            self._memory(tlp, form, header, count)
        else:
            assert kind == 0x04 and form in (0, 2) and count == 1
            self._ask(tlp, 4, 0)

    def _ask(self, tlp: WireTlp, length: int, address: int) -> None:
        requester, tag = unpack(">HB", tlp.data[4:7])
        key = (tlp.link, tlp.direction, requester, tag)
        assert key not in self.open, f"tag {tag} of {requester:04x} used twice"
        self.open[key] = [length, address, 1]

    def _memory(self, tlp: WireTlp, form: int, header: int, count: int) -> None:
        data = tlp.data
        first, last = data[7] & 15, data[7] >> 4
        address = int.from_bytes(data[8:header], "big")
        assert address & 3 == 0
        if form & 1:
            self.wide += 1
            assert address >= 1 << 32
        else:
            self.narrow += 1
        assert (last == 0) == (count == 1) and first
        assert address % 4096 + 4 * count <= 4096
        start = address + (first & -first).bit_length() - 1
        end = address + 4 * count - 4 + (last or first).bit_length()
        if form & 2:
            assert 4 * count <= self.choices.mps
            if tlp.direction == Direction.UPSTREAM:
                self.at.setdefault((tlp.link, tlp.time_ps), []).append(data)
        else:
            assert 4 * count <= self.choices.mrrs
            self._ask(tlp, end - start, start)

    def _completion(self, tlp: WireTlp, form: int) -> None:
        word, requester, tag, lower = unpack(">HHBB", tlp.data[6:12])
        key = (tlp.link, 1 - tlp.direction, requester, tag)
        left, address, first = self.open[key]
        if word >> 13 or not form & 2:
            del self.open[key]
            return
        payload = len(tlp.data) - 12 - address % 4
        assert (word & 0xFFF or 4096) == left
        assert lower == address & 0x7F
        boundary = self.choices.boundary if tlp.direction == Direction.DOWNSTREAM else 128
        done = min(payload, left)
        assert done == left or (address + done) % boundary == 0
        assert 4 * (len(tlp.data) // 4 - 3) <= self.choices.mps
        if not first:
            self.completions += 1
        if done == left:
            del self.open[key]
        else:
            self.open[key] = [left - done, address + done, 0]


def read(name: str, seed: int, fault: str | None = None) -> tuple[list[Wire], Record]:
    captures, record = lmtrace_samples.play(name, Options(seed, None, fault))
    wires = []
    for tlps in captures.values():
        wire = Wire(Choices.draw(seed))
        for tlp in tlps:
            wire.take(tlp)
        wires.append(wire)
    return wires, record


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_clean_run_is_legal(name: str, seed: int) -> None:
    wires, record = read(name, seed)
    for wire in wires:
        assert not wire.open
        assert wire.completions and wire.wide and wire.narrow
    assert record.verified and not record.mismatches and not record.surprises
    lost = [done for done in record.outstanding() if done.opcode != EVENT_REQUEST]
    if name != "reset-while-suspended":
        assert not lost
    _check_completions(wires, record.commands)


def _check_completions(wires: list[Wire], commands: Iterable[Done]) -> None:
    """Every recorded completion is one write of 16 bytes whose phase tag differs from what its slot held."""
    phases: dict[tuple[int, int], int] = {}
    posted: list[tuple[int, int, int, Done]] = []
    for done in commands:
        if done.cqe_ps is None or done.status is None:
            continue
        word = done.status.sc << 1 | done.status.sct << 9 | done.phase
        entry = b"".join(
            value.to_bytes(size, "little")
            for value, size in (
                (done.dw0, 4), (done.dw1, 4), (done.sqhd, 2), (done.sqid, 2), (done.cid, 2), (word, 2),
            )
        )  # fmt: skip
        written = [data for wire in wires for data in wire.at.get((done.link, done.cqe_ps), []) if data[-16:] == entry]
        assert len(written) == 1
        address = int.from_bytes(written[0][8:-16], "big")
        posted.append((done.cqe_ps, address, done.phase, done))
    for _, address, phase, done in sorted(posted, key=lambda one: one[:2]):
        key = (0, address)
        assert phases.get(key, 0) != phase, done
        phases[key] = phase


def test_every_scenario_is_there() -> None:
    assert set(NAMES) <= set(scenarios())


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes(name: str) -> None:
    first, second = (list(next(iter(scenarios()[name].play(Options(5)).values()))) for _ in range(2))
    other = list(next(iter(scenarios()[name].play(Options(6)).values())))
    assert first == second and first != other


def test_default_captures_are_small() -> None:
    for name, one in scenarios().items():
        for tlps in one.play(Options()).values():
            assert sum(1 for _ in tlps) <= LARGE.get(name, 4500), name


def _step(record: Record, name: str, cntlid: int) -> int:
    return next(step.time_ps for step in record.steps if (step.name, step.cntlid) == (name, cntlid))


@pytest.mark.parametrize("seed", range(1, 9))
def test_posted_commands_complete_at_the_destination(seed: int) -> None:
    _, record = read("migration", seed)
    silent, running = _step(record, "suspend", 1), _step(record, "resume", 2)
    source = [done for done in record.commands if done.cntlid == 1 and done.sqid]
    moved = [done for done in record.commands if done.cntlid == 2 and done.sqid]
    assert source and all(done.cqe_ps is not None and done.cqe_ps < silent for done in source)
    assert len(moved) > 5
    assert min(done.fetch_ps for done in moved) < running + 1_000_000
    heads = {done.sqid: done.slot for done in reversed(source)}
    first = {done.sqid: done.slot for done in reversed(moved)}
    assert any(slot != 0 for slot in first.values()) and heads


def test_seeds_vary_what_may_vary() -> None:
    drawn = [Choices.draw(seed) for seed in range(1, 40)]
    for field in ("mps", "delete_queue", "notify", "pieces", "iommu", "late_marker", "enumerate", "controllers"):
        assert len({getattr(one, field) for one in drawn}) > 1


@pytest.mark.parametrize("seed", SEEDS)
def test_full_log_ends_with_one_entry_that_says_so(seed: int) -> None:
    _, record = read("log-full", seed)
    reasons = [entry[4][31] >> 1 & 7 for entry in record.entries]
    assert reasons.count(7) == 1 and reasons.count(2) == 1 and reasons[0] == 1
    events = [done for done in record.commands if done.opcode == EVENT_REQUEST and done.dw0 == 0x104]
    assert len(events) == 1 and events[0].dw1 == record.entries[0][2]


@pytest.mark.parametrize("seed", SEEDS)
def test_completion_queue_overruns_with_its_fault(seed: int) -> None:
    _, record = read("migration", seed, "completion-overruns-queue")
    until = _step(record, "resume", 2) + 40_000_000
    early = [done for done in record.commands if done.cntlid == 2 and done.sqid and (done.cqe_ps or until) < until]
    assert len(early) > 3


def test_data_queue_wraps_in_some_seed() -> None:
    wrapped = 0
    for seed in range(1, 13):
        _, record = read("rollback", seed)
        wrapped += any(not entry[4][31] & 1 for entry in record.entries)
        assert not any(entry[4][31] >> 1 & 7 == 7 for entry in record.entries)
    assert wrapped


def test_every_fault_names_a_rule_and_a_party() -> None:
    """That each changes what is recorded shows in that its rule finds it, which the tests of scenarios see."""
    for name, fault in FAULTS:
        assert fault.rule.startswith(("HMLM-", "NVM", "PCIE-")), (name, fault.name)
        assert fault.party in ("controller", "host", "both"), (name, fault.name)


@pytest.mark.parametrize("name", ["suspend-without-drain", "suspend-half-drained", "fetch-while-suspended"])
@pytest.mark.parametrize("seed", SEEDS)
def test_suspended_controller_is_not_silent(name: str, seed: int) -> None:
    _, record = read("migration", seed, name)
    end = next(done.cqe_ps for done in record.commands if done.opcode == 0x41 and done.sqe[46] == 1)
    assert end is not None
    late = [done for done in record.commands if done.cntlid == 1 and done.cqe_ps is not None and done.cqe_ps > end]
    assert late
    assert (name == "fetch-while-suspended") == any(done.fetch_ps > end for done in late)


def test_long_runs_stream() -> None:
    captures = scenarios()["plain-io"].play(Options(commands=3000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = sum(1 for tlps in captures.values() for _ in tlps)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert count > 50_000
    assert after - before < 40_000
