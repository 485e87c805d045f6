"""The JSON lines of gunicorn's configuration, and the handler that writes them."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from select import select
from typing import Any

import pytest

from flask_ecwid import clock
from flask_ecwid.web.log_lines import Facts, JsonFormatter, StderrHandler, together

from ..conftest import app_of, run_python

FIELDS = {"store": "ecwid", "caller": "bob jones", "status": 200}
# A line waits in this program.
WITH_A_LINE = """
import logging, os, sys, threading
from logging.config import dictConfig
from flask_ecwid import clock
from flask_ecwid.server import LOGGING
from flask_ecwid.web.log_lines import Facts, JsonFormatter, StderrHandler, together
dictConfig(LOGGING)
with together(at_once=False):
    logging.getLogger().warning("the last line")
"""
TEXT = 'store=ecwid caller="bob jones" status=200'


class Pipe:
    """A pipe, of which the handler has the end that writes."""

    def __init__(self) -> None:
        self.end, write_end = os.pipe()
        self.handler = StderrHandler(write_end)
        self.handler.setFormatter(JsonFormatter())
        self.log = logging.Logger("test")
        self.log.addHandler(self.handler)
        self.write_end = write_end

    def lines(self) -> list[dict[str, Any]]:
        """Close the end that writes, and return all lines of the other end."""
        os.close(self.write_end)
        with open(self.end, encoding="utf-8", closefd=False) as text:
            return [json.loads(line) for line in text]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.end)


def test_a_json_line(pipe: Pipe) -> None:
    """A line has the common members, the message and the fields of the record."""
    pipe.log.warning("%d things", 3, extra=FIELDS)
    [line] = pipe.lines()
    time = logging.Formatter().formatTime(logging.makeLogRecord({}))
    assert len(line.pop("asctime")) == len(time)
    common = {"levelname": "WARNING", "process": os.getpid(), "name": "test"}
    assert line == {**common, "message": "3 things", **FIELDS}


def test_facts_are_told_once(pipe: Pipe) -> None:
    """Facts are members of a JSON line without a message, and the text of any other line."""
    pipe.log.info(Facts(FIELDS), extra=FIELDS)
    record = logging.makeLogRecord({"msg": Facts(FIELDS), **FIELDS})
    assert logging.Formatter("%(message)s %(status)d").format(record) == f"{TEXT} 200"
    [line] = pipe.lines()
    assert "message" not in line
    assert FIELDS.items() <= line.items()


def test_the_attribute_of_a_filter(pipe: Pipe) -> None:
    """A JSON line has the attributes that a host's filter adds."""

    class Trace(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            record.trace = "t1"
            return record.levelno > logging.INFO

    pipe.handler.addFilter(Trace())
    pipe.log.info("dropped")
    pipe.log.warning("kept")
    assert [(line["message"], line["trace"]) for line in pipe.lines()] == [("kept", "t1")]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="A filter returns no record before 3.12.")
def test_the_record_of_a_filter(pipe: Pipe) -> None:
    """The line is that of the record which a filter returns."""
    other: Any = logging.makeLogRecord({"msg": "other"})
    pipe.handler.addFilter(lambda _: other)
    pipe.log.info("first")
    assert [line["message"] for line in pipe.lines()] == ["other"]


def test_an_exception(pipe: Pipe) -> None:
    """A line has the traceback of an exception and the stack as members."""
    try:
        raise ValueError("no")
    except ValueError:
        pipe.log.exception("failed", stack_info=True)
    [line] = pipe.lines()
    assert line["exc_info"].endswith("ValueError: no")
    assert line["stack_info"].startswith("Stack (most recent call last)")


def test_values_that_json_lacks(pipe: Pipe) -> None:
    """A line with a large number, half a character or another object is written."""
    pipe.log.info("\ud800", extra={"number": 2**70, "other": ValueError("no")})
    [line] = pipe.lines()
    assert (line["message"], line["number"], line["other"]) == ("\ud800", 2**70, "no")


def test_a_wrong_record(pipe: Pipe, capsys: pytest.CaptureFixture[str]) -> None:
    """A message that does not fit its arguments raises no error in the caller."""
    pipe.log.info("%d", "text")
    assert pipe.lines() == []
    assert "--- Logging error ---" in capsys.readouterr().err


@pytest.mark.parametrize("is_blocking", [True, False])
def test_a_slow_reader_loses_no_line(pipe: Pipe, is_blocking: bool) -> None:
    """Lines of many threads arrive whole, also through a full pipe that does not block."""
    os.set_blocking(pipe.write_end, is_blocking)

    def write(number: int) -> None:
        for _ in range(50):
            pipe.log.info("a line", extra={"number": number, "filling": "x" * 700})

    with ThreadPoolExecutor(9) as threads:
        reading = threads.submit(read_all, pipe.end)
        try:
            list(threads.map(write, range(8)))
        finally:
            os.close(pipe.write_end)
        lines = [json.loads(line) for line in reading.result(60).splitlines()]
    assert sorted(line["number"] for line in lines) == sorted(list(range(8)) * 50)


def read_all(descriptor: int) -> bytes:
    """Return all bytes up to the end."""
    with open(descriptor, "rb", closefd=False) as stream:
        return stream.read()


