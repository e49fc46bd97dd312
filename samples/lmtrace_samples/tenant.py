"""A tenant: a virtual machine with its own queues that writes real data and checks what it reads."""

from __future__ import annotations

from struct import Struct

from lmtrace.spec.nvme import SUCCESS, Nvm, Status
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.simulation import NS, Process, Steps
from lmtrace_samples.tlp import PAGE

_PATTERN = Struct("<QQ")
COMPARE_FAILURE, UNRECOVERED_READ = Status(2, 0x85), Status(2, 0x81)


class Worker:
    """One thread of a tenant, with blocks and a buffer of its own."""

    def __init__(self, tenant: Tenant, queue: HostQueue, first: int, span: int) -> None:
        self.tenant = tenant
        self.queue = queue
        self.first = first
        self.span = span
        rng, size = tenant.rng, tenant.block_size
        offset = rng.choice((0, 0, 0, 512, 1028, PAGE - 4))
        self.buffer = queue.driver.buffer(max(min(span, max(tenant.sizes)) * size, PAGE), offset)
        self.blocks: dict[int, bytes] = {}
        self.spoiled: set[int] = set()
        """Blocks left uncorrectable."""

    def run(self) -> Steps[None]:
        """Do one command after the other, as many as the tenant is allowed."""
        tenant = self.tenant
        while True:
            while tenant.budget <= 0:
                tenant.settled.fire()
                yield tenant.more
            tenant.budget -= 1
            tenant.active += 1
            yield tenant.rng.randrange(0, tenant.pause_ns) * NS
            yield from self._one()
            tenant.active -= 1

    def _one(self) -> Steps[None]:
        rng = self.tenant.rng
        roll = rng.random()
        kind = next(name for limit, name in self.tenant.mix if roll < limit)
        count = min(self.span, rng.choice(self.tenant.sizes))
        first = self.first + rng.randrange(self.span - count + 1)
        if kind == "write" or not self.blocks:
            yield from self._write(first, count)
        elif kind == "read":
            yield from self._read(first, count)
        elif kind == "compare":
            yield from self._compare(first, count)
        elif kind == "verify":
            yield from self._do(Nvm.VERIFY, first, count, {}, expect=self._readable(first, count))
        elif kind == "flush":
            yield from self._do(Nvm.FLUSH, 0, 0, {})
        elif kind == "zeroes":
            deallocate = rng.random() < 0.5
            yield from self._do(Nvm.WRITE_ZEROES, first, count, {12: deallocate << 25})
            self._forget(first, count)
        elif kind == "copy" and self.span > 1:
            yield from self._copy()
        elif kind == "spoil for good":
            yield from self._do(Nvm.WRITE_UNCORRECTABLE, first, count, {})
            self.spoiled.update(range(first, first + count))
        elif kind == "spoil":
            yield from self._do(Nvm.WRITE_UNCORRECTABLE, first, count, {})
            yield from self._write(first, count)
        else:
            yield from self._deallocate(first, count)

    def _do(
        self, opcode: int, first: int, count: int, extra: dict[int, int], length: int = 0, expect: Status = SUCCESS
    ) -> Steps[None]:
        words = {10: first & 0xFFFFFFFF, 11: first >> 32, 12: count - 1} if count else {}
        for dword, value in extra.items():
            words[dword] = words.get(dword, 0) | value
        prps = self.buffer.prps(length) if length else (0, 0)
        ticket = yield from self.queue.send(opcode, self.tenant.nsid, prps, words)
        yield from ticket.wait()
        if ticket.status != expect:
            self.tenant.record.surprises.append(f"I/O {opcode:02X}h at {first} ended {ticket.status}")

    def _write(self, first: int, count: int) -> Steps[None]:
        tenant = self.tenant
        data = b""
        for block in range(first, first + count):
            tenant.stamp += 1
            content = _PATTERN.pack(block, tenant.stamp) * (tenant.block_size // _PATTERN.size)
            self.blocks[block] = content
            self.spoiled.discard(block)
            data += content
        self.buffer.write(data)
        yield from self._do(Nvm.WRITE, first, count, {}, len(data))

    def _expected(self, first: int, count: int) -> bytes:
        zero = bytes(self.tenant.block_size)
        return b"".join(self.blocks.get(block, zero) for block in range(first, first + count))

    def _readable(self, first: int, count: int) -> Status:
        """Return the status of a command that looks at blocks."""
        return SUCCESS if self.spoiled.isdisjoint(range(first, first + count)) else UNRECOVERED_READ

    def _read(self, first: int, count: int) -> Steps[None]:
        length, expect = count * self.tenant.block_size, self._readable(first, count)
        yield from self._do(Nvm.READ, first, count, {}, length, expect)
        if expect != SUCCESS:
            return
        if self.buffer.read(length) != self._expected(first, count):
            self.tenant.record.mismatches.append(f"blocks {first} to {first + count - 1} of {self.tenant.name}")
        self.tenant.record.verified += 1

    def _compare(self, first: int, count: int) -> Steps[None]:
        data = self._expected(first, count)
        wrong = self.tenant.rng.random() < 0.3
        self.buffer.write(bytes([data[0] ^ 0x55]) + data[1:] if wrong else data)
        expect = self._readable(first, count)
        if wrong and expect == SUCCESS:
            expect = COMPARE_FAILURE
        yield from self._do(Nvm.COMPARE, first, count, {}, len(data), expect)

    def _forget(self, first: int, count: int) -> None:
        for block in range(first, first + count):
            self.blocks.pop(block, None)
            self.spoiled.discard(block)

    def _copy(self) -> Steps[None]:
        """Copy up to two ranges of one half of the blocks into the other half."""
        rng, half = self.tenant.rng, self.span // 2
        source, target = rng.choice(((0, self.span - half), (self.span - half, 0)))
        ranges, room = [], half
        for _ in range(rng.choice((1, 1, 2))):
            if room:
                count = rng.randrange(1, min(room, max(self.tenant.sizes)) + 1)
                ranges.append((self.first + source + rng.randrange(half - count + 1), count))
                room -= count
        total = sum(count for _, count in ranges)
        target += self.first + rng.randrange(half - total + 1)
        data = b"".join(
            bytes(8) + first.to_bytes(8, "little") + (count - 1).to_bytes(2, "little") + bytes(14)
            for first, count in ranges
        )
        self.buffer.write(data)
        words = {10: target, 11: 0, 12: len(ranges) - 1}
        bad = any(self._readable(*one) != SUCCESS for one in ranges)
        yield from self._do(Nvm.COPY, 0, 0, words, len(data), UNRECOVERED_READ if bad else SUCCESS)
        if bad:
            return
        copied = [self.blocks.get(block) for first, count in ranges for block in range(first, first + count)]
        for block, content in enumerate(copied, target):
            if content is None:
                self.blocks.pop(block, None)
            else:
                self.blocks[block] = content
            self.spoiled.discard(block)

    def _deallocate(self, first: int, count: int) -> Steps[None]:
        head = max(1, count // 2)
        ranges = [(first, head)] + ([(first + head, count - head)] if count > head else [])
        data = b"".join(bytes(4) + size.to_bytes(4, "little") + start.to_bytes(8, "little") for start, size in ranges)
        self.buffer.write(data)
        words = {10: len(ranges) - 1, 11: 1 << 2}
        yield from self._do(Nvm.DATASET_MANAGEMENT, 0, 0, words, len(data))
        self._forget(first, count)


Mix = tuple[tuple[float, str], ...]
"""Kinds of commands, each with the part of all commands that it and those before it make."""
USUAL: Mix = (
    (0.42, "write"), (0.82, "read"), (0.85, "compare"), (0.87, "verify"), (0.89, "flush"), (0.92, "zeroes"),
    (0.95, "deallocate"), (0.98, "copy"), (1.0, "spoil"),
)  # fmt: skip
CHANGES: Mix = (
    (0.2, "write"), (0.3, "read"), (0.34, "compare"), (0.38, "verify"), (0.42, "flush"), (0.58, "zeroes"),
    (0.74, "deallocate"), (0.88, "copy"), (0.94, "spoil"),
    (1.0, "spoil for good"),
)  # fmt: skip


class Tenant:
    """The workers of one virtual machine, on the queues of one driver."""

    def __init__(
        self, driver: Driver, nsid: int, block_size: int, name: str, sizes: tuple[int, ...] = (1, 1, 2, 4, 8)
    ) -> None:
        self.driver = driver
        self.rng = driver.rng
        self.record = driver.record
        self.nsid = nsid
        self.block_size = block_size
        self.name = name
        self.sizes = sizes
        self.pause_ns = 4000
        self.mix = USUAL
        self.stamp = 0
        self.budget = 0
        self.active = 0
        self.workers: list[Worker] = []
        self.processes: list[Process] = []
        clock = driver.root.clock
        self.more = clock.signal()
        self.settled = clock.signal()

    def open_queues(self, count: int, workers: int, first: int, span: int) -> Steps[None]:
        """Create the queues and start the workers, each on ``span`` blocks of its own."""
        choices = self.driver.choices
        for index in range(count):
            polled = choices.poll and index == count - 1 and count > 1
            depth = max(choices.queue_depth - 5 * index, 4)
            queue = yield from self.driver.create_queue(index + 1, depth, None if polled else index + 1)
            for _ in range(workers):
                self.workers.append(Worker(self, queue, first, span))
                first += span
        self.processes += [self.driver.root.clock.start(worker.run()) for worker in self.workers]

    def stop(self) -> None:
        """Shut the virtual machine down, whatever it was doing."""
        for process in self.processes:
            process.stop()
        self.budget = self.active = 0

    def allow(self, commands: int) -> None:
        """Let the workers do so many more commands."""
        self.budget += commands
        self.more.fire()

    def idle(self) -> Steps[None]:
        """Wait until nothing is left to do and everything has completed."""
        while self.budget > 0 or self.active:
            yield self.settled

    def run(self, commands: int) -> Steps[None]:
        """Do so many commands and wait for them."""
        self.allow(commands)
        yield from self.idle()

    def move(self, driver: Driver) -> None:
        """Go on with another controller that has the same queues in the same memory."""
        for queue in {worker.queue.qid: worker.queue for worker in self.workers}.values():
            driver.adopt(queue)
        for worker in self.workers:
            worker.buffer.memory = driver.memory
        self.driver = driver
