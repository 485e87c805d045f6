"""An app of this folder in the workers of a real gunicorn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..conftest import PREFIX, ROOT, environment, free_port, wait_for


@contextmanager
def app_workers(
    app: str,
    config: Mapping[str, object],
    folder: Path,
    *,
    workers: int = 4,
    threads: int = 4,
    **variables: str,
) -> Iterator[str]:
    """Run the app that `create` of a module makes, and give the URL of its mount.

    The app reads its settings from the variable CONFIG, and has its state in the folder.
    """
    bind = f"127.0.0.1:{free_port()}"
    options = ["--bind", bind, "--workers", str(workers), "--threads", str(threads)]
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, f"tests.helpers.{app}:create()"],
        cwd=ROOT,
        env=environment(CONFIG=json.dumps(config), XDG_STATE_HOME=str(folder), **variables),
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for(f"http://{bind}/", process)
            yield f"http://{bind}{PREFIX}"
        finally:
            process.terminate()
