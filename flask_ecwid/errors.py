"""The errors of calls and requests. Each class is one problem (RFC 9457) and states its policy.

EcwidError                       status                                            retries (r c n)
├── RequestError                         The request is refused before Ecwid is called.
│   ├── InvalidRequest           400     The request does not fit the contract.
│   ├── Unauthorized             401     The caller is not known.
│   ├── Forbidden                403     The caller lacks the scope.
│   ├── CrossSite                403     The page of another site may have sent the write.
│   ├── BodyTooLarge             413
│   ├── UnsupportedMediaType     415
│   ├── IdempotencyKeyInUse      409     Another request with the key is under way.
│   └── IdempotencyKeyReused     422     The key belongs to another body.
├── NotSent                              No byte of the call reached Ecwid.
│   ├── Unreachable              503     No connection came about.                       2 1 2
│   ├── TlsFailed                502     The certificate is not Ecwid's.
│   └── Throttled                503     The plugin made no call.
│       ├── BudgetSpent          429     The plugin's share of Ecwid's calls is spent.
│       └── IdempotencyUnavailable 503   The storage of the keys is unavailable.
├── NoReply                              The call may have reached Ecwid.
│   ├── DeadlineExceeded         504                                                     2 1 S
│   ├── ConnectionLost           502     It broke before the first byte of a reply.      2 1 S
│   ├── BadReply                 502     The reply is cut short or mangled.              2 1 S
│   │   ├── NotJson              502     The reply is complete and no JSON object.       1 1 S
│   │   ├── Undecodable          502     The reply is too large or not decompressible.   0 0 S
│   │   └── Redirected           502     The plugin follows no redirect.
│   └── OutcomeUnknown           504     The customer may have been created.
├── Refused                              Ecwid replied with a refusal.
│   ├── CustomerNotFound         404
│   ├── EmailTaken               409
│   ├── Rejected                 400, 413, 422
│   ├── RateLimited              429     Repeated if Ecwid asks for 2 s or less.         1 1 1
│   ├── EcwidUnavailable         503     Ecwid sent Retry-After.                         0 0 S
│   ├── EcwidTimedOut            504                                                     2 1 S
│   ├── EcwidFailed              502     Any other failure of Ecwid.                     2 1 S
│   └── ServiceRefused           502     The token, its scope, the plan or the store.
├── ContractBroken               502     The reply does not fit the contract.            1 0 S
├── HttpFailure                  any     Flask or the host named only the status.
└── Defect                       500     The plugin failed.

The last column says how often a failed call may be repeated, for reads, changes (updates and
deletes) and new customers. S means that the plugin searches for the customer instead, because the
creation may have happened.

No error holds a value of a caller or of Ecwid, neither in its text nor in `errors` nor in a chained
exception.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_RETRY_AFTER_S = 10  # where nobody said how long to wait
REFUSED_TOKEN_S = 30.0  # Ecwid blocks a token, or an IP, after 20 bad calls a minute


_REALM = 'Bearer realm="ecwid"'


class Retries(NamedTuple):
    """How often a call may be made again after a failure, besides the first time."""

    reads: int = 0
    changes: int = 0  # updates and deletes
    creations: int = 0


class Violation(NamedTuple):
    """A place that does not fit the contract: where, and by which rule. Never the value."""

    pointer: str
    keyword: str


class EcwidError(Exception):
    """Any failure of a call or a request.

    `executed` is `"no"` when the call cannot have had an effect, else `"unknown"`;
    `retry_after_s` is set when waiting makes sense, in seconds. `replayed` says that it is the
    outcome of an earlier request with the same Idempotency-Key.
    """

    slug: str
    title: str
    origin: str
    status: int
    detail: str
    executed: str = "unknown"
    retry_after_s: int | None = None
    ecwid_code: str | None = None
    errors: Sequence[Violation] = ()
    challenge: str | None = None  # for the header WWW-Authenticate
    replayed: bool = False
    # What is done about it, in gateway.py and guard.py.
    retries: Retries = Retries()
    needs_reconciliation: bool = False  # whether a creation that failed so may have happened
    trips_breaker: bool = False  # whether the breaker counts it
    pause_s: float = 0.0  # for how long no call is made after it
    probed: bool = False  # whether after that time a single call goes first
    proves_token: bool = False  # whether Ecwid took token and store, and refused the rest
    suspects_token: bool = False  # whether it may be the token that Ecwid refuses

    def __init__(self, detail: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        super().__init__(f"{self.slug}: {self.detail}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as it is, whatever its kind needs to be made."""
        return _made_again, (type(self), str(self), vars(self))

    def changed(self, **members: object) -> Self:
        """Return a copy in which these members differ. An error that was raised stays as it is."""
        error = copy(self)
        for name, value in members.items():
            setattr(error, name, value)
        return error

    @property
    def urn(self) -> str:
        """What a problem has as its `type`."""
        return f"urn:flask-ecwid:problem:{self.slug}"

    def problem(self, request_id: str, *, write: bool) -> dict[str, Any]:
        """The problem body; `write` says whether the operation could have changed anything."""
        body: dict[str, Any] = {
            "type": self.urn,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:uuid:{request_id}",
            "request_id": request_id,
            "origin": self.origin,
        }
        if self.errors:
            body["errors"] = [violation._asdict() for violation in self.errors]
        if self.ecwid_code:
            body["ecwid_code"] = self.ecwid_code
        if write:
            body["executed"] = self.executed
        return body


