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


def _gunicorn(app: str, *options: str) -> Callable[[Path, int, int], list[str]]:
    def command(bin: Path, port: int, threads: int) -> list[str]:
        return [
            str(bin / "gunicorn"),
            "--bind",
            f"127.0.0.1:{port}",
            "--worker-class=gthread",
            f"--threads={threads}",
            *options,
            app,
        ]

    return command


def _uvicorn(app: str) -> Callable[[Path, int, int], list[str]]:
    def command(bin: Path, port: int, threads: int) -> list[str]:
        quiet = ["--log-level=warning", "--no-access-log"]
        return [str(bin / "uvicorn"), "--port", str(port), *quiet, app]

    return command


BASE = Contender("bare Flask, Session", "no checks", _gunicorn("bare:session"), checks=False)
ADAPTER = Contender("bare Flask, HTTPAdapter", "no checks", _gunicorn("bare:adapter"), checks=False)
OURS = Contender("flask_ecwid", "as shipped", _gunicorn("wsgi:app"), cwd=ROOT)
PLAIN = Contender(
    "flask_ecwid, gunicorn's defaults",
    "without gunicorn.conf.py",
    _gunicorn("wsgi:app", "--config=/dev/null"),
    cwd=ROOT,
)
STOCK = Contender("connexion 2.15", "validate_responses=True", _gunicorn("stock_connexion:app"))

CONTENDERS = (
    BASE,
    ADAPTER,
    OURS,
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
    Contender("flask-openapi3", "validate_response=True", _gunicorn("openapi3:app")),
)
