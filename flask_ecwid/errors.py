"""What can go wrong with a call or a request; each error is one problem (RFC 9457).

EcwidError
├── RequestError                the request does not fit; nothing has left the house
│   ├── InvalidRequest          400  the contract says where
│   ├── BodyTooLarge            413
│   └── UnsupportedMediaType    415
├── NotSent                     no byte of the call reached Ecwid
│   ├── Unreachable             503  refused, no such name, no connection in time
│   └── TlsFailed               502  the certificate is not Ecwid's
├── NoReply                     the call may have reached Ecwid, and no good reply came back
│   ├── DeadlineExceeded        504
│   ├── ConnectionLost          502
│   └── BadReply                502  no JSON object, too large, a redirect
├── Refused                     Ecwid answered, and the answer is no
│   ├── CustomerNotFound        404
│   ├── EmailTaken              409
│   ├── Rejected                400, 413, 422: Ecwid does not take the content
│   ├── RateLimited             429
│   ├── EcwidUnavailable        503  with Retry-After
│   ├── EcwidTimedOut           504
│   ├── EcwidFailed             502  any other failure of Ecwid's
│   └── ServiceRefused          502  our token, scope, plan, store or call: never the caller's fault
├── ContractBroken              502  the answer does not fit the contract
├── HttpFailure                 any  named by its status alone: no such path, the host's abort()
└── Defect                      500  our own

No error holds a value: not in its text, not in `errors`, not in a chained exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

DEFAULT_RETRY_AFTER_S = 10  # where nobody said how long to wait


class Misfit(NamedTuple):
    """A place that does not fit the contract: where, and by which rule. Never the value."""

    pointer: str
    keyword: str


class EcwidError(Exception):
    """Any failure of a call or a request.

    `executed` is `"no"` when the call cannot have had an effect, else `"unknown"`;
    `retry_after_s` is set when waiting makes sense, in seconds.
    """

    slug: str
    title: str
    origin: str
    status: int
    detail: str
    executed: str = "unknown"
    retry_after_s: int | None = None
    ecwid_code: str | None = None
    errors: Sequence[Misfit] = ()

    def __init__(self, detail: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        super().__init__(f"{self.slug}: {self.detail}")

    def problem(self, request_id: str, *, write: bool) -> dict[str, Any]:
        """The problem body; `write` says whether the operation could have changed anything."""
        body: dict[str, Any] = {
            "type": f"urn:flask-ecwid:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:uuid:{request_id}",
            "request_id": request_id,
            "origin": self.origin,
        }
        if self.errors:
            body["errors"] = [misfit._asdict() for misfit in self.errors]
        if self.ecwid_code:
            body["ecwid_code"] = self.ecwid_code
        if write:
            body["executed"] = self.executed
        return body


class RequestError(EcwidError):
    """The request does not fit; Ecwid was not called."""

    origin = "request"
    executed = "no"


class InvalidRequest(RequestError):
    """The request does not fit the contract; `errors` says where."""

    slug = "invalid-request"
    title = "The request does not fit the contract"
    status = 400
    detail = "See errors for the places that do not fit."

    def __init__(self, errors: Sequence[Misfit] = (), detail: str | None = None) -> None:
        self.errors = errors
        super().__init__(detail)


class BodyTooLarge(RequestError):
    """The request's body is larger than `ECWID_MAX_BODY_BYTES`."""

    slug = "body-too-large"
    title = "The request's body is too large"
    status = 413
    detail = "Send a smaller body."


class UnsupportedMediaType(RequestError):
    """The request's body is not JSON in UTF-8."""

    slug = "unsupported-media-type"
    title = "The request's body is not JSON"
    status = 415
    detail = "Send the body as application/json in UTF-8."


class NotSent(EcwidError):
    """No byte of the call reached Ecwid."""

    origin = "ecwid"
    executed = "no"


class Unreachable(NotSent):
    """Refused, no such name, or no connection in time."""

    slug = "upstream-unreachable"
    title = "Ecwid cannot be reached"
    status = 503
    detail = "No connection to Ecwid could be made."
    retry_after_s = DEFAULT_RETRY_AFTER_S


class TlsFailed(NotSent):
    """The other side could not prove that it is Ecwid."""

    slug = "upstream-tls"
    title = "Ecwid's certificate is not accepted"
    status = 502
    detail = "The TLS handshake with Ecwid failed; nothing was sent."


class NoReply(EcwidError):
    """The call may have reached Ecwid, and no good reply came back."""

    origin = "ecwid"


