"""A file that is whole when it is there: written beside its place, and gone on with after any end.

    PATH.part     what is written so far
    PATH.resume   how many bytes of it are good, and how to go on after them; replaced in one step

What follows the good bytes was written when the process ended: it is cut off. PATH itself appears
in one step, when all is written. Only this user may read any of them.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import orjson


class CannotWrite(Exception):
    """The file cannot be begun, or not be gone on with. Says why."""


@dataclass(frozen=True)
class Kept:
    """What is known of the part: `job` is what it is made of, `cursor` where to go on."""

    job: str
    bytes: int = 0
    customers: int = 0
    cursor: str | None = None
    whole: bool = False


class Unfinished:
    """The file at `path` while it is written, by one process at a time."""

    def __init__(self, path: Path, job: str, *, resume: bool) -> None:
        """
        Raises:
            CannotWrite: an unfinished one is there, and `resume` is not given; or it is of another
                job, or was changed; or another process writes it.
            OSError
        """
        path = Path(os.path.realpath(path))  # what a link leads to is replaced, not the link
        if path.exists() and not path.is_file():
            raise CannotWrite(f"{path} is no file")
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._state = path.with_name(path.name + ".resume")
        self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock()
            found = self._found()
            if found and not resume:
                raise CannotWrite(
                    f"an export to {path} is unfinished: --resume goes on with it; or remove"
                    f" {self._state} to begin anew"
                )
            if found and found.job != job:
                raise CannotWrite(
                    f"the unfinished export to {path} is of another store, of other filters or of"
                    f" another format; remove {self._state} to begin anew"
                )
            self.resumed = found is not None
            self.kept = found or Kept(job)
            if not self.kept.whole:
                self._cut()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._state.exists() and self._is_the_part():
            self._part.unlink()  # nothing to go on with
        os.close(self._fd)

    def add(self, data: bytes, *, customers: int, cursor: str) -> None:
        """Write this; from now on it is good, and the cursor goes on after it."""
        self._write(data)
        size = self.kept.bytes + len(data)
        self._keep(Kept(self.kept.job, size, self.kept.customers + customers, cursor))

    def finish(self) -> None:
        """All is written: put it in its place."""
        if not self.kept.whole:
            self._keep(Kept(**{**asdict(self.kept), "whole": True}))
        if self._is_the_part():
            if os.fstat(self._fd).st_size == self.kept.bytes:
                os.replace(self._part, self._path)
            else:  # it was put there before this process began, and this one is new
                self._part.unlink()
        _sync_folder(self._path)
        with suppress(FileNotFoundError):
            self._state.unlink()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotWrite(f"another process is exporting to {self._path}") from None
        if not self._is_the_part():  # it was put in its place meanwhile
            raise CannotWrite(f"another process has exported to {self._path} just now")

    def _is_the_part(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._part), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _found(self) -> Kept | None:
        try:
            text = self._state.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return Kept(**orjson.loads(text))
        except (ValueError, TypeError):
            pass
        raise CannotWrite(f"{self._state} is none of ours; remove it to begin anew")

    def _cut(self) -> None:
        if os.fstat(self._fd).st_size < self.kept.bytes:
            raise CannotWrite(
                f"{self._part} is shorter than it was; remove {self._state} to begin anew"
            )
        os.ftruncate(self._fd, self.kept.bytes)
        os.lseek(self._fd, 0, os.SEEK_END)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fsync(self._fd)

    def _keep(self, kept: Kept) -> None:
        new = self._state.with_name(self._state.name + ".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(orjson.dumps(kept))
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._state)
        self.kept = kept


def _sync_folder(path: Path) -> None:
    fd = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
