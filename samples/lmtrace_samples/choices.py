"""What the specifications leave open, drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(slots=True)
class Choices:
    """One legal way to behave. A fault may fix what it needs to be visible."""

    enumerate: bool
    iommu: bool
    mps: int
    mrrs: int
    boundary: int
    cut: int
    tags: int
    reuse_tags: bool
    latency_ns: int
    controllers: int
    block_size: int
    admin_depth: int
    queue_depth: int
    queues: int
    small_queues: bool
    burst: int
    parallel: int
    unmask: bool
    poll: bool
    mqes: int
    stride: int
    data_queue_slots: int
    data_queue_list: bool
    split_entries: bool
    marker_entries: bool
    tail_trigger: bool
    notify: bool
    delete_queue: bool
    late_marker: bool
    pieces: int
    vendor_state: int
    lazy_reports: bool
    failing_report: bool
    report_room: int
    scarce: bool
    powers_of_two: bool
    granularity: int
    log_style: str
    whole_marker: bool
    start_ns: int
    mirror: bool
    """The controller copies what its admin doorbells are told into their shadows, as emulators do."""
    count_completions: bool = True
    """The host submits no more commands than their completion queue takes; no seed forgets that."""

    @classmethod
    def draw(cls, seed: int) -> Choices:
        """Return the choices of a seed; only even seeds begin with configuration requests."""
        rng = Random(seed * 7919 + 17)
        pick = rng.choice
        return cls(
            enumerate=seed % 2 == 0,
            iommu=pick((True, True, False)),
            mps=pick((128, 256, 256, 512)),
            mrrs=pick((256, 512, 512)),
            boundary=pick((64, 128)),
            cut=pick((1, 2, 8)),
            tags=pick((16, 32, 256)),
            reuse_tags=pick((True, False)),
            latency_ns=pick((140, 220, 350)),
            controllers=pick((2, 3, 4)),
            block_size=pick((512, 512, 4096)),
            admin_depth=pick((16, 24, 32)),
            queue_depth=pick((13, 16, 24, 32)),
            queues=pick((1, 2, 2)),
            small_queues=pick((False, False, False, True)),
            burst=pick((1, 2, 4, 8)),
            parallel=pick((8, 16, 32)),
            unmask=pick((True, False)),
            poll=pick((True, False)),
            mqes=pick((63, 255, 1023)),
            stride=pick((0, 0, 0, 1)),
            data_queue_slots=pick((16, 20, 32)),
            data_queue_list=pick((False, False, True)),
            split_entries=pick((False, False, True)),
            marker_entries=pick((True, False)),
            tail_trigger=pick((True, False)),
            notify=pick((True, False)),
            delete_queue=pick((True, False)),
            late_marker=pick((True, False)),
            pieces=pick((1, 2, 3, 4)),
            vendor_state=pick((0, 0, 8, 40)),
            lazy_reports=pick((True, False)),
            failing_report=pick((True, False, False)),
            report_room=pick((2, 3, 8, 64)),
            scarce=pick((True, False)),
            powers_of_two=pick((True, False)),
            granularity=pick((0, 0, 1, 2)),
            log_style=pick(("each", "each", "late", "merged", "rounded")),
            whole_marker=pick((True, False, False)),
            start_ns=pick((100, 18_000)),
            mirror=seed % 2 == 1,
        )
