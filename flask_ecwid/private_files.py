"""Files that only this user can read, and that no other user can have made.

Another user of a shared folder can make a file or a link before this process does. Without the
checks here, a process would write personal data into the other user's file, or would overwrite
the target of the link.

A file is new, or is a regular file that belongs to this user and has one link. No function follows
a link at the end of a path. A folder on the way may be a link, but not one that another user has
made in a folder that everybody may write. A file of an administrator may belong to root as well,
and `read_if_new` has its rules.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from . import clock

_MODE = 0o600
_ATTEMPTS = 5  # how often a file may be removed while a function opens the file
# The errors of a file system that cannot sync, and of a folder that may be written but not read.
_CANNOT_SYNC = (
    *(errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF),
    *(errno.EACCES, errno.EPERM),
)
# The files that SQLite keeps beside a database.
COMPANIONS = ("-journal", "-wal", "-shm")
_LOCK_MOST_S = 10.0  # how long `locked` waits for another process
_databases = clock.Lock()


class UnsafeFile(OSError):
    """A file that must not be used, because another user may have made the file.

    The text names the path and the reason.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(errno.EPERM, reason, str(path))

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}"


class Version(NamedTuple):
    """The members of a file's status of which at least one differs after a change."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int  # also the owner and the mode


def create(path: Path) -> int:
    """Create a file, and return its descriptor.

    Raises:
        FileExistsError: The path exists, perhaps as a link.
        UnsafeFile: A folder of the path must not be used.
        OSError: The file cannot be created.
    """
    _check_folders(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return _made_private(os.open(path, flags, _MODE))


def open_or_create(path: Path) -> int:
    """Open a file of this user or create a new one, and return its descriptor.

    Raises:
        UnsafeFile: The file must not be used.
        OSError: The file cannot be opened or created.
    """
    for _ in range(_ATTEMPTS):
        with suppress(FileExistsError):
            return create(path)
        with suppress(FileNotFoundError):
            return _made_private(_open(path, os.O_RDWR))
    raise FileNotFoundError(errno.ENOENT, "The file is removed again and again", str(path))


def read(path: Path) -> bytes | None:
    """Return the content of a file of this user, or None if there is no such file.

    Raises:
        UnsafeFile: The file must not be used.
        OSError: The file cannot be read.
    """
    try:
        fd = _made_private(_open(path, os.O_RDONLY))
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read()


def peek(path: Path, most_bytes: int) -> bytes | None:
    """Return the first bytes of a file of this user, or None if there is no such file.

    The mode of the file stays, because the caller may find that the file is not one of the package.

    Raises:
        UnsafeFile: The file must not be used.
        OSError: The file cannot be read.
    """
    try:
        fd = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read(most_bytes)


def read_if_new(path: Path, known: Version | None) -> tuple[Version, bytes | None]:
    """Return the version of an administrator's file, and its content if the version is not known.

    The file and its folder belong to this user or to root. Nobody else has a permission for the
    file, or may write the folder. The mode of the file stays.

    Args:
        path: The path of the file.
        known: The version whose content the caller has.

    Raises:
        UnsafeFile: The file or its folder must not be used.
        OSError: The file is missing, or cannot be read.
    """
    _check_own_folder(path.parent)
    with os.fdopen(_open(path, os.O_RDONLY, _check_secret), "rb") as file:
        found = os.fstat(file.fileno())
        version = Version(
            found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        )
        return version, None if version == known else file.read()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let only one process at a time change the files of a folder.

    The lock is on the folder itself, so no file of a lock stays behind. The wait has an end,
    because each user who may read the folder can take the lock.

    Raises:
        TimeoutError: Another process holds the lock for too long.
        OSError: The folder cannot be locked.
    """
    import fcntl  # Windows has no such module, and its `flask ecwid --help` works.

    ends_at = clock.now() + _LOCK_MOST_S
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if clock.now() >= ends_at or not clock.sleep(0.01):
                reason = "another process has locked the folder"
                raise TimeoutError(errno.ETIMEDOUT, reason, str(folder))
        yield
    finally:
        os.close(fd)


def check_replaceable(path: Path) -> None:
    """Raise the error of `replace` before there is any data.

    Raises:
        UnsafeFile: A file must not be used.
        OSError: A name is too long, for example.
    """
    _check_if_there(_new(path))
    _check_if_there(path)