def test_a_line_in_parts(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of which the system takes a part at a time is whole."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:10]))
    pipe.log.info("a line")
    assert [line["message"] for line in pipe.lines()] == ["a line"]


def test_no_lock(pipe: Pipe) -> None:
    """A thread writes a line while another thread has the lock of the handler."""
    pipe.handler.acquire()
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(pipe.log.info, "a line").result(10)
        finally:
            pipe.handler.release()
    assert len(pipe.lines()) == 1


def test_a_closed_stderr() -> None:
    """A closed stderr raises no error, and the exit status stays."""
    program = """
import os, logging
from flask_ecwid.web.log_lines import Facts, JsonFormatter, StderrHandler, together
logging.getLogger().addHandler(StderrHandler())
os.close(2)
logging.warning("lost")
print("goes on")
"""
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "goes on\n")


def test_a_killed_process_loses_no_line() -> None:
    """A line is out as soon as the call of the logger returns."""
    program = """
import os, signal
from logging import getLogger
from logging.config import dictConfig
from flask_ecwid.server import LOGGING
dictConfig(LOGGING)
getLogger("flask_ecwid.audit").info("the last line")
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run_python(program)
    assert done.returncode == -signal.SIGKILL
    assert json.loads(done.stderr)["message"] == "the last line"


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the data of each system call that writes."""
    found: list[bytes] = []
    write = os.write

    def noted(descriptor: int, line: bytes) -> int:
        found.append(line)
        return write(descriptor, line)

    monkeypatch.setattr(os, "write", noted)
    return found


def test_the_lines_of_a_request_in_one_write(pipe: Pipe, writes: list[bytes]) -> None:
    """The lines of a block are written at its end with one system call, also after an error."""

    def fails() -> None:
        with together(at_once=True):
            pipe.log.info("one")
            pipe.log.info("two")
            assert writes == []
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [line.count(b"\n") for line in writes] == [2]
    pipe.log.info("three")
    assert [line.count(b"\n") for line in writes] == [2, 1]
    assert [line["message"] for line in pipe.lines()] == ["one", "two", "three"]


def test_blocks_of_two_threads_are_apart(pipe: Pipe) -> None:
    """A line of another thread does not wait for the block of this thread."""
    with together(at_once=True), ThreadPoolExecutor(1) as threads:
        pipe.log.info("of this thread")
        threads.submit(pipe.log.info, "of another").result()
    assert [line["message"] for line in pipe.lines()] == ["of another", "of this thread"]


def test_a_line_after_the_end_of_its_block(pipe: Pipe) -> None:
    """A line of a task that outlives the block is written at once."""
    with together(at_once=True):
        pipe.log.info("in time")
        context = copy_context()
    context.run(pipe.log.info, "late")
    assert [line["message"] for line in pipe.lines()] == ["in time", "late"]


def test_the_lines_of_reads_in_one_write(
    pipe: Pipe, writes: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of several blocks that do not hurry are written with one system call."""
    due: list[Callable[[], None]] = []
    monkeypatch.setattr(clock, "call_later", lambda _, function: due.append(function))

    def ask(name: str) -> None:
        with together(at_once=False):
            pipe.log.info(name)

    ask("one")
    with ThreadPoolExecutor(1) as threads:
        threads.submit(ask, "two").result()
    assert (len(due), writes) == (1, [])
    due.pop()()
    assert [line.count(b"\n") for line in writes] == [2]
    ask("three")
    due.pop()()
    assert [line["message"] for line in pipe.lines()] == ["one", "two", "three"]


def test_many_threads_lose_no_line(pipe: Pipe) -> None:
    """Every line of threads that log at the same time is written once."""

    def ask(number: int) -> None:
        with together(at_once=False):
            pipe.log.info("%d", number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(500)))
    received = b""
    while received.count(b"\n") < 500 and select([pipe.end], [], [], 30)[0]:
        received += os.read(pipe.end, 1 << 20)
    messages = [int(json.loads(line)["message"]) for line in received.splitlines()]
    assert sorted(messages) == list(range(500))


@pytest.mark.parametrize("ends", ["", "sys.exit(3)", "1 / 0"])
def test_a_process_that_ends_loses_no_line(ends: str) -> None:
    """The lines that wait are written when the process ends in an orderly way."""
    done = run_python(WITH_A_LINE + ends)
    assert "the last line" in done.stderr


def test_no_thread_can_be_started(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is written at once if no thread can be started for it."""

    def fails(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(clock, "call_later", fails)
    with together(at_once=False):
        pipe.log.info("a line")
    assert [line["message"] for line in pipe.lines()] == ["a line"]


def test_a_forked_process_has_lines_of_its_own() -> None:
    """A fork neither repeats the lines that wait in its parent, nor holds back its own."""
    done = run_python(
        WITH_A_LINE
        + """
if os.fork() == 0:
    with together(at_once=False):
        logging.getLogger().warning("of the child")
    for each in set(threading.enumerate()) - {threading.current_thread()}:
        each.join()  # The line is written by then.
    os._exit(0)
os.wait()
"""
    )
    assert (done.stderr.count("the last line"), done.stderr.count("of the child")) == (1, 1)


def test_the_lines_of_a_write_come_before_its_response(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the lines of reads may wait for others."""
    monkeypatch.setattr(clock, "call_later", lambda *_: None)
    for name in ("flask_ecwid.request", "flask_ecwid.audit"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [pipe.handler])
        caplog.set_level(logging.INFO, logger=name)
    client = app_of({"ECWID_SANDBOX": True}).test_client()
    mount = "/api/json/v1/ecwid"
    assert client.get(f"{mount}/customers").status_code == 200
    assert not select([pipe.end], [], [], 0)[0]
    assert client.post(f"{mount}/add_customer", json={"email": "a@example.com"}).status_code == 200
    assert [line["operation"] for line in pipe.lines()] == ["add_customer"] * 2