def place_of(exc: BaseException) -> str:
    """Where an error happened, and not its text: that may hold a value."""
    frames = traceback.extract_tb(exc.__traceback__)[-8:]
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))


def _made_again(kind: type[EcwidError], text: str, members: dict[str, Any]) -> EcwidError:
    error = kind.__new__(kind)
    error.args = (text,)
    vars(error).update(members)
    return error


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

    def __init__(self, errors: Sequence[Violation] = (), detail: str | None = None) -> None:
        self.errors = errors
        super().__init__(detail)


class Unauthorized(RequestError):
    """Nobody knows who is calling; `wrong`: there was a credential, but none of ours."""

    slug = "unauthorized"
    title = "Who is calling is not known"
    status = 401
    detail = "Send one key, as Authorization: Bearer or as X-API-Key."

    def __init__(self, *, wrong: bool = False, challenge: str = "") -> None:
        # https://www.rfc-editor.org/rfc/rfc6750#section-3
        self.challenge = challenge or _REALM + (', error="invalid_token"' if wrong else "")
        super().__init__()


class Forbidden(RequestError):
    """Who is calling may not do this: it takes the scope."""

    slug = "forbidden"
    title = "The caller may not do this"
    status = 403

    def __init__(self, scope: str) -> None:
        self.challenge = f'{_REALM}, error="insufficient_scope", scope="{scope}"'
        super().__init__(f"It takes the scope {scope}.")


class CrossSite(RequestError):
    """A write that another site's page may have made a browser send."""

    slug = "cross-site"
    title = "The request may come from another site's page"
    status = 403
    detail = "Send Content-Type: application/json, or an Origin that is this service's."


class BodyTooLarge(RequestError):
    """The request's body is larger than `ECWID_MAX_BODY_BYTES`."""

    slug = "body-too-large"
    title = "The request's body is too large"
    status = 413
    detail = "Send a smaller body."


class UnsupportedMediaType(RequestError):
    """The request's body is not JSON in UTF-8, or is encoded."""

    slug = "unsupported-media-type"
    title = "The request's body is not JSON"
    status = 415
    detail = "Send the body as application/json in UTF-8, without a Content-Encoding."


class IdempotencyKeyInUse(RequestError):
    """Another request with the same Idempotency-Key is under way; it may have created already."""

    slug = "idempotency-key-in-use"
    title = "A request with this Idempotency-Key is under way"
    status = 409
    detail = "Send the same request again after Retry-After."
    executed = "unknown"
    retry_after_s = 1


