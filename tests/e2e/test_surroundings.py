"""The commands with closed streams, a full disk, other encodings and odd file systems."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flask_ecwid import cli, contract
from flask_ecwid.cli import rows
from flask_ecwid.cli.columns import Columns
from flask_ecwid.cli.files import read_rows
from flask_ecwid.cli.header import NotACustomerFile

from ..conftest import ROOT, TOKEN, environment, run_python
from ..helpers.command import Command, begin_sandbox, printed_settings
from ..helpers.pages import sh

FLASK = f"{sys.executable} -m flask --app {ROOT / 'wsgi.py'} ecwid"
REAL = {"ECWID_STORE_ID": "1003", "ECWID_TOKEN": TOKEN, "ECWID_AUTH": "none"}


def shell(command: Command, line: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a shell on the store of `command`."""
    return sh(line.replace("flask ecwid", FLASK), command.folder, **command.settings)


# Closed streams


def test_an_export_without_a_standard_error(tmp_path: Path) -> None:
    """An export to the standard output works although the standard error is closed."""
    done = shell(Command(tmp_path, 30), "flask ecwid export - 2>&-")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 34


REFUSED = [
    *("export - --where canary=1", "export - --canary", "canary", "--canary", ""),
    *("import --canary", "import shop.csv", "import shop.csv --report /proc/x", "import none.csv"),
    *("check --store x", "openapi --canary", "sandbox --port 99999", "key ''"),
]


@pytest.mark.parametrize("line", REFUSED)
@pytest.mark.parametrize("to", ["&-", "/dev/full"])
def test_a_failure_without_a_standard_error(tmp_path: Path, line: str, to: str) -> None:
    """A failure whose message cannot be written has its exit status, and prints nothing else."""
    (tmp_path / "shop.csv").write_text("email,canary\n")
    done = shell(Command(tmp_path), f"flask ecwid {line} 2>{to}")
    assert (done.returncode, done.stdout) == (2, "")


def test_wrong_settings_without_a_standard_error(tmp_path: Path) -> None:
    """Wrong settings have their exit status, although the message cannot be written."""
    command = Command(tmp_path, ECWID_AUTH="canary")
    assert shell(command, "flask ecwid check 2>/dev/full").returncode == 2
    assert shell(command, "flask ecwid export - 2>/dev/full").returncode == 2


def test_no_message_goes_into_the_file(tmp_path: Path) -> None:
    """No file gets the descriptor of a closed stream, so no message goes into the file."""
    command = Command(tmp_path, 30)
    (tmp_path / "app.py").write_text(
        "import os\n"
        "from flask import Flask\n"
        "from flask_ecwid import Ecwid\n"
        "from flask_ecwid.cli import export\n"
        "write = export.Writer.row\n"
        "def row(self, customer):\n"
        "    for fd in (0, 1, 2):\n"
        "        os.write(fd, b'a message of a library')\n"
        "    return write(self, customer)\n"
        "export.Writer.row = row\n"
        "app = Flask('app')\n"
        f"app.config.update({command.settings})\n"
        "Ecwid(app)\n"
    )
    line = f"{sys.executable} -m flask --app app ecwid export all.jsonl <&- >&- 2>&-"
    assert sh(line, tmp_path).returncode == 0
    assert len(command.lines("all.jsonl")) == 34


