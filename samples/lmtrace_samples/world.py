"""One run of the model: links with their subsystems and drivers, the seed's choices, and the script that plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING

from lmtrace.scenario import Options, WireTlp
from lmtrace.spec.nvme import Nvm, Property
from lmtrace_samples.choices import Choices
from lmtrace_samples.commands import Controller
from lmtrace_samples.driver import Driver
from lmtrace_samples.enumeration import config_spaces, enumerate_functions
from lmtrace_samples.function import BAR_SIZE, Function
from lmtrace_samples.management import ManagementController
from lmtrace_samples.memory import HIGH_SIZE, LOW_SIZE, Memory
from lmtrace_samples.namespace import Namespace
from lmtrace_samples.record import Record, Step
from lmtrace_samples.root import Root
from lmtrace_samples.simulation import NS, Clock, Link, Steps
from lmtrace_samples.subsystem import Subsystem

if TYPE_CHECKING:
    from lmtrace_samples.manager import Manager
    from lmtrace_samples.memory_reader import MemoryReader

BUS = 0x0100


class Side:
    """One link with the subsystem behind it: the managing controller on the PF, migratable ones on the VFs."""

    def __init__(self, world: World, name: str, index: int, controllers: int) -> None:
        choices, rng, clock = world.choices, world.rng, world.clock
        self.world = world
        self.link = Link(clock, name, choices.latency_ns * NS, 250)
        self.root = Root(clock, rng, self.link, choices)
        self.subsystem = Subsystem(f"nqn.2024-07.org.example:lmtrace-{name}")
        self.drivers: list[Driver] = []
        shared = self._memory(16 * index) if not choices.iommu else None
        for cntlid in range(controllers + 1):
            memory = shared or self._memory(16 * index + cntlid)
            bar = (0xFE00_0000 if index % 2 == 0 else 0x38_0000_0000) + 0x10_0000 * index
            bar += cntlid * BAR_SIZE + (0x8000 if cntlid else 0)
            number = BUS + 0x100 * index + cntlid
            function = Function(clock, self.link, self.root, number, bar, memory, choices)
            kind = Controller if cntlid else ManagementController
            controller = kind(function, cntlid, self.subsystem, choices, rng, world.record)
            self.subsystem.controllers[cntlid] = controller
            self.root.targets.append(controller)
            self.drivers.append(Driver(self.root, function, choices, rng, world.record))
        self.root.config = config_spaces([one.function for one in self.subsystem.controllers.values()])

    def _memory(self, index: int) -> Memory:
        return Memory(self.world.rng, 0x1000_0000 + LOW_SIZE * index, 0x1_0000_0000 + HIGH_SIZE * index)

    @property
    def manager(self) -> ManagementController:
        """The managing controller."""
        found = self.subsystem.controllers[0]
        assert isinstance(found, ManagementController)
        return found

    def namespace(self, nsid: int, blocks: int, *cntlids: int) -> Namespace:
        """Create a namespace, attached to the managing controller and to these."""
        created = Namespace(nsid, blocks, self.world.choices.block_size)
        self.subsystem.attach(created, *(self.subsystem.controllers[cntlid] for cntlid in (0, *cntlids)))
        return created

    def start(self) -> Steps[None]:
        """Begin as a host does: with configuration requests, where the seed says so."""
        if self.world.choices.enumerate:
            yield from enumerate_functions(self.root, [driver.function for driver in self.drivers])


class World:
    """A run. ``script`` is what the host does; everything else follows."""

    def __init__(
        self, name: str, options: Options, links: tuple[str, ...], controllers: int | None, record: Record
    ) -> None:
        self.name = name
        self.options = options
        self.rng = Random(options.seed)
        self.choices = Choices.draw(options.seed)
        self.clock = Clock()
        self.record = record
        self.provoked: set[str] = set()
        self.moments: dict[str, list[Callable[[], Steps[None]]]] = {}
        """What happens at the moments that a script names."""
        count = controllers or self.choices.controllers
        self.sides = [Side(self, name, index, count) for index, name in enumerate(links)]

    def commands(self, default: int) -> int:
        """Return how much I/O to do."""
        return default if self.options.commands is None else self.options.commands

    def provokes(self, reason: str) -> bool:
        """Return whether the host is to send a request that breaks a rule of its own, to have it refused."""
        return reason in self.provoked

    def moment(self, name: str) -> Steps[None]:
        """Hook: a moment of the script at which nothing happens by itself."""
        for happens in self.moments.get(name, ()):
            yield from happens()

    def suspend(self, manager: Manager, cntlid: int, delete: bool) -> Steps[None]:
        """Hook: how the host suspends the source, whose tenant is at work."""
        yield from manager.suspend(cntlid, delete)

    def before_logging(self, copy: Callable[[], Steps[None]]) -> Steps[None]:
        """Hook: what the host copies before changes are logged, which is nothing."""
        yield 100 * NS

    def copy_all(self, copy: Callable[[], Steps[None]]) -> Steps[None]:
        """Hook: the copy of the whole namespace, once its changes are logged."""
        yield from copy()

    def follow_log(self, follow: Callable[[], Steps[int]]) -> Steps[None]:
        """Hook: how the host copies, while the tenant goes on, what the log names."""
        yield from follow()

    def copy_range(self, copy: Callable[[], Steps[None]], manager: Manager) -> Steps[None]:
        """Hook: the copy of one range that an entry of the log names."""
        yield from copy()

    def write_copy(self, manager: Manager, nsid: int, block: int, data: bytes) -> Steps[None]:
        """Hook: how the host writes blocks of a copy that ``manager`` takes."""
        yield from manager.transfer(Nvm.WRITE, nsid, block, len(data), data)

    def suspend_destination(self, manager: Manager, cntlid: int) -> Steps[None]:
        """Hook: the destination is suspended before it receives state."""
        yield from manager.suspend(cntlid)

    def resume_destination(self, manager: Manager, cntlid: int) -> Steps[None]:
        """Hook: the destination is resumed when its state is committed."""
        yield from manager.resume(cntlid)

    def on_the_link(self, phase: str) -> Steps[None]:
        """Hook: what else crosses the link in a phase in which the device has nothing to do."""
        yield 100 * NS

    def while_suspended(self, manager: Manager, cntlid: int) -> Steps[None]:
        """Hook: what the host does with a suspended controller; looking at its status is fine."""
        yield from manager.side.drivers[cntlid].read(Property.CSTS)

    def read_state(self, manager: Manager, cntlid: int, pieces: int, vendor: int) -> Steps[bytes]:
        """Hook: how the host reads the state of the suspended source."""
        return (yield from manager.get_state(cntlid, pieces, vendor))

    def set_state(self, manager: Manager, cntlid: int, state: bytes, pieces: int, vendor: int) -> Steps[None]:
        """Hook: how the host sends the state to the suspended destination."""
        yield from manager.set_state(cntlid, state, pieces, vendor)

    def begin_memory(self, memory: MemoryReader) -> Steps[None]:
        """Hook: how the host begins to track the memory of a running controller, which may have too few resources."""
        yield from memory.begin()

    def read_memory(self, memory: MemoryReader) -> Steps[None]:
        """Hook: one round of what the host reads of the memory that a running controller changed."""
        yield from memory.read()

    def finish_memory(self, memory: MemoryReader) -> Steps[None]:
        """Hook: how the host reads the last changes of a suspended controller, and looks once more."""
        yield from memory.finish()
        yield from memory.receive()

    def before_reset(self, manager: Manager, cntlid: int) -> Steps[None]:
        """Hook: what the host does before it resets a managing controller whose host serves a tenant elsewhere."""
        yield 1000 * NS

    def afterwards(self, manager: Manager, cntlid: int) -> Steps[None]:
        """Hook: what the host does with a source whose destination runs; nothing before it is reset."""
        yield 1000 * NS

    def note(self, name: str, side: Side, cntlid: int) -> None:
        """Put a step into the record."""
        if self.record.keep:
            self.record.steps.append(Step(self.clock.now, name, side.link.name, cntlid))

    def wait_while(self, condition: Callable[[], bool], limit_ps: int, pause_ps: int = 2 * 1000 * NS) -> Steps[None]:
        """Wait while a condition holds, but not for ever: what a fault holds up must not hold up the script."""
        end = self.clock.now + limit_ps
        while condition() and self.clock.now < end:
            yield pause_ps

    def play(self, script: Steps[None]) -> Iterator[WireTlp]:
        """Run to the end and yield the TLPs. Raises RuntimeError when a run without fault gets stuck."""
        process = self.clock.start(script)
        yield from self.clock.run()
        if process.alive and self.options.fault is None:
            raise RuntimeError(f"the scenario stopped half way, at {self.clock.now} ps")