class IdempotencyKeyReused(RequestError):
    """The Idempotency-Key was sent before, with another body."""

    slug = "idempotency-key-reused"
    title = "The Idempotency-Key belongs to another body"
    status = 422
    detail = "A key stands for one body: take a new one."


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
    retries = Retries(2, 1, 2)
    trips_breaker = True


class TlsFailed(NotSent):
    """The other side could not prove that it is Ecwid."""

    slug = "upstream-tls"
    title = "Ecwid's certificate is not accepted"
    status = 502
    detail = "The TLS handshake with Ecwid failed; nothing was sent."
    trips_breaker = True


class Throttled(NotSent):
    """No call was made, because Ecwid asked for a pause, refused this service, or keeps failing, or
    because the time of the request was over before.
    """

    slug = "throttled"
    title = "No call to Ecwid is made for now"
    origin = "service"
    status = 503
    detail = "Wait as long as Retry-After says."

    def __init__(self, wait_s: float, detail: str | None = None) -> None:
        self.retry_after_s = max(1, math.ceil(wait_s))
        super().__init__(detail)


class BudgetSpent(Throttled):
    """This service's share of Ecwid's calls a minute is spent."""

    slug = "budget-spent"
    title = "The calls to Ecwid for this minute are spent"
    status = 429


class IdempotencyUnavailable(Throttled):
    """Where Idempotency-Keys are kept cannot be reached."""

    slug = "idempotency-unavailable"
    title = "Idempotency-Keys cannot be honoured for now"
    detail = "What the key promises cannot be kept: nothing was sent."


class NoReply(EcwidError):
    """The call may have reached Ecwid, and no good reply came back."""

    origin = "ecwid"
    retries = Retries(2, 1)
    needs_reconciliation = True
    trips_breaker = True


class DeadlineExceeded(NoReply):
    """Ecwid did not answer in time."""

    slug = "upstream-timeout"
    title = "Ecwid did not answer in time"
    status = 504
    detail = "No complete answer came from Ecwid in time."


class ConnectionLost(NoReply):
    """The connection broke before the first byte of a reply."""

    slug = "upstream-lost"
    title = "The connection to Ecwid broke"
    status = 502
    detail = "The connection to Ecwid broke before it answered."


class BadReply(NoReply):
    """The reply is cut short or mangled."""

    slug = "upstream-bad-reply"
    title = "Ecwid's answer is no good answer"
    status = 502
    detail = "Ecwid's answer is cut short or mangled."


class NotJson(BadReply):
    """The reply is complete, and no JSON object."""

    detail = "Ecwid's answer is not a JSON object."
    retries = Retries(1, 1)


class Undecodable(BadReply):
    """The reply is larger than any good one, or cannot be decompressed."""

    detail = "Ecwid's answer is too large, or cannot be decompressed."
    retries = Retries()


class Redirected(BadReply):
    """The reply is a redirect, which is never followed."""

    detail = "Ecwid answered with a redirect, which is not followed."
    retries = Retries()
    needs_reconciliation = False


class OutcomeUnknown(NoReply):
    """A customer may have been created: no good reply came, and Ecwid's search does not show it."""

    slug = "outcome-unknown"
    title = "Whether the customer was created is not known"
    status = 504
    detail = "No good answer came, and the customer is not found: it may have been created."
    needs_reconciliation = False
    trips_breaker = False


class Refused(EcwidError):
    """Ecwid answered, and the answer is no. `ecwid_code` is the code it named, if any."""

    origin = "ecwid"

    def __init__(self, detail: str | None = None, *, ecwid_code: str | None = None) -> None:
        self.ecwid_code = ecwid_code
        super().__init__(detail)