@pytest.mark.parametrize(
    "line", ["import -", "import - --format csv", "export all.jsonl --where-file -"]
)
def test_a_closed_standard_input(tmp_path: Path, line: str) -> None:
    """A command that reads a closed standard input says so, and has the exit status 2."""
    done = shell(Command(tmp_path), f"flask ecwid {line} <&-")
    assert done.returncode == 2
    assert done.stderr.endswith("Error: the standard input is closed\n")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has this file")
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A file whose reading fails is an error without a traceback."""
    done = shell(Command(tmp_path), "flask ecwid import /proc/self/mem --format jsonl")
    assert done.returncode == 2
    assert done.stderr.endswith("/proc/self/mem: Input/output error\n")
    assert "Traceback" not in done.stderr


PRINTING = ["export -", "openapi", "openapi --json", "check", "key warehouse", "sandbox --port 0"]


@pytest.mark.parametrize("line", PRINTING)
@pytest.mark.parametrize(
    ("to", "unbuffered", "reason"),
    [
        ("&-", "", "the standard output is closed"),
        ("/dev/full", "", "No space left"),
        ("/dev/full", "1", "No space left"),
    ],
)
def test_an_output_that_cannot_be_written(
    tmp_path: Path, line: str, to: str, unbuffered: str, reason: str
) -> None:
    """A command whose result cannot be written says so, and has the exit status 1."""
    command = Command(tmp_path)
    command.settings["PYTHONUNBUFFERED"] = unbuffered
    done = shell(command, f"flask ecwid {line} >{to}")
    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_cut(tmp_path: Path, unbuffered: str) -> None:
    """A result of which only a part can be written is a failure."""
    with (tmp_path / "customers.yaml").open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "ecwid", "openapi"],
            cwd=ROOT,
            env=environment(PYTHONUNBUFFERED=unbuffered),
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: limited(20_000),
        )
    assert (done.returncode, done.stderr) == (1, "Error: the standard output: File too large\n")
    assert (tmp_path / "customers.yaml").stat().st_size == 20_000


# Encodings and interpreters


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-16"])
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_the_contract_in_another_encoding(encoding: str, form: str) -> None:
    """The contract is printed in UTF-8, whatever the encoding of the standard output is."""
    flags = ["--json"] if form == "json" else []
    done = subprocess.run(
        [sys.executable, "-m", "flask", "ecwid", "openapi", *flags],
        cwd=ROOT,
        env=environment(PYTHONIOENCODING=encoding, LC_ALL="C"),
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    printed = yaml.safe_load(done.stdout.decode("utf-8"))
    assert printed["paths"] == contract.load().document["paths"]


HELP = """
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup
from flask_ecwid import cli

group = FlaskGroup(create_app=lambda: Flask("host"), load_dotenv=False)
for name in ("", *cli.COMMANDS):
    print(CliRunner().invoke(group, ["ecwid", *name.split(), "--help"]).output)
"""


def test_help_without_docstrings() -> None:
    """The help texts are the same under `python -OO`, which drops docstrings."""
    usual, without = run_python(HELP), run_python(HELP, "-OO")
    assert usual.returncode == 0
    assert usual.stdout.count("Examples:") + usual.stdout.count("Example:") == len(cli.COMMANDS)
    assert without.stdout == usual.stdout


def test_help_in_ascii() -> None:
    """The help texts can be printed in every encoding."""
    assert run_python(HELP).stdout.isascii()


# File systems

ODD_FILE_SYSTEM = """
import os, stat, sys
real = os.fsync

def fsync(fd):
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        raise OSError({number}, os.strerror({number}))
    real(fd)

os.fsync = fsync
sys.argv = ["flask", "--app", {app!r}, "ecwid", "export", {path!r}]
from flask.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("name", "status"), [("EINVAL", 0), ("ENOTSUP", 0), ("EOPNOTSUPP", 0), ("EIO", 1)]
)
def test_a_folder_that_cannot_be_synced(tmp_path: Path, name: str, status: int) -> None:
    """An export succeeds where a folder cannot be synced, and fails where the disk fails."""
    import errno

    command = Command(tmp_path, 30)
    program = ODD_FILE_SYSTEM.format(
        number=getattr(errno, name), app=str(ROOT / "wsgi.py"), path=str(tmp_path / "all.jsonl")
    )
    done = run_python(program, **command.settings)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert len(command.lines("all.jsonl")) == 34
    assert command.files() == ({"all.jsonl"} if not status else {"all.jsonl", "all.jsonl.resume"})


@pytest.mark.skipif(not os.geteuid(), reason="root can read every folder")
def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    """An export succeeds in a folder that may be written but not read."""
    command = Command(tmp_path, 30)
    (tmp_path / "out").mkdir(mode=0o300)
    assert command.run("export", "out/all.jsonl") == (0, "", "")


