"""Write profiles of page, get and add in process, with an Ecwid on loopback, as text.

    python profiles.py FOLDER [--source CHECKOUT]

Each file has the functions with the most time of their own, and with the most time in total. The
names of files begin at the package, so that no path of this machine is written.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import os
import pstats
import re
import sys
import tempfile
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path

import report
from in_process import load, prepare, respond
from processes import free_port, require_programs, running, settings
from work import WORK

HERE = Path(__file__).parent
MOST = 40  # functions in each list
WARMING = 50


def profile(app: object, work: str, requests: int) -> pstats.Stats:
    """Return the profile of so many requests, after others that warm up."""
    for environ in prepare(work, WARMING):
        respond(app, environ)
    environs = prepare(work, requests)
    profiler = cProfile.Profile()
    profiler.enable()
    for environ in environs:
        respond(app, environ)
    profiler.disable()
    return pstats.Stats(profiler)


def relative(file: str, source: Path) -> str:
    """Return the file's name from its package on."""
    file = re.sub(r"^.*/(site-packages|lib/python3\.\d+)/", "", file)
    return file.removeprefix(f"{source}/").removeprefix(f"{HERE}/")


def text(stats: pstats.Stats, source: Path, requests: int) -> str:
    """Return the time by package, and the two lists of functions."""
    written = io.StringIO()
    named = {
        (relative(file, source), line, function): figures
        for (file, line, function), figures in stats.stats.items()  # type: ignore[attr-defined]
    }
    packages: Counter[str] = Counter()
    for (file, _, _), (_, _, own_s, _, _) in named.items():
        packages[re.split(r"/|\.py$", file)[0]] += own_s
    total_s = sum(packages.values())
    written.write("own time by package or module of the standard library, us per request\n\n")
    for package, own_s in packages.most_common(20):
        us = 1e6 * own_s / requests
        written.write(f"{us:8.1f} {own_s / total_s:4.0%}  {package.replace('~', 'built in')}\n")
    stats.stats = named  # type: ignore[attr-defined]
    stats.stream = written  # type: ignore[attr-defined]
    for order in ("tottime", "cumtime"):
        stats.sort_stats(order).print_stats(MOST)
    return written.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--source", type=Path, default=HERE.parent, help="another checkout")
    parser.add_argument("--requests", type=int, default=1000)
    given = parser.parse_args()
    require_programs()
    source = given.source.resolve()
    sys.path[:0] = [str(source), str(HERE / "apps")]
    from fake_store import write_files, write_nginx_conf  # These need the plugin of `source`.

    with tempfile.TemporaryDirectory(prefix="flask-ecwid-bench-") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)
        write_files(folder)
        port = free_port()
        conf = write_nginx_conf(folder, port=port, limited_port=free_port(), proxy_port=free_port())
        os.environ.update(settings(port, folder))
        given.folder.mkdir(parents=True, exist_ok=True)
        nginx = ["nginx", "-e", f"{folder}/error.log", "-c", str(conf)]
        with (
            running(nginx, port, HERE, {}, folder),
            (folder / "lines.log").open("w") as log,
            redirect_stderr(log),
        ):
            app = load("wsgi:app")
            for work in WORK:
                found = text(profile(app, work, given.requests), source, given.requests)
                head = (
                    f"{work}: {given.requests} requests in process, with Ecwid on loopback\n"
                    f"{report.machine(('flask', 'connexion', 'requests', 'orjson'))}\n"
                    "The profiler costs time for each call of a function.\n"
                )
                (given.folder / f"profile-{work}.txt").write_text(f"{head}\n{found}")


if __name__ == "__main__":
    main()