class DeadlineExceeded(NoReply):
    """Ecwid did not answer in time."""

    slug = "upstream-timeout"
    title = "Ecwid did not answer in time"
    status = 504
    detail = "No complete answer came from Ecwid in time."


class ConnectionLost(NoReply):
    """The connection broke before the reply was complete."""

    slug = "upstream-lost"
    title = "The connection to Ecwid broke"
    status = 502
    detail = "The connection to Ecwid broke before its answer was complete."


class BadReply(NoReply):
    """The reply is no JSON object, too large, or a redirect, which is never followed."""

    slug = "upstream-bad-reply"
    title = "Ecwid's answer is no good answer"
    status = 502
    detail = "Ecwid's answer is not a JSON object."


class Refused(EcwidError):
    """Ecwid answered, and the answer is no. `ecwid_code` is the code it named, if any."""

    origin = "ecwid"

    def __init__(self, detail: str | None = None, *, ecwid_code: str | None = None) -> None:
        self.ecwid_code = ecwid_code
        super().__init__(detail)


class CustomerNotFound(Refused):
    """The store has no customer with this id."""

    slug = "customer-not-found"
    title = "No such customer"
    status = 404
    detail = "The store has no customer with this id."
    executed = "no"


class EmailTaken(Refused):
    """Another customer already has this e-mail."""

    slug = "email-taken"
    title = "The e-mail is taken"
    status = 409
    detail = "Another customer already has this e-mail."
    executed = "no"


class Rejected(Refused):
    """Ecwid does not take the content of the request: 400, 413 or 422."""

    slug = "rejected-by-ecwid"
    title = "Ecwid does not accept the content of the request"
    detail = "The request fits the contract, but Ecwid refused its content."
    executed = "no"

    def __init__(self, status: int, *, ecwid_code: str | None = None) -> None:
        self.status = status
        super().__init__(ecwid_code=ecwid_code)


class RateLimited(Refused):
    """Ecwid's limit of calls is reached."""

    slug = "rate-limited"
    title = "Ecwid's limit of calls is reached"
    status = 429
    detail = "Wait as long as Retry-After says."
    executed = "no"

    def __init__(self, retry_after_s: int, *, ecwid_code: str | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(ecwid_code=ecwid_code)


class EcwidUnavailable(Refused):
    """Ecwid asks to come back later."""

    slug = "upstream-unavailable"
    title = "Ecwid is not available for now"
    status = 503
    detail = "Wait as long as Retry-After says."

    def __init__(self, retry_after_s: int, *, ecwid_code: str | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(ecwid_code=ecwid_code)


class EcwidTimedOut(Refused):
    """Ecwid itself ran out of time."""

    slug = "upstream-timed-out"
    title = "Ecwid ran out of time"
    status = 504
    detail = "Ecwid answered that it ran out of time."


class EcwidFailed(Refused):
    """Ecwid failed."""

    slug = "upstream-failed"
    title = "Ecwid failed"
    status = 502
    detail = "Ecwid answered with a failure of its own."


class ServiceRefused(Refused):
    """Ecwid refuses this service (its token, scope, plan, store, or how it calls)."""

    slug = "service-refused"
    title = "Ecwid refuses this service"
    status = 502
    detail = "Ecwid refused the call for a reason that the caller cannot mend."
    executed = "no"


class ContractBroken(EcwidError):
    """The answer does not fit the contract; `errors` says where."""

    slug = "contract-broken"
    title = "Ecwid's answer does not fit the contract"
    origin = "ecwid"
    status = 502
    detail = "See errors for the places that do not fit."

    def __init__(self, errors: Sequence[Misfit]) -> None:
        self.errors = errors
        super().__init__()


class HttpFailure(EcwidError):
    """A failure that Flask or the host named by its status alone.

    `executed` is `"no"` unless the operation's handler has run.
    """

    def __init__(self, status: int, title: str, *, executed: str = "no") -> None:
        self.status = status
        self.title = title
        self.slug = title.lower().replace(" ", "-")
        self.origin = "request" if status < 500 else "service"
        self.executed = executed
        super().__init__(_HTTP_DETAILS.get(status, f"The answer's status is {status}."))


_HTTP_DETAILS = {
    404: "There is nothing at this path; the contract at openapi.json names the paths.",
    405: "Allow names the methods of this path.",
}


class Defect(EcwidError):
    """This service is at fault."""

    slug = "internal-error"
    title = "The service failed"
    origin = "service"
    status = 500
    detail = "Something went wrong inside the service; its log knows this request's id."
