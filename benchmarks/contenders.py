"""The contenders, each with the command that starts its server.

Each has one worker, with threads where possible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Contender:
    """A contender.

    `command(bin, port, threads)` starts its server, and `bin` has its environment's programs.
    """

    name: str
    note: str
    command: Callable[[Path, int, int], list[str]]
    cwd: Path = HERE / "apps"
    env: str = "rivals"
    checks: bool = True  # whether it looks at Ecwid's answers at all


Command = Callable[[Path, int, int], list[str]]


def _gunicorn(app: str, *options: str, parser: str = "python") -> Command:
    """Return the command of gunicorn. With the parser "fast", no request works without C."""

    def command(bin: Path, port: int, threads: int) -> list[str]:
        bind = ["--bind", f"127.0.0.1:{port}"]
        common = [f"--threads={threads}", f"--http-parser={parser}"]
        return [str(bin / "gunicorn"), *bind, *common, *options, app]

    return command


def _granian(app: str, *options: str) -> Command:
    def command(bin: Path, port: int, threads: int) -> list[str]:
        bind = ["--interface=wsgi", "--host=127.0.0.1", f"--port={port}"]
        return [str(bin / "granian"), *bind, f"--blocking-threads={threads}", *options, app]

    return command


def _uvicorn(app: str) -> Command:
    def command(bin: Path, port: int, threads: int) -> list[str]:
        quiet = ["--log-level=warning", "--no-access-log"]
        return [str(bin / "uvicorn"), "--port", str(port), *quiet, app]

    return command


def _prefixed(command: Command, *words: str) -> Command:
    return lambda bin, port, threads: [*words, *command(bin, port, threads)]


def _on_one_core(command: Command) -> Command:
    return _prefixed(command, "taskset", "--cpu-list", "0")


_GTHREAD = "--worker-class=gthread"
_GEVENT = "--worker-class=gevent"

BASE = Contender(
    "bare Flask, Session", "no checks", _gunicorn("bare:session", _GTHREAD), checks=False
)
ADAPTER = Contender(
    "bare Flask, HTTPAdapter", "no checks", _gunicorn("bare:adapter", _GTHREAD), checks=False
)
ADAPTER_ON_ONE_CORE = Contender(
    "bare Flask, HTTPAdapter, one core", "no checks", _on_one_core(ADAPTER.command), checks=False
)
# gunicorn.conf.py names a worker class, which is a gthread that keeps to one core.
OURS = Contender("flask_ecwid", "as shipped", _gunicorn("wsgi:app"), cwd=ROOT)
ON_ALL_CORES = Contender(
    "flask_ecwid, all cores",
    "ECWID_PIN_WORKERS=off",
    _prefixed(OURS.command, "env", "ECWID_PIN_WORKERS=off"),
    cwd=ROOT,
)
PLAIN = Contender(
    "flask_ecwid, gunicorn's defaults",
    "without gunicorn.conf.py",
    _gunicorn("wsgi:app", _GTHREAD, "--config=/dev/null"),
    cwd=ROOT,
)
STOCK = Contender(
    "connexion 2.15", "validate_responses=True", _gunicorn("stock_connexion:app", _GTHREAD)
)

# They are only in the tables of CPU per request.
VARIANTS = (ADAPTER_ON_ONE_CORE, ON_ALL_CORES, PLAIN)
CONTENDERS = (
    BASE,
    ADAPTER,
    ADAPTER_ON_ONE_CORE,
    OURS,
    ON_ALL_CORES,
    PLAIN,
    STOCK,
    Contender(
        "connexion 3, uvicorn",
        "validate_responses=True",
        _uvicorn("stock_connexion:app"),
        env="connexion3",
    ),
    Contender(
        "FastAPI, requests", "pydantic response model", _uvicorn("fastapi_pydantic:in_threads")
    ),
    Contender(
        "FastAPI, aiohttp", "pydantic response model", _uvicorn("fastapi_pydantic:asynchronous")
    ),
    Contender("flask-openapi3", "validate_response=True", _gunicorn("openapi3:app", _GTHREAD)),
)

# The bare view and flask_ecwid under each server. BASE is the first, as in the other tables.
SERVERS = (
    BASE,
    Contender("gunicorn, all cores: HTTPAdapter", "", ADAPTER.command),
    Contender("gunicorn, one core: HTTPAdapter", "", ADAPTER_ON_ONE_CORE.command),
    Contender("gunicorn, all cores: flask_ecwid", "", ON_ALL_CORES.command, cwd=ROOT),
    Contender("gunicorn, one core: flask_ecwid", "", OURS.command, cwd=ROOT),
    Contender(
        "gunicorn, one core, C parser: flask_ecwid",
        "",
        _gunicorn("wsgi:app", parser="fast"),
        cwd=ROOT,
    ),
    Contender("Granian, all cores: HTTPAdapter", "", _granian("bare:adapter")),
    Contender("Granian, all cores: flask_ecwid", "", _granian("granian_app:app"), cwd=ROOT),
    Contender(
        "Granian, one core: flask_ecwid", "", _on_one_core(_granian("granian_app:app")), cwd=ROOT
    ),
)

# flask_ecwid for 256 callers, with the threads of a process.
MANY_CALLERS = (
    (Contender("gunicorn gthread, 1 x 256 threads", "", OURS.command, cwd=ROOT), 256),
    (
        Contender(
            "gunicorn gthread, 2 x 128 threads", "", _gunicorn("wsgi:app", "--workers=2"), cwd=ROOT
        ),
        128,
    ),
    (
        Contender(
            "gunicorn gthread, 2 x 256 threads", "", _gunicorn("wsgi:app", "--workers=2"), cwd=ROOT
        ),
        256,
    ),
    (
        Contender(
            "gunicorn gthread, all cores, 1 x 256 threads", "", ON_ALL_CORES.command, cwd=ROOT
        ),
        256,
    ),
    (Contender("gunicorn gevent, 1 worker", "", _gunicorn("wsgi:app", _GEVENT), cwd=ROOT), 1),
    (
        Contender(
            "gunicorn gevent, 2 workers",
            "",
            _gunicorn("wsgi:app", _GEVENT, "--workers=2"),
            cwd=ROOT,
        ),
        1,
    ),
    (Contender("Granian, 1 x 256 threads", "", _granian("granian_app:app"), cwd=ROOT), 256),
    (
        Contender(
            "Granian, 2 x 256 threads", "", _granian("granian_app:app", "--workers=2"), cwd=ROOT
        ),
        256,
    ),
)