def limited(size: int) -> None:
    """Let the process fail to write more bytes into a file, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_for_the_report(tmp_path: Path) -> None:
    """An import whose report cannot be written any more goes on, and says so at once.

    The report keeps its whole lines, and the standard error gets all further refusals.
    """
    sandbox = begin_sandbox(tmp_path)
    try:
        settings = printed_settings(sandbox)
        command = Command(tmp_path)
        command.settings = settings
        good = [json.dumps({"email": f"new-{n}@example.com"}) for n in range(3)]
        bad = ['{"email": 5}'] * 6000
        (tmp_path / "new.jsonl").write_text("\n".join([*bad, *good]))
        process = command.begin(
            *("import", "new.jsonl", "--report", "report.jsonl"),
            preexec_fn=lambda: limited(600_000),
        )
        _, err = process.communicate(timeout=120)
    finally:
        sandbox.terminate()
        sandbox.communicate(timeout=60)
    assert process.returncode == 1
    told, *shown, summary = err.splitlines()
    assert told == "report.jsonl: File too large. The report is not complete."
    assert summary == "3 created, 0 there already, 6000 refused, 0 unknown"
    written = command.lines("report.jsonl")
    assert 1000 < len(written) < 6000
    assert len(shown) == 6000 - len(written)
    for number, line in enumerate(shown, start=len(written) + 1):
        assert line.startswith(f"line {number}: /email: type.")


def test_a_full_disk_for_an_export(tmp_path: Path) -> None:
    """An export on a full disk fails with a sentence, and --resume continues the export."""
    sandbox = begin_sandbox(tmp_path, "--customers", "400")
    try:
        command = Command(tmp_path)
        command.settings = printed_settings(sandbox)
        process = command.begin(
            *("export", "all.jsonl", "--where", "limit=20"), preexec_fn=lambda: limited(100_000)
        )
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert err == (
            "failed: all.jsonl: File too large\n"
            "The same command with --resume continues the export.\n"
        )
        assert command.files() == {"all.jsonl.part", "all.jsonl.resume"}
        assert command.run("export", "all.jsonl", "--where", "limit=20", "--resume")[0] == 0
        assert len({line["id"] for line in command.lines("all.jsonl")}) == 404
    finally:
        sandbox.terminate()
        sandbox.communicate(timeout=60)


# Long lines


@pytest.mark.parametrize("name", ["new.jsonl", "new.csv"])
def test_a_line_of_300_mb(tmp_path: Path, name: str) -> None:
    """A row that is too long is refused by its line, in bounded memory, and reading goes on."""
    first, last = (f"new-{n}@example.com" for n in (1, 3))
    lines = [first, None, last] if name == "new.csv" else [{"email": first}, None, {"email": last}]
    with (tmp_path / name).open("wb") as file:
        if name == "new.csv":
            file.write(b"email\n")
        for line in lines:
            if line is None:
                file.truncate(file.tell() + 300_000_000)
                file.seek(0, os.SEEK_END)
            else:
                file.write((line if isinstance(line, str) else json.dumps(line)).encode())
            file.write(b"\n")
    command = Command(tmp_path)
    process = command.begin("import", name, "--dry-run", "--report", "report.jsonl")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (1, "", "2 valid rows, 1 invalid\n")
    [line] = command.lines("report.jsonl")
    assert line["line"] == (3 if name == "new.csv" else 2)
    assert (line["pointer"], line["keyword"]) == ("", "maxLength")
    assert line["expected"] == "A row of at most 8 MiB."
    # In kB, of which about 90,000 are the interpreter. A child begins with the peak of its parent.
    assert usage.ru_maxrss <= max(300_000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


LONG = "x" * 50
ENDS = ["\n", "\r\n", "\r"]


@pytest.mark.parametrize("end", ENDS, ids=repr)
@pytest.mark.parametrize("most", range(28, 40))
def test_the_numbers_of_lines_after_a_long_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, most: int
) -> None:
    """The rows after a long row keep their lines, wherever the pieces of the long row end."""
    monkeypatch.setattr(rows, "MOST", most)
    monkeypatch.setattr(rows, "_PIECE", 5)
    columns = Columns(contract.load())
    cells = ["email", "a@example.com", LONG, "b@example.com", f'"{LONG}"', "c@example.com", ""]
    (tmp_path / "new.csv").write_bytes(end.join(cells).encode())
    with (tmp_path / "new.csv").open("rb") as file:
        found = [
            (row.line, row.violation.keyword if row.violation else row.customer["email"])
            for row in read_rows(file, "csv", columns)
        ]
    assert found == [
        (2, "a@example.com"),
        (3, "maxLength"),
        (4, "b@example.com"),
        (5, "maxLength"),
        (6, "c@example.com"),
    ]


def test_a_long_row_of_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of CSV with many lines is bounded as a whole, and so is the header."""
    monkeypatch.setattr(rows, "MOST", 40)
    columns = Columns(contract.load())
    path = tmp_path / "new.csv"
    text = "x\nc@example.com,fr\n" * 20
    path.write_text(f'email,lang\n"a@example.com","{text}"\nb@example.com,de\n')
    with path.open("rb") as file:
        [long, row] = list(read_rows(file, "csv", columns))
    assert (long.line, long.violation and long.violation.keyword) == (2, "maxLength")
    assert (row.line, row.customer) == (43, {"email": "b@example.com", "lang": "de"})
    path.write_text("email," * 20 + "\n")
    with path.open("rb") as file, pytest.raises(NotACustomerFile, match="header is longer"):
        list(read_rows(file, "csv", columns))
