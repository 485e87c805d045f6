"""Each file that the package writes is private, and was made by this user."""

from __future__ import annotations

import ast
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import flask_ecwid
from flask_ecwid import private_files
from flask_ecwid.cli.resumable import CannotWrite, ResumableFile
from flask_ecwid.private_files import UnsafeFile
from flask_ecwid.sandbox import Fault, create_sandbox
from flask_ecwid.settings import SettingsError
from flask_ecwid.storage.file_state import FileState
from flask_ecwid.storage.state import StateUnavailable

from ..helpers.command import Command

PACKAGE = Path(flask_ecwid.__file__).parent
NOBODY = 65_534
SECRET = "the file of somebody"

# The calls that can write a file or make a folder, by module. Every other module writes through
# `private_files`.
CALLS = {
    *("open", "os.open", "os.fdopen", "os.replace", "os.rename", "os.link", "os.mkdir"),
    *("os.makedirs", "os.mkfifo", "tempfile.mkdtemp", "tempfile.mkstemp", "sqlite3.connect"),
    *("tempfile.NamedTemporaryFile", "tempfile.TemporaryFile", "tempfile.TemporaryDirectory"),
}
METHODS = {"write_text", "write_bytes", "mkdir", "touch", "rename", "symlink_to", "hardlink_to"}
WRITERS = {
    "private_files": {"os.open", "os.fdopen", "os.replace"},
    "cli.resumable": {"os.replace"},  # the part becomes PATH
    "cli.terminal": {"os.open", "os.fdopen"},  # the null device
    "client.opening": {"tempfile.mkdtemp"},
    "sandbox.store": {"sqlite3.connect"},  # after `private_files.claim_database`
    "server.hooks": {"os.makedirs"},
    "server.shared": {"tempfile.mkdtemp"},
    # The state file has a folder that only this user can open.
    "storage.file_state": {"os.open", "os.makedirs", "os.rename", "sqlite3.connect", "mkdir"},
}


