"""The cost of the entry points for projects that do not use flask-ecwid.

    python benchmarks/bystanders.py [ROUNDS]

The same commands run with flask-ecwid's wheel installed, and with its entry points removed. The
times are CPU times, because wall times depend on the other work of the machine. For the same reason
both runs of a round follow each other directly.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "flask --help": ["flask", "--app", "host", "--help"],
    "flask routes": ["flask", "--app", "host", "routes"],
    "pytest, one empty test": ["pytest", "-q", "-p", "no:cacheprovider", "test_empty.py"],
}


def installed(folder: Path) -> dict[str, str]:
    """Return the PYTHONPATH of an installation with the entry points, and of one without."""
    others = folder / "others"
    others.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        ours = path.name.startswith(("flask_ecwid", "__editable__"))
        if not ours and path.suffix != ".pth" and not _is_pytest_plugin(path):
            (others / path.name).symlink_to(path)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    target = folder / "with"
    subprocess.run([*pip, "--no-deps", "--target", str(target), str(ROOT)], check=True)
    shutil.copytree(target, folder / "without")
    [entry_points] = (folder / "without").glob("*.dist-info/entry_points.txt")
    entry_points.unlink()
    return {name: f"{folder / name}{os.pathsep}{others}" for name in ("without", "with")}


def _is_pytest_plugin(path: Path) -> bool:
    # Other plugins take seconds to load. Without them, the differences stand out from the noise.
    entry_points = path / "entry_points.txt"
    return entry_points.is_file() and "[pytest11]" in entry_points.read_text()


def milliseconds(command: list[str], cwd: Path, path: str) -> float:
    """Run the command, and return the CPU time that it took."""
    # -S leaves out this environment's own packages, and with them its own flask-ecwid.
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return (usage.ru_utime + usage.ru_stime) * 1000


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bystanders-") as name:
        paths = installed(Path(name))
        project = Path(name) / "project"
        project.mkdir()
        (project / "host.py").write_text("from flask import Flask\napp = Flask('host')\n")
        (project / "test_empty.py").write_text("def test_empty():\n    pass\n")
        print(
            f"CPU ms, {rounds} rounds | median without | median with | added | added to the minimum"
        )
        for title, command in COMMANDS.items():
            times: dict[str, list[float]] = {"without": [], "with": []}
            for number in range(rounds + 1):
                for each in sorted(times, reverse=number % 2 == 0):
                    times[each].append(milliseconds(command, project, paths[each]))
            without, with_ours = (times[each][1:] for each in ("without", "with"))  # 0 warms up
            medians = [statistics.median(each) for each in (without, with_ours)]
            columns = [*medians, medians[1] - medians[0], min(with_ours) - min(without)]
            print(" | ".join([title, *(f"{each:.1f}" for each in columns)]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 21)