class CustomerNotFound(Refused):
    """The store has no customer with this id.

    `by_ecwid`: Ecwid said so itself, and not a page in HTML of something on the way.
    """

    slug = "customer-not-found"
    title = "No such customer"
    status = 404
    detail = "The store has no customer with this id."
    executed = "no"
    proves_token = True

    def __init__(self, *, by_ecwid: bool = True, ecwid_code: str | None = None) -> None:
        self.by_ecwid = by_ecwid
        super().__init__(ecwid_code=ecwid_code)


class EmailTaken(Refused):
    """Another customer already has this e-mail."""

    slug = "email-taken"
    title = "The e-mail is taken"
    status = 409
    detail = "Another customer already has this e-mail."
    executed = "no"
    proves_token = True


class Rejected(Refused):
    """Ecwid does not take the content of the request: 400, 413 or 422."""

    slug = "rejected-by-ecwid"
    title = "Ecwid does not accept the content of the request"
    detail = "Ecwid refused the content of the request."
    executed = "no"
    proves_token = True

    def __init__(self, status: int, *, ecwid_code: str | None = None) -> None:
        self.status = status
        super().__init__(ecwid_code=ecwid_code)


class RateLimited(Refused):
    """Ecwid's limit of calls is reached. `brief`: it named a wait so short that we wait."""

    slug = "rate-limited"
    title = "Ecwid's limit of calls is reached"
    status = 429
    detail = "Wait as long as Retry-After says."
    executed = "no"

    def __init__(self, retry_after_s: int, *, brief: bool, ecwid_code: str | None = None) -> None:
        self.retry_after_s = retry_after_s
        if brief:
            self.retries = Retries(1, 1, 1)
        else:
            self.pause_s = retry_after_s
        super().__init__(ecwid_code=ecwid_code)


class EcwidUnavailable(Refused):
    """Ecwid asks to come back later."""

    slug = "upstream-unavailable"
    title = "Ecwid is not available for now"
    status = 503
    detail = "Wait as long as Retry-After says."
    needs_reconciliation = True

    def __init__(self, retry_after_s: int, *, ecwid_code: str | None = None) -> None:
        self.retry_after_s = retry_after_s
        self.pause_s = retry_after_s
        super().__init__(ecwid_code=ecwid_code)


class EcwidTimedOut(Refused):
    """Ecwid itself ran out of time."""

    slug = "upstream-timed-out"
    title = "Ecwid ran out of time"
    status = 504
    detail = "Ecwid answered that it ran out of time."
    retries = Retries(2, 1)
    needs_reconciliation = True
    trips_breaker = True


class EcwidFailed(Refused):
    """Ecwid failed."""

    slug = "upstream-failed"
    title = "Ecwid failed"
    status = 502
    detail = "Ecwid answered with a failure of its own."
    retries = Retries(2, 1)
    needs_reconciliation = True
    trips_breaker = True


class ServiceRefused(Refused):
    """Ecwid refuses this service (its token, scope, plan, store, or how it calls).

    `pause_s`: for how long it would refuse every other call, too. `suspects_token`: it may be the
    token that it refuses, and does not say so.
    """

    slug = "service-refused"
    title = "Ecwid refuses this service"
    status = 502
    detail = "Ecwid refused the call for a reason that the caller cannot mend."
    executed = "no"
    probed = True

    def __init__(
        self,
        detail: str | None = None,
        *,
        ecwid_code: str | None = None,
        pause_s: float = 0.0,
        suspects_token: bool = False,
    ) -> None:
        self.pause_s = pause_s
        self.suspects_token = suspects_token
        self.proves_token = not pause_s and not suspects_token
        super().__init__(detail, ecwid_code=ecwid_code)


class ContractBroken(EcwidError):
    """The answer does not fit the contract; `errors` says where."""

    slug = "contract-broken"
    title = "Ecwid's answer does not fit the contract"
    origin = "ecwid"
    status = 502
    detail = "See errors for the places that do not fit."
    retries = Retries(1)
    needs_reconciliation = True

    def __init__(self, errors: Sequence[Violation]) -> None:
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
