"""Switch off each guard of the plugin, one at a time, and see that the tests notice.

    python tests/mutants.py [NAME ...]          make mutants

A mutant is a copy of the work tree in which one piece of text replaces another. A mutant lives if
its tests pass. Then no test holds the guard, and the exit status is 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
COPIED = [
    *("flask_ecwid", "flask_ecwid_plugins", "openapi", "tests", "docs", "benchmarks/results"),
    *("README.md", "setup.cfg", "pyproject.toml", "gunicorn.conf.py", "wsgi.py", "Makefile"),
]


class Mutant(NamedTuple):
    """A change of one guard, which the tests must notice."""

    name: str
    module: str  # the dotted path below flask_ecwid
    old: str  # stands once in the module
    new: str  # takes the place of `old`
    tests: str  # a file in tests/ or a folder of it, and further arguments of pytest

    @property
    def file(self) -> str:
        """The path of the module below the root of the repository."""
        return f"flask_ecwid/{self.module.replace('.', '/')}.py"


def pytest_arguments(tests: str) -> str:
    """Return the arguments of pytest for a mutant's tests, with the path of the test file.

    Raises:
        ValueError: No file has the name, or two have.
    """
    name, _, options = tests.partition(" ")
    [file] = (ROOT / "tests").rglob(name)
    return f"{file.relative_to(ROOT)} {options}"


MUTANTS = [
    Mutant(
        "no deadline of a receive",
        "client.connection",
        "left_s = self.deadline - clock.now()",
        "left_s = 1e6",
        "test_transport.py",
    ),
    Mutant(
        "no deadline for retries",
        "client.retries",
        "clock.now() + wait_s < deadline and ",
        "",
        "test_gateway.py",
    ),
    Mutant(
        "redirects followed",
        "client.transport",
        "        with response.raw",
        '        if response.headers.get("location"):\n'
        '            request.url = response.headers["location"]\n'
        "            return self._exchange(request, attempt)\n"
        "        with response.raw",
        "test_faults.py -k redirect",
    ),
    Mutant(
        "no reconciliation of a lost creation",
        "client.retries",
        'if call.operation.kind == "create" and error.needs_reconciliation:\n            # The',
        "if False:\n            # The",
        "test_faults.py -k add_customer-closed",
    ),
    Mutant(
        "a lost creation made again",
        "errors",
        "    retries = Retries(2, 1)\n    needs_reconciliation = True\n    trips_breaker = True\n"
        "\n\nclass DeadlineExceeded",
        "    retries = Retries(2, 1, 1)\n    needs_reconciliation = True\n    trips_breaker = True\n"  # noqa: E501
        "\n\nclass DeadlineExceeded",
        "test_faults.py -k add_customer-closed",
    ),
    Mutant(
        "an unknown outcome reported as not executed",
        "client.retries",
        "if may_have_executed else error",
        "if False else error",
        "test_gateway.py",
    ),
    Mutant(
        "any customer with the e-mail is ours",
        "client.reconcile",
        "if registered >= int(",
        "if True or registered >= int(",
        "test_faults.py -k found",
    ),
    Mutant(
        "members that only Ecwid sets are sent",
        "client.bodies",
        'elif schema and schema.get("readOnly"):',
        "elif False:",
        "test_bodies.py",
    ),
    Mutant(
        "misplaced members are sent",
        "client.bodies",
        "(other := instead(path, name))",
        "(other := None)",
        "test_bodies.py",
    ),
    Mutant(
        "a second name is dropped",
        "client.bodies",
        'elif person["name"] == name:',
        "elif True:",
        "test_bodies.py",
    ),
    Mutant(
        "the name of a group is dropped without the id",
        "client.bodies",
        'if body.get("customerGroupId") is None:',
        "if False:",
        "test_bodies.py",
    ),
    Mutant(
        "new contacts without a type are sent",
        "client.bodies",
        'if operation_name == "update_customer":',
        "if False:",
        "test_bodies.py",
    ),
    Mutant(
        "no conversions",
        "client.conversions",
        "    node = _resolved(node, schemas)\n    declared",
        "    node = {}\n    declared",
        "test_conversions.py -k test_conversions",
    ),
    Mutant(
        "conversions of any number of values",
        "client.conversions",
        " < MAX_VALUES",
        " >= 0",
        "test_conversions.py -k many_values",
    ),
    Mutant(
        "conversions before the check",
        "client.replies",
        "        if schema.is_valid(value):\n            return value, True\n",
        "",
        "test_conversions.py -k good_replies",
    ),
    Mutant(
        "more customers than the limit",
        "client.replies",
        "and len(items) > int(limit)",
        "and False",
        "test_odd_customers.py -k more_customers",
    ),
    Mutant(
        "any number of large replies read at once",
        "client.retries",
        "if len(reply.body) <= _LARGE_REPLY_BYTES:",
        "if True:",
        "test_odd_customers.py -k two_at_a_time",
    ),
    Mutant(
        "one odd customer ends a reading",
        "client.pagination",
        "except _FAILURES_OF_ONE_CUSTOMER as exc:",
        "except () as exc:",
        "test_odd_customers.py -k skipped",
    ),
    Mutant(
        "a page that is too large ends a reading",
        "client.pagination",
        "except (ReplyTooLarge, NotJson) as exc:",
        "except () as exc:",
        "test_odd_customers.py -k large_customers",
    ),
    Mutant(
        "no pause",
        "throttling.guard",
        "        if pause_s:\n",
        "        if False:\n",
        "test_guard.py",
    ),
    Mutant(
        "no probe after a pause",
        "throttling.guard",
        "pause=self._pause.claim_probe(pause)",
        "pause=pause",
        "test_guard.py",
    ),
    Mutant(
        "two hosts send the probe",
        "throttling.pause",
        "self._swapped(before.to_json(), after)",
        "self._swapped(before.to_json(), after) or True",
        "test_guard.py",
    ),
    Mutant(
        "a read of the pause that is forgotten",
        "throttling.pause",
        "self._known, self._owed = found, None",
        "self._owed = None",
        "test_guard.py",
    ),
    Mutant(
        "a pause that is never published",
        "throttling.pause",
        "self._published(owed) if owed else self._read()",
        "self._read()",
        "test_guard.py",
    ),
    Mutant(
        "a read that overwrites a pause",
        "throttling.pause",
        "if not self._changing[clock.process_id()] and self._changed == changed:",
        "if True:",
        "test_guard.py",
    ),
    Mutant(
        "the reserve for a host that the others do not know",
        "throttling.rate_limit",
        "return 0 if clock.now() < self._new_until else reserve",
        "return reserve",
        "test_rate_limit.py -k new_host",
    ),
    Mutant(
        "no limit of unexplained refusals",
        "throttling.guard",
        "if self._suspicions >= SUSPICIONS_MOST:",
        "if False:",
        "test_guard.py",
    ),
    Mutant(
        "a pause after the searches",
        "client.retries",
        "self._guard.acquire_for_search",
        "self._guard.acquire",
        "test_guard.py",
    ),
    Mutant(
        "clocks that count as equal",
        "client.retries",
        "ecwid_time(reply, clock.wall())",
        "clock.wall()",
        "test_faults.py -k found",
    ),
    Mutant(
        "any clock trusted",
        "client.reconcile",
        "date is None or abs(date - wall) > CLOCKS_DIFFER_MOST_S",
        "date is None",
        "test_clock_difference.py",
    ),
    Mutant(
        "a partial match of an e-mail taken",
        "client.upsert",
        'if item.get("id") in ids and same_email({"email": email}, item):',
        'if item.get("id") in ids:',
        "test_upsert.py -k partial",
    ),
    Mutant(
        "only the first page of a search",
        "client.upsert",
        'or offset >= page["total"]',
        "or True",
        "test_upsert.py -k partial",
    ),
    Mutant(
        "a late search not repeated",
        "client.upsert",
        "for wait_s in WAITS_S:",
        "for wait_s in WAITS_S[:1]:",
        "test_upsert.py -k at_once",
    ),
    Mutant(
        "a put that clears the other items of a list",
        "client.merge",
        "items: list[Any] = list(shown)",
        "items: list[Any] = []",
        "test_upsert.py -k lists",
    ),
    Mutant(
        "a put that clears the other members of an object",
        "client.merge",
        "{**_settable(schemas[name], shown.get(name)), **_without_nulls(value)}",
        "_without_nulls(value)",
        "test_upsert.py -k other_members",
    ),
    Mutant(
        "no search before the creation of a row",
        "cli.import_",
        "if not self._idempotency.is_known((CALLER,), idempotency_key) and self._is_there(body):",
        "if False:",
        "test_import.py -k takes_an_email_twice",
    ),
    Mutant(
        "a customer without the row's values counts as there",
        "cli.import_",
        "if not all(places):",
        "if places:",
        "test_import.py -k lacks",
    ),
    Mutant(
        "a changed customer counts as there",
        "cli.import_",
        "if places := merge.differences(shown, found):",
        "if places := []:",
        "test_import.py -k changed_since",
    ),
    Mutant(
        "a value below an empty cell of the header dropped",
        "cli.files",
        "if n not in named and text.strip()",
        "if False",
        "test_columns.py -k cannot_be_read",
    ),
    Mutant(
        "UTF-8 read in another encoding",
        "cli.files",
        "if encoding != UTF_8 and watched.is_utf_8:",
        "if False:",
        "test_columns.py -k utf_8_in_another",
    ),
    Mutant(
        "CSV read as JSON Lines",
        "cli.files",
        'if is_first and (not text.lstrip().startswith(b"{") or text.strip() == b"{"):',
        "if False:",
        "test_columns.py -k no_json_lines",
    ),
    Mutant(
        "a row created beside a refused row with its e-mail",
        "cli.import_",
        "first_lines.setdefault(email, row.line) if email else row.line",
        "first_lines.setdefault(email, row.line) if email and not row.violation else row.line",
        "test_import.py -k repeated_email",
    ),
    Mutant(
        "a derived name that adds an address again",
        "client.merge",
        '"id", "default", "countryName", "stateOrProvinceName"})',
        '"id", "default"})',
        "test_upsert.py -k lists",
    ),
    Mutant(
        "an import whose store is deleted without a word",
        "cli.import_",
        "if mount.settings.sandbox == SANDBOX_ON:",
        "if False:",
        "test_import.py -k ends_with_the_command",
    ),
    Mutant(
        "a twin proves that nothing happened",
        "client.retries",
        'raise taken.changed(executed="unknown")',
        "raise taken",
        "test_faults.py -k found",
    ),
    Mutant(
        "any 404 proves a deletion",
        "client.retries",
        "isinstance(error, CustomerNotFound) and error.by_ecwid",
        "isinstance(error, CustomerNotFound)",
        "test_faults.py -k story",
    ),
    Mutant(
        "a resolver without a deadline",
        "clock",
        "return shared.result(timeout_s)",
        "return shared.result()",
        "test_transport.py -k resolver",
    ),
    Mutant(
        "a resolver that holds Redis without a deadline",
        "storage.redis_connection",
        "names.addresses(connection.host, ",
        "names.addresses(connection.host, 1e6 + ",
        "test_redis_connection.py",
    ),
    Mutant(
        "a removed state file",
        "storage.file_state",
        "elif connection.files[0] != _identity(connection.path):",
        "elif False:",
        "test_state.py",
    ),
    Mutant(
        "values of a removed file that come back",
        "storage.file_state",
        'removed.db.execute("DELETE FROM state")',
        "pass",
        "test_state.py",
    ),
    Mutant(
        "a connection to the state file carried over a fork",
        "storage.connections",
        "        before=_before_fork,\n",
        "",
        "test_state.py",
    ),
    Mutant(
        "a lock that a forked child inherits locked",
        "clock",
        "before=_before_fork, after_in_parent",
        "after_in_parent",
        "test_fork.py",
    ),
    Mutant(
        "a change that stays in the -wal file",
        "storage.file_state",
        'db.execute("COMMIT")\n    _checkpoint(db)\n',
        'db.execute("COMMIT")\n',
        "test_state_surroundings.py -k companions",
    ),
    Mutant(
        "removed companions of the state file",
        "storage.file_state",
        "            self._leave_removed_companions()\n",
        "",
        "test_state_surroundings.py -k companions",
    ),
    Mutant(
        "a trap in the temporary directory",
        "storage.file_state",
        "    if fault:\n",
        "    if False:\n",
        "test_state_surroundings.py -k trap",
    ),
    Mutant(
        "a lease of a process that is gone",
        "web.idempotency",
        "if not process.is_gone(earlier.process):",
        "if True:",
        "test_idempotency.py -k killed",
    ),
    Mutant(
        "a process of another host that counts as gone",
        "storage.process",
        "host != _host(os.getpid())",
        "False",
        "test_process.py",
    ),
    Mutant(
        "a child that writes beside the threads of its parent",
        "storage.connections",
        "        _is_cut_off = True\n",
        "        _is_cut_off = False\n",
        "test_state.py",
    ),
    Mutant(
        "a new state file beside the companions of a removed file",
        "storage.file_state",
        '            Path(f"{path}{leftover}").unlink(missing_ok=True)\n',
        "            pass\n",
        "test_state.py",
    ),
    Mutant(
        "a busy state file gets no cooldown",
        "storage.file_state",
        "        self._cooldown.begin()\n",
        "",
        "test_state.py",
    ),
    Mutant(
        "a stored refusal with an unknown outcome",
        "web.idempotency",
        'if error.executed == "unknown" or tried_before:',
        "if tried_before and not isinstance(error, Rejected):",
        "test_idempotency.py",
    ),
    Mutant(
        "no breaker",
        "throttling.guard",
        "self._breaker.record_failure()",
        "pass",
        "test_guard.py",
    ),
    Mutant(
        "no rate limit",
        "throttling.guard",
        "        self.rate_limit.acquire()\n        if",
        "        if",
        "test_rate_limit.py",
    ),
    Mutant(
        "an emptied Redis is trusted",
        "throttling.rate_limit",
        'seen = epoch if clock.now() - seen_at < SPAN_S else ""',
        'seen = ""',
        "test_rate_limit.py -k redis",
    ),
    Mutant(
        "no retry budget",
        "throttling.guard",
        "return self._retry_budget.take(",
        "return True or self._retry_budget.take(",
        "test_guard.py",
    ),
    Mutant(
        "no lease",
        "web.idempotency",
        '== "running" and age_s < ',
        '== "running" and age_s + 1e9 < ',
        "test_idempotency.py",
    ),
    Mutant(
        "a lease for ever",
        "web.idempotency",
        '== "running" and age_s < ',
        '== "running" and age_s - 1e9 < ',
        "test_idempotency.py",
    ),
    Mutant(
        "no search before a second creation",
        "web.idempotency",
        " = create(",
        " = create(None and ",
        "test_idempotency.py",
    ),
    Mutant(
        "a key for any body",
        "web.idempotency",
        ".body != fingerprint:",
        ".body != fingerprint and False:",
        "test_idempotency.py",
    ),
    Mutant(
        "no cap on what is received",
        "client.transport",
        "if len(inflated) > MAX_REPLY_BYTES:",
        "if False:",
        "test_faults.py -k 'MiB or bomb or memory'",
    ),
    Mutant(
        "a bomb inflated whole",
        "client.transport",
        "inflate.decompress(body, MAX_REPLY_BYTES + 1)",
        "inflate.decompress(body)",
        "test_faults.py -k memory",
    ),
    Mutant(
        "no check of a reply",
        "client.replies",
        "if is_valid and not (call.bulk and",
        "if True or not (call.bulk and",
        "test_ecwid_replies.py",
    ),
    Mutant(
        "extra bytes overlooked",
        "client.connection",
        "if self.has_rest():",
        "if False:",
        "test_faults.py -k 'extra or replies'",
    ),
    Mutant(
        "cut headers taken for whole ones",
        "client.connection",
        "if self._receiver.has_ended or reply.status < 200:",
        "if reply.status < 200:",
        "test_faults.py -k headers",
    ),
    Mutant(
        "waits that do not end",
        "clock",
        "    _stopping = True",
        "    pass",
        "test_guard.py",
    ),
    Mutant(
        "no caller is authenticated",
        "web.connexion_api",
        "context.mount.authenticator.authenticate(",
        "(lambda operation: None)(",
        "test_auth.py",
    ),
    Mutant(
        "a body read before the caller is known",
        "web.connexion_api",
        "context.caller = context.mount",
        "incoming.read(context.mount.settings.max_body_bytes)\n"
        "            context.caller = context.mount",
        "test_auth.py",
    ),
    Mutant(
        "any scope will do",
        "web.authentication",
        "    if scope not in ",
        "    if not scope and scope not in ",
        "test_auth.py",
    ),
    Mutant(
        "the second of two keys",
        "web.authentication",
        "    if authorization is not None and api_key is not None:\n",
        "    if False:\n",
        "test_auth.py",
    ),
    Mutant(
        "a hint for every unknown name",
        "contract.expected",
        "islice(sent, _MAX_NAMES)",
        "list(sent)",
        "test_expected.py -k bounded",
    ),
    Mutant(
        "a hint for names of any length",
        "nearest",
        "if len(sent) <= _MAX_LENGTH else",
        "if True else",
        "test_expected.py -k bounded",
    ),
    Mutant(
        "a hint that repeats the caller's name",
        "contract.operation",
        "expected.of_unknown([name], known)",
        "expected.of_unknown([name], [*known, name])",
        "test_expected.py -k nearest_parameter",
    ),
    Mutant(
        "a hint that is not given",
        "contract.operation",
        "expected.explained(violation, self.body_node, document)",
        "violation",
        "test_expected.py -k every_rule_of_a_body",
    ),
    Mutant(
        "all places in the line of a request",
        "errors",
        "self.errors[:_MAX_PLACES]",
        "self.errors",
        "test_expected.py -k bounded",
    ),
    Mutant(
        "API keys in the contract of a store with authorize",
        "web.openapi",
        '"examples": {**examples, **_refusals_by_host(examples)},',
        '"examples": examples,',
        "test_auth.py -k what_the_host_says",
    ),
    Mutant(
        "any true value authenticates",
        "web.authentication",
        "        if granted is True:\n",
        "        if granted:\n",
        "test_auth.py",
    ),
    Mutant(
        "a page of another site is accepted",
        "web.authentication",
        "        if operation.writes and _may_be_cross_site(is_open=self._authorize is None):\n",
        "        if False:\n",
        "test_auth.py",
    ),
    Mutant(
        "placeholders taken for tokens",
        "settings.credentials",
        "    if _PLACEHOLDER.fullmatch(token):",
        "    if False:",
        "test_settings.py -k token",
    ),
    Mutant(
        "a public token taken for a secret one",
        "settings.credentials",
        'token.lower().startswith("public_")',
        "False",
        "test_settings.py -k token",
    ),
    Mutant(
        "quotes around a value",
        "settings.settings",
        "isinstance(raw, str) and (fault := credentials.quotes_fault(raw))",
        'fault := ""',
        "test_settings.py -k quotes",
    ),
    Mutant(
        "API keys that anybody could guess",
        "settings.credentials",
        "return digest in _common_digests()",
        "return False",
        "test_settings.py -k guess",
    ),
    Mutant(
        "a connect timeout above the deadline",
        "settings.settings",
        "    if timeout > deadline > 0 and",
        "    if False and",
        "test_settings.py -k timeout",
    ),
    Mutant(
        "more hosts than calls",
        "settings.settings",
        "    if hosts > calls > 0:",
        "    if False:",
        "test_settings.py -k hosts",
    ),
    Mutant(
        "a misspelt key without a warning",
        "settings.keys",
        "elif nearest := _nearest_key(key, config, prefix, known):",
        'elif nearest := "":',
        "test_settings.py -k near",
    ),
    Mutant(
        "a host's key taken for a misspelt one",
        "nearest",
        "matcher.ratio() >= _MISSPELT",
        "True",
        "test_settings.py -k host",
    ),
    Mutant(
        "check without a look at the state file",
        "cli.check",
        "path = storage.host.try_out()",
        'path = ""',
        "test_cli.py -k state",
    ),
    Mutant(
        "a page of another site writes to an open store",
        "web.authentication",
        "        if operation.writes and _may",
        "        if self._authorize and operation.writes and _may",
        "test_auth.py -k open_store",
    ),
    Mutant(
        "a cookie closes an open store",
        "web.authentication",
        "    return has_login and not is_open\n",
        "    return has_login\n",
        "test_auth.py -k open_store",
    ),
    Mutant(
        "every refused request is logged",
        "web.sampling",
        "is_taken = self._written < MOST_LINES",
        "is_taken = True",
        "test_logs.py -k fill",
    ),
    Mutant(
        "the number of refused requests is forgotten",
        "web.sampling",
        "        if left_out:\n",
        "        if False:\n",
        "test_sampling.py",
    ),
    Mutant(
        "a reason of werkzeug in a problem",
        "web.problems",
        'if raised_by.partition(".")[0] in ("werkzeug", "flask") and',
        "if False and",
        "test_hosts.py",
    ),
    Mutant(
        "the host's reason is swallowed",
        "web.problems",
        "_http_failure(exc.code or 500, context, _host_reason(exc))",
        "_http_failure(exc.code or 500, context)",
        "test_hosts.py",
    ),
    Mutant(
        "no policy for Swagger UI",
        "web.swagger_ui",
        '{"Content-Security-Policy": POLICY}',
        "{}",
        "test_mounting.py -k policy",
    ),
    Mutant(
        "inline images in Swagger UI",
        "web.swagger_ui",
        "    return _IMAGE.sub(separated, text), images\n",
        "    return text, images\n",
        "test_mounting.py -k policy",
    ),
    Mutant(
        "no body in chunks under uWSGI",
        "web.incoming",
        "        if _is_chunked_by_uwsgi():\n",
        "        if False:\n",
        "test_servers.py -k uWSGI",
    ),
    Mutant(
        "two leading slashes that the server dropped",
        "web.blueprint",
        ' or path.startswith("//")',
        "",
        "test_problems.py -k server_dropped",
    ),
    Mutant(
        "a store without authentication",
        "settings.settings",
        '        if not authorize and not values["api_keys"]:\n',
        "        if False:\n",
        "test_auth.py",
    ),
    Mutant(
        "one Idempotency-Key for all callers",
        "web.handlers",
        'identity, context.caller or "")',
        "identity,)",
        "test_auth.py",
    ),
    Mutant(
        "one Idempotency-Key for all mounts",
        "web.handlers",
        "(*context.mount.identity, context",
        "(context",
        "test_idempotency.py -k mounts",
    ),
    Mutant(
        "no required Idempotency-Key",
        "web.connexion_api",
        "if required and context",
        "if False and context",
        "test_idempotency.py -k missing",
    ),
    Mutant(
        "quotes as a part of the Idempotency-Key",
        "contract.operation",
        "key = _unquoted(text)",
        "key = text",
        "test_idempotency.py -k quotes",
    ),
    Mutant(
        "an audit line that does not say replayed",
        "web.audit",
        "if context.replayed:",
        "if False:",
        "test_audit.py -k replay",
    ),
    Mutant(
        "no line before a deletion",
        "web.handlers",
        "audit.write_line_before_delete()",
        "pass",
        "test_audit.py",
    ),
    Mutant(
        "secrets that show",
        "settings.settings",
        "return \"'***'\"",
        "return str.__repr__(self)",
        "test_secret.py",
    ),
    Mutant(
        "secrets that are pickled",
        "settings.settings",
        'raise TypeError("a secret ',
        'return super().__reduce_ex__(protocol) or ("a secret ',
        "test_secret.py",
    ),
    Mutant(
        "a write after its deadline on the wall clock",
        "client.retries",
        "min(left_s, deadline - begun.monotonic - begun.elapsed_s())",
        "left_s",
        "test_gateway.py",
    ),
    Mutant(
        "an expired deadline blamed on Ecwid",
        "client.retries",
        "left_s = deadline - clock.now()",
        "left_s = 1.0",
        "test_gateway.py",
    ),
    Mutant(
        "a probe of the breaker that was never sent",
        "throttling.guard",
        "self._breaker.release_probe()",
        "pass",
        "test_gateway.py",
    ),
    Mutant(
        "all violations of any document",
        "contract.schema",
        "        if _is_small(document):\n",
        "        if True:\n",
        "test_refused_requests.py -k many",
    ),
    Mutant(
        "an authorize that ends the service",
        "web.authentication",
        "    except BaseException as exc:",
        "    except Exception as exc:",
        "test_auth.py -k refuses",
    ),
    Mutant(
        "no check of POSIX",
        "extension",
        "        _require_posix()\n",
        "",
        "test_bystanders.py -k posix",
    ),
    Mutant(
        "a pause of ten hours",
        "throttling.pause",
        "(_KEPT_S if probed else 0.0), _PAUSE_MOST_S)",
        "(_KEPT_S if probed else 0.0), 1e9)",
        "test_guard.py -k hour",
    ),
    Mutant(
        "a probe of the pause that was never sent",
        "throttling.guard",
        "self._pause.release_probe(permit.pause)",
        "pass",
        "test_gateway.py",
    ),
    Mutant(
        "a permit that is not given back",
        "client.retries",
        "            self._guard.release(permit)\n            raise",
        "            raise",
        "test_gateway.py",
    ),
    Mutant(
        "a deadline checked before the guard",
        "client.retries",
        "        permit = self._guard.acquire()\n",
        "        asked_at = clock.now()\n"
        "        permit = self._guard.acquire()\n"
        "        deadline += clock.now() - asked_at\n"
        "        ends_at += clock.now() - asked_at\n",
        "test_gateway.py",
    ),
    Mutant(
        "a search whose time ran out blamed on Ecwid",
        "client.retries",
        "if clock.now() >= deadline:",
        "if False:",
        "test_gateway.py",
    ),
    Mutant(
        "a token that is not in its digest",
        "settings.settings",
        "self.sandbox, self.token)",
        "self.sandbox)",
        "test_settings.py",
    ),
    Mutant(
        "the repr of a token in its digest",
        "settings.settings",
        'part.encode("utf-8", "surrogatepass")',
        "repr(part).encode()",
        "test_settings.py",
    ),
    Mutant(
        "values of a digest that can be cut elsewhere",
        "settings.settings",
        'b"%d:%b" % (len(value), value)',
        "value",
        "test_settings.py",
    ),
    Mutant(
        "one pause for all tokens of a store",
        "throttling.guard",
        "settings.token_digest",
        "settings.store_digest",
        "test_guard.py -k token",
    ),
    Mutant(
        "a read that joins one of an older generation",
        "client.shared_reads",
        "if generation != self._generation:",
        "if False:",
        "test_cache.py",
    ),
    Mutant(
        "a read that joins one from before a write",
        "storage.store_memory",
        "        self.under_way.clear()\n",
        "",
        "test_sharing.py",
    ),
    Mutant(
        "a child that waits for a read of its parent",
        "storage.process_memory",
        "if process != clock.process_id():",
        "if False:",
        "test_client_lifetime.py",
    ),
    Mutant(
        "a generation that comes back",
        "storage.cache_backend",
        " .. '.' .. now[1] .. '.' .. now[2]",
        "",
        "test_cache.py -k back",
    ),
    Mutant(
        "a later request that delivers no invalidation",
        "client.shared_reads",
        "self._responses.deliver()",
        "pass",
        "test_cache_undelivered.py -k next",
    ),
    Mutant(
        "a read that delivers no invalidation",
        "storage.cache_backend",
        '        if not self._deliver():\n            return ""',
        '        if False:\n            return ""',
        "test_cache_undelivered.py -k again",
    ),
    Mutant(
        "an undelivered invalidation that leaves no mark",
        "storage.cache_backend",
        "            self._leave_mark()",
        "            pass",
        "test_cache_undelivered.py -k process",
    ),
    Mutant(
        "a mark that stays",
        "storage.cache_backend",
        "self._host.compare_and_swap(self._mark_key, mark, None, _MARK_S)",
        "pass",
        "test_cache_undelivered.py -k process",
    ),
    Mutant(
        "a failed invalidation taken for delivered",
        "storage.cache_backend",
        "            return False\n        delivered",
        "            pass\n        delivered",
        "test_cache_undelivered.py -k file",
    ),
    Mutant(
        "a memory for each mount",
        "storage.process_memory",
        "if found is None:",
        "if True:",
        "test_cache.py",
    ),
    Mutant(
        "a mount that tells no other mount of a write",
        "client.shared_reads",
        "        self._memory.get().end_write()\n",
        "",
        "test_cache.py -k elsewhere",
    ),
    Mutant(
        "a cached response by the clock that stops",
        "storage.store_memory",
        "(age_s := entry[0].elapsed_s())",
        "(age_s := clock.now() - entry[0].monotonic)",
        "test_cache.py -k suspended",
    ),
    Mutant(
        "garbage taken for a cached response",
        "web.cache",
        "etag != _etag(tagged) or ",
        "",
        "test_cache.py -k garbage",
    ),
    Mutant(
        "no check of an envelope",
        "web.connexion_api",
        "    operation.envelope.",
        "    lambda: operation.envelope.",
        "test_ecwid_replies.py -k envelope",
    ),
    Mutant(
        "URLs in the log of connexion",
        "web.connexion_api",
        "        return response\n",
        "        return FlaskApi.get_response(response)\n",
        "test_logs.py",
    ),
    Mutant(
        "a folder of the state file that is open to others",
        "storage.file_state",
        "if stat.S_IMODE(found.st_mode) & 0o077:",
        "if False:",
        "test_state.py -k folder",
    ),
    Mutant(
        "a folder that stays open to others",
        "storage.file_state",
        "if mode & 0o077:",
        "if False:",
        "test_state.py -k folder",
    ),
    Mutant(
        "a folder of another user",
        "storage.file_state",
        "if found.st_uid != os.getuid():",
        "if False:",
        "test_state.py -k folder",
    ),
    Mutant(
        "a state file of another format",
        "storage.file_state",
        "if found != _FORMAT:",
        "if False:",
        "test_state.py",
    ),
    Mutant(
        "a connection left open by a failed opening",
        "storage.file_state",
        "        if db is not None:\n            db.close()\n",
        "",
        "test_state.py",
    ),
    Mutant(
        "a connection of the parent that its child closes",
        "storage.connections",
        "if process == clock.process_id():",
        "if True:",
        "test_state.py",
    ),
    Mutant(
        "a path that a worker inherits",
        "storage.file_state",
        "self._found[0] != process",
        "False",
        "test_state.py",
    ),
    Mutant(
        "a socket of the parent that its child uses",
        "client.transport",
        "        process = clock.process_id()\n        adapter",
        "        process = 0\n        adapter",
        "test_client_lifetime.py -k fork",
    ),
    Mutant(
        "a second creation refused for the first one's e-mail",
        "client.retries",
        "and isinstance(error, EmailTaken)",
        "and False",
        "test_idempotency.py",
    ),
    Mutant(
        "a length that is unclear",
        "client.connection",
        "len(codings) + len(lengths) > 1 or ",
        "",
        "test_faults.py -k length",
    ),
    Mutant(
        "a length that is no number",
        "client.connection",
        "if not all(length.isdecimal() for length in lengths):",
        "if False:",
        "test_faults.py -k length",
    ),
    Mutant(
        "a body that is cut short",
        "client.connection",
        "if is_framed and self._receiver.has_ended:",
        "if False:",
        "test_faults.py -k 'body and (cut or missing)'",
    ),
    Mutant(
        "a reply without a limit",
        "client.connection",
        "if self._left_bytes < 0:",
        "if False:",
        "test_transport.py -k memory",
    ),
    Mutant(
        "a 103 taken for the last reply",
        "client.connection",
        " or reply.status < 200",
        "",
        "test_kept_connections.py -k hint",
    ),
    Mutant(
        "a stray byte overlooked",
        "client.pool",
        "if connection.is_quiet():",
        "if True:",
        "test_kept_connections.py -k nobody",
    ),
    Mutant(
        "an idle connection used for any time",
        "client.pool",
        "MOST_IDLE_S = 60.0",
        "MOST_IDLE_S = 1e6",
        "test_kept_connections.py",
    ),
    Mutant(
        "a creation over an idle connection",
        "client.transport",
        'FRESH_S if call.operation.kind == "create" else MOST_IDLE_S',
        "MOST_IDLE_S",
        "test_kept_connections.py -k creation",
    ),
    Mutant(
        "an idle time on one clock",
        "clock",
        "max(now() - self.monotonic, wall() - self.on_wall)",
        "now() - self.monotonic",
        "test_kept_connections.py -k suspend",
    ),
    Mutant(
        "no keep-alive probes",
        "client.route",
        "socket.SO_KEEPALIVE, 1",
        "socket.SO_KEEPALIVE, 0",
        "test_kept_connections.py -k probes",
    ),
    Mutant(
        "the other idle connections kept after a loss",
        "client.pool",
        "if attempt.idle_s is not None and attempt.sent and not attempt.received:",
        "if False:",
        "test_kept_connections.py -k 'other or burst'",
    ),
    Mutant(
        "the loss of a kept connection counted by the breaker",
        "throttling.guard",
        "if error.blames_connection:",
        "if False:",
        "test_kept_connections.py -k reads",
    ),
    Mutant(
        "the repetition after the loss of a kept connection at full cost",
        "throttling.guard",
        "CONNECTION_COST = 1",
        "CONNECTION_COST = 5",
        "test_kept_connections.py -k burst",
    ),
    Mutant(
        "silence of Ecwid blamed on the connection",
        "client.transport",
        "or attempt.idle_s > FRESH_S",
        "or True",
        "test_kept_connections.py -k breaker",
    ),
    Mutant(
        "bytes before the tunnel taken for the host's",
        "client.route",
        " or connection.has_rest()",
        "",
        "test_route.py -k tunnel",
    ),
    Mutant(
        "the proxy's refusal overlooked",
        "client.route",
        "reply.status >= 300 or ",
        "",
        "test_route.py -k tunnel",
    ),
    Mutant(
        "a dead address tried first",
        "storage.names",
        "_postponed.get(address, 0.0) > clock.now()",
        "False",
        "test_route.py -k address",
    ),
    Mutant(
        "postponed addresses without a limit",
        "storage.names",
        "rest[1 - _POSTPONED_MOST :]",
        "rest",
        "test_route.py -k few",
    ),
    Mutant(
        "a cached response of an unknown generation",
        "storage.cache_backend",
        " or entry:sub(1, #head) ~= head",
        "",
        "test_cache.py",
    ),
    Mutant(
        "a read from before a write that is cached after it",
        "storage.store_memory",
        "if writes == self.writes and ",
        "if ",
        "test_cache.py",
    ),
    Mutant(
        "an existing file taken for a new one",
        "private_files",
        "os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
        "os.O_CREAT | os.O_NOFOLLOW",
        "test_private_files.py -k nothing_of_others",
    ),
    Mutant(
        "a link that is followed",
        "private_files",
        "access | os.O_NOFOLLOW | os.O_NONBLOCK",
        "access | os.O_NONBLOCK",
        "test_private_files.py -k appears",
    ),
    Mutant(
        "a file of another user",
        "private_files",
        "if found.st_uid != os.geteuid():",
        "if False:",
        "test_private_files.py -k open_to_all",
    ),
    Mutant(
        "a file with a hard link",
        "private_files",
        "if found.st_nlink > 1:",
        "if False:",
        "test_private_files.py -k hard_link",
    ),
    Mutant(
        "a file that others can read",
        "private_files",
        "os.fchmod(fd, _MODE)",
        "pass",
        "test_private_files.py -k become_private",
    ),
    Mutant(
        "a folder that must be synced",
        "private_files",
        "*(errno.EINVAL, errno.ENOTSUP,",
        "*(errno.ENOTSUP,",
        "test_surroundings.py -k synced",
    ),
    Mutant(
        "a folder that is a link of another user",
        "private_files",
        "if is_shared and found.st_uid not in (0, os.geteuid()):",
        "if False:",
        "test_private_files.py -k folder_that_is_a_link",
    ),
    Mutant(
        "a link of another user behind an own link",
        "private_files",
        "        _check_folders(folder.parent / folder.readlink() / path.name)",
        "        pass",
        "test_private_files.py -k folder_that_is_a_link",
    ),
    Mutant(
        "a link of an administrator taken for an attack",
        "private_files",
        "if is_shared and found.st_uid",
        "if found.st_uid",
        "test_private_files.py -k folder_that_is_a_link",
    ),
    Mutant(
        "links in a circle",
        "private_files",
        "        folder.stat()  #",
        "        pass  #",
        "test_private_files.py -k circle",
    ),
    Mutant(
        "a report that empties any file",
        "cli.report",
        "if earlier and not Refusal.is_json(",
        "if False and not Refusal.is_json(",
        "test_refused_files.py -k no_report",
    ),
    Mutant(
        "an earlier report that is refused",
        "cli.report",
        "_NEEDED <= members.keys() <= _MEMBERS",
        "_NEEDED == members.keys()",
        "test_refused_files.py -k earlier_report",
    ),
    Mutant(
        "a new report that a refusal leaves behind",
        "cli.report",
        "self._is_new and is_refused:",
        "False:",
        "test_refused_files.py -k refused",
    ),
    Mutant(
        "an empty part that a refusal leaves behind",
        "cli.resumable",
        "if self._is_the_part() and os.fstat(self._fd).st_size == 0:",
        "if False:",
        "test_refused_files.py -k first_call",
    ),
    Mutant(
        "a checkpoint that cannot be replaced",
        "cli.resumable",
        "        private_files.check_replaceable(self._state)",
        "",
        "test_refused_files.py -k first_call",
    ),
    Mutant(
        "a file that cannot be replaced at the end",
        "cli.resumable",
        "if folder.st_mode & stat.S_ISVTX and not may_replace:",
        "if False:",
        "test_private_files.py -k sticky_folder",
    ),
    Mutant(
        "a word of examples in a token of Ecwid's length",
        "settings.credentials",
        "(?!.{{20}})",
        "",
        "test_settings.py -k may_be_right",
    ),
    Mutant(
        "an export whose target is a link",
        "cli.resumable",
        "if stat.S_ISLNK(found.st_mode):",
        "if False:",
        "test_private_files.py -k replaces_no_target",
    ),
    Mutant(
        "a row without a limit",
        "cli.rows",
        "if len(line) > self._left:",
        "if False:",
        "test_surroundings.py -k long_line",
    ),
    Mutant(
        "descriptors of closed streams for files",
        "cli.terminal",
        "os.devnull, os.O_RDWR)) <= 2:",
        "os.devnull, os.O_RDWR)) <= -1:",
        "test_surroundings.py -k no_message",
    ),
    Mutant(
        "the whole name beside its parts",
        "cli.columns",
        "        of_part.pop(0, None)",
        "        pass",
        "test_columns.py -k several_columns",
    ),
    Mutant(
        "control characters of a cell",
        "cli.garbled",
        "    if _CONTROL.search(text):",
        "    if False:",
        "test_columns.py -k control_characters",
    ),
    Mutant(
        "a cell in UTF-8 within another encoding",
        "cli.garbled",
        "    if _is_utf_8(text, codec):",
        "    if False:",
        "test_columns.py -k cell_in_utf_8",
    ),
    Mutant(
        "blanks of the store's texts in CSV",
        "cli.columns",
        "escape_formula(escape_blanks(value))",
        "escape_formula(value)",
        "test_columns.py -k texts_are_kept",
    ),
    Mutant(
        "an update of one of several customers",
        "cli.import_",
        ", only_one=True",
        "",
        "test_import.py -k of_several",
    ),
    Mutant(
        "an output in the encoding of the locale",
        "cli.openapi",
        "terminal.show(",
        "click.echo(",
        "test_surroundings.py -k encoding",
    ),
    Mutant(
        "a full disk for the report that ends the import",
        "cli.report",
        "                self._give_up(exc)",
        "                raise",
        "test_surroundings.py -k full_disk_for_the_report",
    ),
    Mutant(
        "a long text whose rest counts as rows",
        "cli.rows",
        "if self._quotes % 2 == 0:",
        "if True:",
        "test_surroundings.py -k many_lines",
    ),
    Mutant(
        "no help without docstrings",
        "cli.__init__",
        "if command.help is None:",
        "if False:",
        "test_surroundings.py -k without_docstrings",
    ),
    Mutant(
        "an output that fails once more at the exit",
        "cli.terminal",
        "os.dup2(null, sys.stdout.fileno())",
        "pass",
        "test_surroundings.py -k output_that",
    ),
    Mutant(
        "an output of which a part is lost",
        "cli.terminal",
        "view = view[stream.write(view) :]",
        "stream.write(view); view = view[:0]",
        "test_surroundings.py -k output_that",
    ),
    Mutant(
        "errors on the standard output",
        "cli.terminal",
        "    if sys.stderr is None:",
        "    if False:",
        "test_surroundings.py -k without_a_standard_error",
    ),
    Mutant(
        "a closed standard input",
        "cli.terminal",
        'if path == "-" and sys.stdin is None:',
        "if False:",
        "test_surroundings.py -k closed_standard_input",
    ),
]


def main(names: list[str]) -> int:
    """Run the tests of the named mutants, or of all of them, and return the exit status."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    for tests in dict.fromkeys(mutant.tests for mutant in chosen):
        assert _passes(tests), f"not even without a mutant: {tests}"
    living = 0
    for mutant in chosen:
        begun = time.monotonic()
        noticed = not _passes(mutant.tests, mutant)
        seconds = time.monotonic() - begun
        print(f"{'killed' if noticed else 'LIVES':7} {seconds:5.1f} s  {mutant.name}", flush=True)
        living += not noticed
    return 1 if living else 0


def _passes(tests: str, mutant: Mutant | None = None) -> bool:
    """Return whether the tests pass in a copy of the work tree, with the mutant's change in it.

    An end of pytest other than "passed" or "failed" is an error of this script, because such a
    run has tested nothing.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, copy / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, copy / name)
        if mutant:
            module = copy / mutant.file
            text = module.read_text(encoding="utf-8")
            assert text.count(mutant.old) == 1, f"{mutant.name}: the text is not there once"
            module.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = subprocess.run(
            f"{sys.executable} -m pytest -q -x -p no:cacheprovider {pytest_arguments(tests)}",
            shell=True,
            cwd=copy,
            # Otherwise the processes that a test starts elsewhere would run the installed code.
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode in (0, 1), f"pytest ended with {done.returncode}: {tests}"
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
