"""A file that appears only when it is complete, and whose writing can be resumed after a crash.

    PATH.part     the data so far
    PATH.resume   the checkpoint, which has the number of valid bytes and the place to continue

A crash can leave more data in the part than the checkpoint counts. The next run cuts this data
off. When all data is written, the part replaces PATH in one step. Only this user can read the
files, and no file of another user is used.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

import orjson

from .. import private_files


class CannotWrite(Exception):
    """The file cannot be begun or resumed. The message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a part, with its `job`, its valid bytes, and the `cursor` for the next page.

    `left_out` has a text for each customer that is not in the part.
    """

    job: str
    bytes: int = 0
    customers: int = 0
    cursor: str | None = None
    left_out: Sequence[str] = ()
    complete: bool = False


class ResumableFile:
    """The file at `path` while one process writes it."""

    def __init__(self, path: Path, job: str, *, resume: bool) -> None:
        """Open the part, and continue after the checkpoint if there is one.

        Args:
            path: the file to write.
            job: the name of the work. A checkpoint of another job is an error.
            resume: whether to continue after a checkpoint. If False, a checkpoint is an error.

        Raises:
            CannotWrite: the checkpoint does not fit, the part was changed, or another process
                writes the file.
            UnsafeFile: another user may have made the part or the checkpoint.
            OSError: the part cannot be opened.
        """
        _check_target(path)
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._state = path.with_name(path.name + ".resume")
        self._fd = private_files.open_or_create(self._part)
        try:
            self._lock()
            try:
                found = self._find_checkpoint(job, resume)
                self.resumed = found is not None
                self.checkpoint = found or Checkpoint(job)
                if not self.checkpoint.complete:
                    self._cut()
            except BaseException:
                if self._is_the_part() and os.fstat(self._fd).st_size == 0:
                    self._part.unlink()  # a part without data is of no use for a later run
                raise
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> ResumableFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not os.path.lexists(self._state) and self._is_the_part():
            self._part.unlink()  # without a checkpoint, no run can use the part
        os.close(self._fd)

    def append(
        self, data: bytes, *, customers: int, cursor: str, left_out: Sequence[str] = ()
    ) -> None:
        """Write the data to the disk, and then a checkpoint that includes the data.

        Args:
            data: the bytes of the customers.
            customers: the number of these customers.
            cursor: the place after these customers.
            left_out: a text for each customer that was left out since the last checkpoint.
        """
        private_files.write(self._fd, data)
        private_files.sync(self._fd)
        before = self.checkpoint
        self._save(
            replace(
                before,
                bytes=before.bytes + len(data),
                customers=before.customers + customers,
                cursor=cursor,
                left_out=[*before.left_out, *left_out],
            )
        )

    def finish(self) -> None:
        """Replace the file with the part, and remove the checkpoint."""
        if not self.checkpoint.complete:
            self._save(replace(self.checkpoint, complete=True))
        if self._is_the_part():
            if os.fstat(self._fd).st_size == self.checkpoint.bytes:
                os.replace(self._part, self._path)
            else:  # an earlier run has renamed the part, and this run has opened a new, empty part
                self._part.unlink()
        private_files.sync_folder(self._path.parent)
        with suppress(FileNotFoundError):
            self._state.unlink()

    def _lock(self) -> None:
        # The import is here, because Windows has no fcntl. With an import at the top, even
        # `flask ecwid --help` would fail on Windows. So only the mounting of a store fails there,
        # with a clear message.
        import fcntl

        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotWrite(f"another process is exporting to {self._path}") from None
        if not self._is_the_part():  # the other process has renamed the part meanwhile
            raise CannotWrite(f"another process has just exported to {self._path}")

    def _is_the_part(self) -> bool:
        """Return whether the open file is still the file at PATH.part."""
        try:
            return os.path.samestat(self._part.lstat(), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _find_checkpoint(self, job: str, resume: bool) -> Checkpoint | None:
        """Return the checkpoint of an earlier run, if there is one and it may be continued."""
        private_files.check_replaceable(self._state)
        found = self._read_checkpoint()
        if found and not resume:
            raise CannotWrite(
                f"an export to {self._path} is unfinished. Continue it with --resume, or remove"
                f" {self._state} to begin a new one"
            )
        if found and found.job != job:
            raise CannotWrite(
                f"the unfinished export to {self._path} has another store, other filters or another"
                f" format. Remove {self._state} to begin a new one"
            )
        return found

    def _read_checkpoint(self) -> Checkpoint | None:
        text = private_files.read(self._state)
        if text is None:
            return None
        try:
            return Checkpoint(**orjson.loads(text))
        except (ValueError, TypeError):
            pass
        raise CannotWrite(f"{self._state} is not a checkpoint. Remove it to begin a new export")

    def _cut(self) -> None:
        if os.fstat(self._fd).st_size < self.checkpoint.bytes:
            raise CannotWrite(
                f"{self._part} is shorter than at the checkpoint. Remove {self._state} to begin a"
                " new export"
            )
        os.ftruncate(self._fd, self.checkpoint.bytes)
        os.lseek(self._fd, 0, os.SEEK_END)

    def _save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint on the disk in one step."""
        private_files.replace(self._state, orjson.dumps(asdict(checkpoint)))
        self.checkpoint = checkpoint


def _check_target(path: Path) -> None:
    """Raise CannotWrite if a complete part could not replace the file at the path."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    # A link in a shared folder may lead to a file that its target's owner needs.
    if stat.S_ISLNK(found.st_mode):
        raise CannotWrite(f"{path} is not a regular file, but a link")
    if not stat.S_ISREG(found.st_mode):
        raise CannotWrite(f"{path} is not a regular file")
    # In a sticky folder, only root and the owners of file and folder may replace a file. Without
    # the check, an export of hours would fail at its end.
    folder = path.parent.stat()
    may_replace = os.geteuid() in (0, found.st_uid, folder.st_uid)
    if folder.st_mode & stat.S_ISVTX and not may_replace:
        raise CannotWrite(f"{path} belongs to another user, and cannot be replaced in its folder")
