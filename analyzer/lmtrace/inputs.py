"""What a user names as captures: files, patterns, folders, standard input; the name each has in the tables."""

from __future__ import annotations

import glob
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from lmtrace.errors import UsageError
from lmtrace.stage import capture_suffixes

Paths = str | Path | Sequence[str | Path]

STANDARD_INPUT = Path("-")
STANDARD_INPUT_NAME = "stdin"
COPY_BYTES = 1 << 20
_SPOOL = ".stdin."


def expand(paths: Paths) -> list[Path]:
    """Return the files that paths, patterns and folders stand for, those of each pattern or folder sorted by name.

    A folder gives the captures in it and below, known by their suffix, without runs of lmtrace and hidden files. Runs
    among other paths are passed over: a shell that expands ``captures/*`` names them too. Raises UsageError for what
    gives nothing.
    """
    files: list[Path] = []
    given = [Path(one) for one in ([paths] if isinstance(paths, str | Path) else paths)]
    captures = [one for one in given if not (one.is_dir() and _is_run(one))]
    for one in captures or given:
        files += _matches(one)
    if not files:
        raise UsageError("no capture was named")
    return files


def _matches(path: Path) -> list[Path]:
    if path == STANDARD_INPUT or path.is_file():
        return [path]
    if path.is_dir():
        return _in_folder(path)
    if glob.has_magic(str(path)):
        found = sorted(Path(one) for one in glob.glob(str(path), recursive=True))
        files = [one for one in found if one.is_file()]
        if not files:
            raise UsageError(f"no file is named like {path}")
        return files
    if path.exists():
        return [path]
    raise UsageError(f"{path} does not exist")


def _in_folder(folder: Path) -> list[Path]:
    if _is_run(folder):
        raise UsageError(f"{folder} is a run, not a capture; open it with lmtrace report or log")
    suffixes = tuple(capture_suffixes())
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and not _is_run(Path(place, one)))
        found += [Path(place, name) for name in names if name.endswith(suffixes) and not name.startswith(".")]
    if not found:
        raise UsageError(f"{folder} holds no capture; lmtrace looks for {', '.join(suffixes)}")
    return sorted(found, key=lambda one: one.parts)


def _is_run(folder: Path) -> bool:
    return folder.suffix == ".lmtrace" or (folder / "transactions.parquet").is_file()


def named(files: Sequence[Path]) -> dict[str, Path]:
    """Return the captures by the name they have in the tables: the file's, with folders where that is not enough.

    Raises UsageError for what is no file, and for a capture that is named twice.
    """
    for file in files:
        if file.is_fifo():
            raise UsageError(f"{file} is a pipe, which can be read only once: lmtrace check - < {file}")
        if file != STANDARD_INPUT and not file.is_file():
            raise UsageError(f"{file} is not a file")
    places = [file.resolve() if file != STANDARD_INPUT else Path(STANDARD_INPUT_NAME) for file in files]
    if len(set(places)) < len(places):
        raise UsageError("the same capture was named twice")
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    text = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    return dict(zip(text, files, strict=True))


@contextmanager
def spooled(files: Mapping[str, Path], beside: Path) -> Iterator[dict[str, Path]]:
    """Replace standard input by a file that it was copied to, which is removed afterwards.

    Readers look at a capture more than once. The copy lies beside ``beside``, where the tables go too.
    """
    with spooling(files, beside) as (places, copying):
        if copying is not None:
            copying.join()
        yield places


@contextmanager
def spooling(files: Mapping[str, Path], beside: Path) -> Iterator[tuple[dict[str, Path], Thread | None]]:
    """As `spooled`, while standard input is still being copied, by the thread returned; None without standard input."""
    if STANDARD_INPUT not in files.values():
        yield dict(files), None
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix=_SPOOL, dir=_existing(beside.parent))
    except OSError as error:
        raise UsageError(f"cannot write beside {beside}: {error.strerror or error}; use -o") from error
    with folder as place:
        copy = Path(place, STANDARD_INPUT_NAME)
        file = copy.open("wb", buffering=0)
        thread = Thread(target=_copy, args=(file,), daemon=True)
        thread.start()
        yield {name: copy if one == STANDARD_INPUT else one for name, one in files.items()}, thread


def as_given(file: Path) -> str:
    """Return how a user names a file that `spooled` gave."""
    return str(STANDARD_INPUT) if is_spooled(file) else str(file)


def is_spooled(file: Path) -> bool:
    """Whether a file is the copy of standard input."""
    return file.parent.name.startswith(_SPOOL)


def _copy(file: BinaryIO) -> None:
    """Copy standard input to its end; what cannot be written any more is left."""
    try:
        with file:
            while block := os.read(sys.stdin.fileno(), COPY_BYTES):
                file.write(block)
    except (OSError, ValueError):
        return


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
