"""What the tests share: where real captures lie, and which programs a test needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "samples" / "captures"
SHARED = ROOT.parent / "shared" / "captures"

PACKAGES = {"vcd2fst": "gtkwave", "tshark": "tshark"}
"""The Debian package of each program that a test may need; the test carries the marker ``needs_<program>``."""

MANY_FILES = 20
"""Files of tests from which on the suite is run, not what somebody changed."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program is missing, with the reason; where ``CI`` is set, it fails."""
    for program, package in PACKAGES.items():
        if item.get_closest_marker(f"needs_{program}") and shutil.which(program) is None:
            reason = f"{program} is not installed (Debian package {package})"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile the kernels before the first test of the suite, the workers each other ones at the same time.

    In a fresh clone all of them take most of a minute, and would be compiled by every worker that comes by.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None or len({one.path for one in request.session.items}) < MANY_FILES:
        return
    from lmtrace.check import check
    from lmtrace.scenario import synth

    for suffix in (".vcd", ".pcapng") if worker == "gw0" else (".pcapng", ".vcd"):
        folder = tmp_path_factory.mktemp("compiled")
        check(synth("migration", folder / f"played{suffix}", commands=8), output=folder / "run")


def find_capture(name: str) -> Path:
    """Return the path of a real capture or its truth, as ``us256_exanicx10/fpga_core.vcd.zst``.

    Files of up to 2 MB are bundled. A larger one that is not there fails where ``CI`` is set and skips elsewhere.
    """
    for folder in (BUNDLED, SHARED):
        if (folder / name).exists():
            return folder / name
    reason = f"{name} is neither in samples/captures nor in ../shared/captures"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason + "; it is too large to be bundled")


@pytest.fixture(scope="session")
def capture() -> Callable[[str], Path]:
    """Return the function that finds a real capture by ``folder/file``."""
    return find_capture


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the folder of the repository."""
    return ROOT