def test_the_writers_are_known() -> None:
    """Each module that writes a file is listed, so that a test below can attack the file."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            method = name.rpartition(".")[2]
            if name in CALLS or (method == "open" and name != "click.open"):
                found.setdefault(module, set()).add(name)
            elif method in METHODS:
                found.setdefault(module, set()).add(method)
    assert found == WRITERS


def export(command: Command, name: str) -> bool:
    return command.run("export", "all.jsonl")[0] == 0


def resume(command: Command, name: str) -> bool:
    return command.run("export", "all.jsonl", "--resume")[0] == 0


def report(command: Command, name: str) -> bool:
    (command.folder / "new.jsonl").write_text('{"email": 5}\n')
    status, _, err = command.run("import", "new.jsonl", "--dry-run", "--report", name)
    return status == 1 and "1 invalid" in err


def sandbox_setting(command: Command, name: str) -> bool:
    command.settings["ECWID_SANDBOX"] = str(command.folder / "shop.sqlite3")
    try:
        return command.run("check")[0] == 0
    except SettingsError:
        return False


def sandbox_option(command: Command, name: str) -> bool:
    process = command.begin("sandbox", "--port", "0", "--file", "shop.sqlite3")
    assert process.stdout is not None
    has_begun = bool(process.stdout.readline())
    process.terminate()
    process.communicate(timeout=60)
    return has_begun


def stores(command: Command, name: str) -> bool:
    command.folder.chmod(0o700)
    path = str(command.folder / "stores.json")
    args = ["stores", "add", "1003", "--file", path]
    return command.run(*args, stdin=b"secret_" + b"a1" * 16)[0] == 0


def copy(command: Command, name: str) -> bool:
    return command.run("sync", "sqlite:///copy.sqlite")[0] == 0


def state(command: Command, name: str) -> bool:
    (command.folder / name).parent.chmod(0o700)
    try:
        FileState(command.folder / "private" / "state.sqlite3").get("a")
    except StateUnavailable:
        return False
    return True


# Each path that the package writes, and a function that has it written.
PLACES: dict[str, list[Callable[[Command, str], bool]]] = {
    "all.jsonl.part": [export, resume],
    "all.jsonl.resume": [export, resume],
    "all.jsonl.resume.new": [export, resume],
    "report.jsonl": [report],
    "shop.sqlite3": [sandbox_setting, sandbox_option],
    "shop.sqlite3-wal": [sandbox_setting],
    "shop.sqlite3-shm": [sandbox_setting],
    "shop.sqlite3-journal": [sandbox_setting],
    "copy.sqlite": [copy],
    "copy.sqlite-journal": [copy],
    "private/state.lock": [state],
    "stores.json": [stores],
    "stores.json.new": [stores],
}
WALK = [(name, use) for name, uses in PLACES.items() for use in uses]


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("missing"))


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def open_to_all(path: Path, victim: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make a file of another user")
    path.write_bytes(b"")
    path.chmod(0o666)
    os.chown(path, NOBODY, NOBODY)


def pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, victim: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "attack", [link, dangling_link, hard_link, open_to_all, pipe, folder], ids=lambda f: f.__name__
)
@pytest.mark.parametrize(("name", "use"), WALK, ids=lambda each: getattr(each, "__name__", each))
def test_nothing_of_others_is_used(
    tmp_path: Path,
    name: str,
    use: Callable[[Command, str], bool],
    attack: Callable[[Path, Path], None],
) -> None:
    """A file that another user may have made is refused, and stays as it is."""
    (tmp_path / "shared").mkdir()
    command = Command(tmp_path / "shared", 20)
    victim = tmp_path / "victim"
    victim.write_text(SECRET)
    victim.chmod(0o644)
    path = command.folder / name
    path.parent.mkdir(exist_ok=True)
    attack(path, victim)
    before = path.lstat()
    assert not use(command, name)
    after = path.lstat()
    for member in ("st_ino", "st_mode", "st_uid", "st_size", "st_mtime_ns", "st_nlink"):
        assert getattr(after, member) == getattr(before, member), member
    assert victim.read_text() == SECRET
    assert stat.S_IMODE(victim.stat().st_mode) == 0o644
    assert not victim.with_name("missing").exists()
    assert not (command.folder / "all.jsonl").exists()


@pytest.mark.parametrize(("name", "use"), WALK, ids=lambda each: getattr(each, "__name__", each))
def test_a_file_of_this_user_is_used(
    tmp_path: Path, name: str, use: Callable[[Command, str], bool]
) -> None:
    """Without an attack, each function of the walk succeeds."""
    (tmp_path / "private").mkdir()
    assert use(Command(tmp_path, 20), name)


def test_a_refusal_has_a_reason(tmp_path: Path) -> None:
    """A refused file is named with the reason."""
    command = Command(tmp_path, 20)
    (tmp_path / "all.jsonl.part").symlink_to("victim")
    status, _, err = command.run("export", "all.jsonl")
    assert status == 2
    assert "all.jsonl.part is a link" in " ".join(err.split())
    (tmp_path / "report.jsonl").symlink_to("victim")
    (tmp_path / "new.jsonl").write_text("{}\n")
    status, _, err = command.run("import", "new.jsonl", "--report", "report.jsonl")
    assert status == 2
    assert "report.jsonl is a link" in " ".join(err.split())
    command.settings["ECWID_SANDBOX"] = str(tmp_path / "report.jsonl")
    status, _, err = command.run("export", "all.jsonl")
    assert (status, err) == (
        2,
        "ECWID_SANDBOX names a file that cannot be used, because the file is a link\n",
    )


def test_the_export_replaces_no_target(tmp_path: Path) -> None:
    """An export to a link is refused, and the target of the link stays."""
    command = Command(tmp_path, 20)
    (tmp_path / "victim").write_text(SECRET)
    (tmp_path / "all.jsonl").symlink_to("victim")
    status, _, err = command.run("export", "all.jsonl")
    assert status == 2
    assert "is not a regular file, but a link" in " ".join(err.split())
    assert (tmp_path / "victim").read_text() == SECRET
    assert command.files() == {"victim", "all.jsonl"}


@pytest.mark.skipif(bool(os.geteuid()), reason="only root can make a file of another user")
def test_an_older_file_of_another_user(tmp_path: Path) -> None:
    """An export replaces an older file, and the new file belongs to this user alone."""
    command = Command(tmp_path, 20)
    path = tmp_path / "all.jsonl"
    path.write_text(SECRET)
    path.chmod(0o666)
    os.chown(path, NOBODY, NOBODY)
    with path.open() as older:
        assert command.run("export", "all.jsonl") == (0, "", "")
        assert older.read() == SECRET
    found = path.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o600)


@contextmanager
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def leave_unfinished(command: Command, name: str) -> None:
    """Let an export fail after its first checkpoint."""
    command.orders.inject(*(Fault("status", status=500, nth=n) for n in range(3, 6)))
    assert command.run("export", name, "--where", "limit=20")[0] == 1
    command.orders.clear_faults()


def test_every_file_is_private(tmp_path: Path) -> None:
    """Only this user can read the files, also where the process has no umask."""
    command = Command(tmp_path, 250)
    (tmp_path / "private").mkdir()
    with no_umask():
        assert report(command, "report.jsonl")
        leave_unfinished(command, "all.jsonl")
        leave_unfinished(command, "other.jsonl")
        assert command.run("export", "all.jsonl", "--where", "limit=20", "--resume")[0] == 0
        create_sandbox(tmp_path / "shop.sqlite3")
        assert state(command, "private/state.sqlite3")
    written = {path.name: path for path in tmp_path.rglob("*") if path.is_file()}
    del written["new.jsonl"]
    assert written.keys() >= {"all.jsonl", "other.jsonl.part", "other.jsonl.resume"}
    assert written.keys() >= {"report.jsonl", "shop.sqlite3", "state.sqlite3", "state.lock"}
    for path in written.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_own_files_become_private(tmp_path: Path) -> None:
    """A file of this user that others can read is set to 0600 before it is used again."""
    command = Command(tmp_path, 250)
    leave_unfinished(command, "all.jsonl")
    assert report(command, "report.jsonl")
    create_sandbox(tmp_path / "shop.sqlite3")
    for name in ("all.jsonl.part", "all.jsonl.resume", "report.jsonl", "shop.sqlite3"):
        (tmp_path / name).chmod(0o644)
    assert command.run("export", "all.jsonl", "--where", "limit=30", "--resume")[0] == 2
    assert report(command, "report.jsonl")
    create_sandbox(tmp_path / "shop.sqlite3")
    for name in ("all.jsonl.part", "all.jsonl.resume", "report.jsonl", "shop.sqlite3"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name


def use_directly(path: Path) -> list[Callable[[], object]]:
    """Return each way in which the package may open a file at a path."""
    return [
        lambda: os.close(private_files.create(path)),
        lambda: os.close(private_files.open_or_create(path)),
        lambda: private_files.read(path),
        lambda: private_files.peek(path, 1),
        lambda: private_files.replace(path, b"data"),
        lambda: private_files.claim_database(path),
    ]


@pytest.mark.skipif(bool(os.geteuid()), reason="only root can make a link of another user")
@pytest.mark.parametrize(
    ("mode", "owner", "is_used"),
    [
        (0o1777, NOBODY, False),
        (0o777, NOBODY, False),
        (0o1777, 0, True),
        (0o755, NOBODY, True),
    ],
    ids=["sticky", "open", "own", "administrator"],
)
@pytest.mark.parametrize("depth", ["direct", "below", "behind an own link"])
def test_a_folder_that_is_a_link(
    tmp_path: Path, mode: int, owner: int, is_used: bool, depth: str
) -> None:
    """A folder that is a link of another user in a folder of everybody is not followed.

    A link of this user is followed, and so is a link that an administrator made.
    """
    target = tmp_path / "target"
    (target / "deep").mkdir(parents=True)
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "link").symlink_to("../target")
    os.lchown(shared / "link", owner, owner)
    (tmp_path / "mine").symlink_to("shared/link")
    shared.chmod(mode)
    folders = {"direct": shared / "link", "below": shared / "link/deep/../deep"}
    path = folders.get(depth, tmp_path / "mine") / "file"
    for number in range(len(use_directly(path))):
        use = use_directly(path.with_name(f"file-{number}"))[number]
        if is_used:
            use()
        else:
            with pytest.raises(UnsafeFile, match="link is a link of another user"):
                use()
    command = Command(tmp_path)
    assert (command.run("export", f"{path}.jsonl")[0] == 0) is is_used
    assert report(command, f"{path}.report") is is_used
    assert is_used or [each.name for each in target.rglob("*")] == ["deep"]


def test_links_in_a_circle(tmp_path: Path) -> None:
    """A folder that is a link to itself is an error of the system."""
    (tmp_path / "link").symlink_to("link")
    for use in use_directly(tmp_path / "link" / "file"):
        with pytest.raises(OSError, match="symbolic links"):
            use()


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(bool(os.geteuid()), reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_file_of_another_user_in_a_sticky_folder(mode: int) -> None:
    """A file that could not be replaced at the end is refused before the export begins."""
    with TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        path = folder / "all.jsonl"
        path.write_text(SECRET)
        folder.chmod(mode)
        with as_nobody():
            try:
                with ResumableFile(path, "job", resume=False) as file:
                    file.append(b"data", customers=1, cursor="")
                    file.finish()
                refusal = ""
            except CannotWrite as exc:
                refusal = str(exc)
        expected = f"{path} belongs to another user, and cannot be replaced in its folder"
        assert refusal == (expected if mode == 0o1777 else "")
        assert path.read_text() == (SECRET if refusal else "data")
        assert os.listdir(folder) == ["all.jsonl"]


def test_a_file_that_appears_during_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that takes the place of a file after the check is refused at the opening."""
    (tmp_path / "victim").write_text(SECRET)
    path = tmp_path / "file"
    path.write_bytes(b"")
    real = os.open

    def swapped(name: Path, flags: int, mode: int = 0o777) -> int:
        if not flags & os.O_CREAT:
            path.unlink()
            path.symlink_to("victim")
        return real(name, flags, mode)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(UnsafeFile, match="is a link"):
        private_files.open_or_create(path)
    assert (tmp_path / "victim").read_text() == SECRET


def test_a_failed_replacement_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replacement that fails leaves the file of before, and no other file."""
    path = tmp_path / "file"
    private_files.replace(path, b"before")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        private_files.replace(path, b"after")
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