def replace(path: Path, data: bytes) -> None:
    """Write the data to the disk, and let the file have the path in one step.

    Raises:
        UnsafeFile: The file must not be used.
        OSError: The data cannot be written. The path is as before then.
    """
    new = _new(path)
    with suppress(FileNotFoundError):
        _check(new, new.lstat())
        new.unlink()  # a process was killed before it could rename the file
    fd = create(new)
    try:
        try:
            write(fd, data)
            sync(fd)
        finally:
            os.close(fd)
        _check_if_there(path)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write(fd: int, data: bytes) -> None:
    """Write all the data, because one call of the system may write a part of the data."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync(fd: int) -> None:
    """Write a file or a folder to the disk, where the file system can."""
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno not in _CANNOT_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Write the names of a folder to the disk, where the file system can."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno not in _CANNOT_SYNC:
            raise
        return
    try:
        sync(fd)
    finally:
        os.close(fd)


def claim_database(path: Path) -> None:
    """Check the file of a database, or create an empty file, before SQLite opens the path.

    SQLite gives its other files the mode of the database.

    Raises:
        UnsafeFile: A file must not be used.
        OSError: The file cannot be created.
    """
    # Closing a descriptor of a file drops all locks that the process has on the file. Without the
    # lock, another thread could use the new database before this thread closes its descriptor.
    with _databases:
        for companion in COMPANIONS:
            _check_if_there(path.with_name(path.name + companion))
        try:
            os.close(create(path))
        except FileExistsError:
            found = path.lstat()
            _check(path, found)
            if stat.S_IMODE(found.st_mode) != _MODE:
                with suppress(OSError):
                    path.chmod(_MODE)


def _open(
    path: Path, access: int, check: Callable[[Path, os.stat_result], None] | None = None
) -> int:
    """Open a file that exists, and return its descriptor.

    Args:
        path: The path of the file.
        access: The flag of `os.open` for reading or writing.
        check: The check of the file's status, instead of `_check`.

    Raises:
        UnsafeFile: The file must not be used.
        OSError: The file cannot be opened.
    """
    check = check or _check
    _check_folders(path)
    check(path, path.lstat())  # an opening alone can have an effect on a device or a pipe
    try:
        fd = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise UnsafeFile(path, "is a link") from None
        raise
    try:
        check(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _new(path: Path) -> Path:
    """Return the path of the data that will replace a file."""
    return path.with_name(path.name + ".new")


def _check_folders(path: Path) -> None:
    """Raise UnsafeFile if another user can lead the path elsewhere by a link.

    A link of another user in a folder that only its owner can write is used, because an
    administrator made it. Linux has the same rule (`fs.protected_symlinks`), if it is switched on.
    """
    for folder in reversed(path.absolute().parents):
        found = folder.lstat()
        if not stat.S_ISLNK(found.st_mode):
            continue
        is_shared = folder.parent.stat().st_mode & stat.S_IWOTH
        if is_shared and found.st_uid not in (0, os.geteuid()):
            raise UnsafeFile(folder, "is a link of another user")
        folder.stat()  # links in a circle fail here, and would never end in the next line
        _check_folders(folder.parent / folder.readlink() / path.name)


def _check_if_there(path: Path) -> None:
    with suppress(FileNotFoundError):
        _check(path, path.lstat())


def _check(path: Path, found: os.stat_result) -> None:
    _check_is_file(path, found)
    if found.st_uid != os.geteuid():
        raise UnsafeFile(path, "belongs to another user")
    if found.st_nlink > 1:
        raise UnsafeFile(path, "has a second name, which is a hard link")


def _check_secret(path: Path, found: os.stat_result) -> None:
    """Check the status of an administrator's file."""
    _check_is_file(path, found)
    _check_owner(path, found)
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UnsafeFile(path, "has permissions for others, so set its mode to 0600")


def _check_own_folder(folder: Path) -> None:
    found = folder.stat()
    _check_owner(folder, found)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeFile(folder, "is a folder that others can write, so set its mode to 0755")


def _check_is_file(path: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise UnsafeFile(path, "is a link")
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeFile(path, "is not a regular file")


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise UnsafeFile(path, "belongs to another user")


def _made_private(fd: int) -> int:
    """Set the mode of a file, and return its descriptor."""
    # Some file systems have no modes. Without the suppression, no file could be written there.
    with suppress(OSError):
        os.fchmod(fd, _MODE)
    return fd
