"""The errors of calls and requests. Each class is one problem (RFC 9457) with its retry policy.

EcwidError                       status                                            retries (r c n)
├── RequestError                         The request is refused before Ecwid is called.
│   ├── InvalidRequest           400     The request violates the contract.
│   ├── Unauthorized             401     The caller is not known.
│   ├── Forbidden                403     The caller lacks the scope.
│   ├── BadSignature             401     The webhook event is not signed by Ecwid.
│   ├── CrossSite                403     The page of another site may have sent the write.
│   ├── BodyTooLarge             413
│   ├── UnsupportedMediaType     415
│   ├── IdempotencyKeyRequired   400     The creation has no idempotency key.
│   ├── IdempotencyKeyInUse      409     Another request with the same key is under way.
│   └── IdempotencyKeyReused     422     The key belongs to another body.
├── NotSent                              No byte of the call reached Ecwid.
│   ├── Unreachable              503     No connection could be made.                    2 1 2
│   ├── TlsFailed                502     The certificate is not Ecwid's.
│   └── Throttled                503     The plugin made no call.
│       ├── TooLate              503     The call was about to be sent too late.         1 1 1
│       ├── BudgetSpent          429     The plugin's share of Ecwid's calls is spent.
│       ├── IdempotencyUnavailable 503   The storage of idempotency keys is unavailable.
│       ├── EventsUnavailable    503     The storage of webhook events is unavailable.
│       ├── EventUnderWay        503     Another delivery of the event is under way.
│       ├── StoreBusy            503     The store has all threads that one store may take.
│       └── StoreLookupFailed    503     The host failed to look up the store of the caller.
├── NoReply                              The call may have reached Ecwid.
│   ├── DeadlineExceeded         504                                                     2 1 S
│   ├── ConnectionLost           502     The connection broke before a reply began.      2 1 S
│   ├── BadReply                 502     The reply is cut short or mangled.              2 1 S
│   │   ├── NotJson              502     The reply is complete, but no JSON object.      1 1 S
│   │   ├── Undecodable          502     The reply cannot be decompressed or written.    0 0 S
│   │   │   └── ReplyTooLarge    502     The reply is larger than any valid reply.       0 0 S
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
│   ├── CodeRefused              400     The code of OAuth.
│   └── ServiceRefused           502     The token, its scope, the plan or the store.
├── ContractBroken               502     The reply violates the contract.                1 0 S
├── HttpFailure                  any     Flask or the host named the status.
├── ReceiverFailed               500     A receiver of a webhook event raised an exception.
└── Defect                       500     The plugin failed.

The last column says how often a failed call may be repeated, for reads, changes (updates and
deletes) and new customers. S means that the plugin searches for the customer instead, because the
creation may have happened.

An error is complete when it is raised, and no code assigns to its attributes afterwards. No error
holds a value of a caller or of Ecwid in its text, in `errors` or in a chained exception.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_RETRY_AFTER_S = 10  # used if neither Ecwid nor the host says how long to wait
# The pause in seconds after Ecwid refuses the token. Ecwid blocks a token, or an IP address, after
# 20 bad calls in a minute. Without the pause, repeated calls would get the whole host blocked.
REFUSED_TOKEN_S = 30.0
# After so many suspicions in a row, the neutral question decides whether Ecwid refuses every call.
SUSPICIONS_MOST = 3

# Leads from `add_customer` to the served contract, which describes the idempotency keys.
_KEYS_DESCRIBED = '<openapi.json>; rel="describedby"; type="application/json"'
_REALM = 'Bearer realm="ecwid"'
# For each refused credential, the detail of the problem and the error code of the challenge. RFC
# 6750 has no error code for a request without a bearer token.
# https://www.rfc-editor.org/rfc/rfc6750#section-3.1
_SEND_ONE_KEY = "Send one API key, either as Authorization: Bearer or as X-API-Key."
_CREDENTIALS = {
    "none": (f"The request has no API key. {_SEND_ONE_KEY}", None),
    "scheme": (f"The scheme of Authorization is not Bearer. {_SEND_ONE_KEY}", None),
    "two": (f"The request has two credentials. {_SEND_ONE_KEY}", "invalid_request"),
    "wrong": ("The API key is not known. Send a valid API key.", "invalid_token"),
    "host": ("The application around this service does not know the caller.", None),
}
_MAX_PLACES = 10  # in a log line

Credential = Literal["none", "scheme", "two", "wrong", "host"]
# The things that Ecwid can refuse to this service.
Refusal = Literal["token", "ecwid-scope", "plan", "store", "unknown"]


class Retries(NamedTuple):
    """How often a failed call may be repeated, not counting the first attempt."""

    reads: int = 0
    changes: int = 0  # updates and deletes
    creations: int = 0


class Violation(NamedTuple):
    """A place that violates the contract, without the value."""

    pointer: str  # a JSON pointer to the place
    keyword: str  # the keyword of the contract that the place violates
    expected: str | None = None  # the valid values, in the words of the contract

    @property
    def place(self) -> str:
        """The pointer with the keyword, for a line."""
        return f"{self.pointer}:{self.keyword}"


class EcwidError(Exception):
    """Any failure of a call or a request."""

    slug: str  # the last part of the problem's `type`
    title: str  # the kind of failure, for people
    origin: str  # the side at fault, which is request, service or ecwid
    status: int  # the HTTP status of our response
    detail: str  # the failure and its remedy, for people
    executed: str = "unknown"  # "no" if there certainly was no effect, as after each read
    retry_after_s: int | None = None  # seconds to wait, or None if waiting does not help
    ecwid_code: str | None = None  # the code in Ecwid's reply, if the reply has one
    errors: Sequence[Violation] = ()  # the places that violate the contract
    reason: Refusal | None = None  # the thing that Ecwid refused, if Ecwid refused this service
    customer_ids: Sequence[int] = ()  # the customers of a page that violate the contract
    challenge: str | None = None  # the value of the header WWW-Authenticate
    link: str | None = None  # the value of the header Link
    replayed: bool = False  # True for the outcome of an earlier request with the idempotency key
    # The retry policy, which client/retries.py and throttling/guard.py apply.
    retries: Retries = Retries()
    needs_reconciliation: bool = False  # True if a creation that failed like this may have happened
    trips_breaker: bool = False  # True if the breaker counts the failure
    # True if the way may have forgotten a kept connection, so the failure says nothing about Ecwid.
    blames_connection: bool = False
    pause_s: float = 0.0  # seconds without any call after the failure
    probed: bool = False  # True if a single call tests Ecwid after the pause
    proves_token: bool = False  # True if Ecwid accepted the token and the store
    # The weight of the suspicion that Ecwid refuses every call, which the reply does not say.
    suspicions: int = 0

    def __init__(self, detail: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        super().__init__(f"{self.slug}: {self.detail}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Describe a copy for `copy` and `pickle`, which does not call the class's constructor.

        The constructors of the classes differ, so Exception's own method would fail.
        """
        return _restore, (type(self), str(self), vars(self))

    def changed(self, **members: object) -> Self:
        """Return a copy in which these members differ, because a raised error never changes."""
        error = copy(self)
        for name, value in members.items():
            setattr(error, name, value)
        return error

    @property
    def urn(self) -> str:
        """The `type` of the problem."""
        return f"urn:flask-ecwid:problem:{self.slug}"

    @property
    def places(self) -> str:
        """The first places that violate the contract, for a log line."""
        return ",".join(violation.place for violation in self.errors[:_MAX_PLACES])

    @property
    def described(self) -> str:
        """The slug, the reason, the places and their customers for a log line, without a value."""
        facts = {
            "reason": self.reason,
            "places": self.places,
            "customer_ids": ",".join(map(str, self.customer_ids)),
        }
        return " ".join([self.slug, *(f"{name}={fact}" for name, fact in facts.items() if fact)])

    def problem(self, request_id: str, *, write: bool) -> dict[str, Any]:
        """Return the body of the problem.

        Args:
            request_id: The id of the request.
            write: The operation changes customers, so the body says `executed`.
        """
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
            body["errors"] = [
                {name: value for name, value in violation._asdict().items() if value is not None}
                for violation in self.errors
            ]
        if self.customer_ids:
            body["customer_ids"] = list(self.customer_ids)
        if self.ecwid_code:
            body["ecwid_code"] = self.ecwid_code
        if write:
            body["executed"] = self.executed
        return body


def place_of(exc: BaseException) -> str:
    """Return the lines of code in which an error happened.

    The text of the error is left out, because it may hold a value of the caller or of Ecwid.
    """
    frames = traceback.extract_tb(exc.__traceback__)[-8:]
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))


def _restore(kind: type[EcwidError], text: str, members: dict[str, Any]) -> EcwidError:
    error = kind.__new__(kind)
    error.args = (text,)
    vars(error).update(members)
    return error


class RequestError(EcwidError):
    """The request is refused before Ecwid is called."""

    origin = "request"
    executed = "no"


class InvalidRequest(RequestError):
    """The request violates the contract in the places that `errors` lists."""

    slug = "invalid-request"
    title = "The request does not fit the contract"
    status = 400
    detail = "See errors for the places that do not fit."

    def __init__(self, errors: Sequence[Violation] = (), detail: str | None = None) -> None:
        self.errors = errors
        super().__init__(detail)


class Unauthorized(RequestError):
    """The caller is not known."""

    slug = "unauthorized"
    title = "The caller is not known"
    status = 401

    def __init__(self, credential: Credential, *, challenge: str = "") -> None:
        """Make the error with its challenge.

        Args:
            credential: The fault of the credential. `host` means that the host refused the caller.
            challenge: The host's own value of WWW-Authenticate.
        """
        detail, code = _CREDENTIALS[credential]
        self.challenge = challenge or _REALM + (f', error="{code}"' if code else "")
        super().__init__(detail)


class Forbidden(RequestError):
    """The caller lacks the scope that the operation needs."""

    slug = "forbidden"
    title = "The caller may not do this"
    status = 403

    def __init__(self, scope: str, *, by_host: bool = False) -> None:
        """Make the error with its challenge.

        Args:
            scope: The scope that the operation needs.
            by_host: The host refused the caller. A challenge would ask for a bearer token, which
                the host may not use.
        """
        detail = f"The operation needs the scope {scope}."
        if by_host:
            detail = f"The application around this service does not let the caller in. {detail}"
        else:
            self.challenge = f'{_REALM}, error="insufficient_scope", scope="{scope}"'
        super().__init__(detail)


class BadSignature(RequestError):
    """The header of a webhook event is not Ecwid's signature of the event."""

    slug = "bad-signature"
    title = "The signature is not Ecwid's"
    status = 401
    detail = "X-Ecwid-Webhook-Signature has to sign the event with this app's client_secret."
    challenge = 'X-Ecwid-Webhook-Signature realm="ecwid"'


class CrossSite(RequestError):
    """The page of another site may have made a browser send the write."""

    slug = "cross-site"
    title = "The request may come from another site's page"
    status = 403
    detail = "Send Content-Type: application/json, or the Origin of this service."


class NoStoreAssigned(RequestError):
    """The caller is known, but the host has assigned no store to the caller."""

    slug = "no-store-assigned"
    title = "The caller has no store"
    status = 403
    detail = "Connect a store to this account first."


class BodyTooLarge(RequestError):
    """The body of the request is larger than the host or `ECWID_MAX_BODY_BYTES` allows."""

    slug = "body-too-large"
    title = "The request's body is too large"
    status = 413
    detail = "Send a smaller body."

    def __init__(self, limit_bytes: int | None = None) -> None:
        """Make the error with the limit, or without one if only the host knows the limit."""
        known = limit_bytes is not None
        super().__init__(f"Send a body of at most {limit_bytes} bytes." if known else None)


class UnsupportedMediaType(RequestError):
    """The body of the request is not JSON in UTF-8, or has a Content-Encoding."""

    slug = "unsupported-media-type"
    title = "The request's body is not JSON"
    status = 415
    detail = "Send the body as application/json in UTF-8, without a Content-Encoding."


class IdempotencyKeyRequired(RequestError):
    """The creation has no idempotency key, and `ECWID_REQUIRE_IDEMPOTENCY_KEY` is on."""

    slug = "idempotency-key-required"
    title = "The request has no Idempotency-Key"
    status = 400
    detail = "Send an Idempotency-Key with each new customer, for example a new UUID."
    link = _KEYS_DESCRIBED


class IdempotencyKeyInUse(RequestError):
    """Another request with the same idempotency key is under way."""

    slug = "idempotency-key-in-use"
    title = "A request with this Idempotency-Key is under way"
    status = 409
    detail = "Send the same request again after Retry-After."
    executed = "unknown"  # because the other request may have created the customer
    retry_after_s = 1
    link = _KEYS_DESCRIBED


class IdempotencyKeyReused(RequestError):
    """The idempotency key was sent before with another body."""

    slug = "idempotency-key-reused"
    title = "The Idempotency-Key belongs to another body"
    status = 422
    detail = "Send a new Idempotency-Key with each new body."
    link = _KEYS_DESCRIBED


class NotSent(EcwidError):
    """No byte of the call reached Ecwid."""

    origin = "ecwid"
    executed = "no"


class Unreachable(NotSent):
    """No connection to Ecwid could be made in time."""

    slug = "upstream-unreachable"
    title = "Ecwid cannot be reached"
    status = 503
    detail = "No connection to Ecwid could be made."
    retry_after_s = DEFAULT_RETRY_AFTER_S
    retries = Retries(2, 1, 2)
    trips_breaker = True


class TlsFailed(NotSent):
    """The server could not prove that it is Ecwid."""

    slug = "upstream-tls"
    title = "Ecwid's certificate is not accepted"
    status = 502
    detail = "The TLS handshake with Ecwid failed, so no call was sent."
    trips_breaker = True


class Throttled(NotSent):
    """The plugin made no call, because the call would fail or the deadline had passed."""

    slug = "throttled"
    title = "This service makes no calls to Ecwid for now"
    origin = "service"
    status = 503
    detail = "Wait as long as Retry-After says."

    def __init__(self, wait_s: float, detail: str | None = None) -> None:
        self.wait_s = wait_s
        self.retry_after_s = max(1, math.ceil(wait_s))
        super().__init__(detail)


class TooLate(Throttled):
    """The call was about to be sent too long after its checks, so the plugin did not send it."""

    detail = "No time was left for the call."
    # The connections to Ecwid and to the storage are kept, so the next attempt is quick. A busy
    # host may still need a few.
    retries = Retries(3, 3, 3)
    blames_connection = True  # Ecwid has neither failed nor replied.

    def __init__(self) -> None:
        super().__init__(1, self.detail)


class BudgetSpent(Throttled):
    """The plugin has spent its share of the calls that Ecwid allows per minute."""

    slug = "budget-spent"
    title = "The calls to Ecwid for this minute are spent"
    status = 429


class IdempotencyUnavailable(Throttled):
    """The storage of idempotency keys is unavailable, so the plugin made no call."""

    slug = "idempotency-unavailable"
    title = "Idempotency-Keys cannot be honoured for now"
    detail = "The storage of Idempotency-Keys is unavailable, so no call was sent."


class EventsUnavailable(Throttled):
    """The storage of webhook events is unavailable, so the event had no effect."""

    slug = "events-unavailable"
    title = "Events cannot be received for now"
    detail = "The storage of events is unavailable. Ecwid delivers the event again."


class EventUnderWay(Throttled):
    """Another delivery of the same webhook event is under way."""

    slug = "event-under-way"
    title = "Another delivery of the event is under way"
    detail = "If the other delivery fails, the next delivery takes its place."


class StoreBusy(Throttled):
    """The store has all threads that one store may take, so the plugin made no call."""

    slug = "store-busy"
    title = "The store has too many calls under way"
    detail = "The calls of this store take long. Wait as long as Retry-After says."

    def __init__(self) -> None:
        super().__init__(1)


class StoreLookupFailed(Throttled):
    """The host could not tell which store belongs to the caller, so the plugin made no call."""

    slug = "store-lookup-failed"
    title = "The store of the caller cannot be looked up for now"
    detail = "The application around this service failed to look up the store. Try again later."

    def __init__(self) -> None:
        super().__init__(DEFAULT_RETRY_AFTER_S)


class NoReply(EcwidError):
    """The call may have reached Ecwid, but no valid reply came back."""

    origin = "ecwid"
    retries = Retries(2, 1)
    needs_reconciliation = True
    trips_breaker = True


class DeadlineExceeded(NoReply):
    """Ecwid did not reply in time."""

    slug = "upstream-timeout"
    title = "Ecwid did not reply in time"
    status = 504
    detail = "No complete reply came from Ecwid in time."


class ConnectionLost(NoReply):
    """The connection broke before the first byte of a reply."""

    slug = "upstream-lost"
    title = "The connection to Ecwid broke"
    status = 502
    detail = "The connection to Ecwid broke before the first byte of a reply."


class BadReply(NoReply):
    """The reply is cut short or mangled."""

    slug = "upstream-bad-reply"
    title = "Ecwid's reply is not valid"
    status = 502
    detail = "Ecwid's reply is cut short or mangled."


class NotJson(BadReply):
    """The reply is complete, but is not a JSON object."""

    detail = "Ecwid's reply is not a JSON object."
    retries = Retries(1, 1)


class Undecodable(BadReply):
    """The reply cannot be decompressed, or is nested too deep."""

    detail = "Ecwid's reply cannot be decompressed."
    retries = Retries()


class ReplyTooLarge(Undecodable):
    """The reply is larger than any valid reply."""

    detail = "Ecwid's reply is too large."
    trips_breaker = False  # because Ecwid is up, and smaller pages may pass


class Redirected(BadReply):
    """The reply is a redirect, and the plugin follows no redirect."""

    detail = "Ecwid's reply is a redirect, and this service follows no redirect."
    retries = Retries()
    needs_reconciliation = False


class OutcomeUnknown(NoReply):
    """The plugin cannot find out if Ecwid created the customer."""

    slug = "outcome-unknown"
    title = "The outcome of the creation is not known"
    status = 504
    detail = (
        "The customer may have been created, but no valid reply came and a search found nobody."
    )
    needs_reconciliation = False
    trips_breaker = False


class Refused(EcwidError):
    """Ecwid replied with a refusal."""

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
    proves_token = True

    def __init__(self, *, by_ecwid: bool = True, ecwid_code: str | None = None) -> None:
        """Make the error.

        Args:
            by_ecwid: Ecwid itself sent the 404. Otherwise a proxy may have sent an HTML page.
            ecwid_code: The code in Ecwid's reply.
        """
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
    """Ecwid does not accept the content of the request, with a 400, a 413 or a 422."""

    slug = "rejected-by-ecwid"
    title = "Ecwid does not accept the content of the request"
    detail = "Ecwid refused the content of the request."
    executed = "no"
    proves_token = True

    def __init__(self, status: int, *, ecwid_code: str | None = None) -> None:
        self.status = status
        super().__init__(ecwid_code=ecwid_code)


class RateLimited(Refused):
    """Ecwid refused the call with 429, because the token has no calls left."""

    slug = "rate-limited"
    title = "Ecwid's limit of calls is reached"
    status = 429
    detail = "Wait as long as Retry-After says."
    executed = "no"

    def __init__(self, retry_after_s: int, *, brief: bool, ecwid_code: str | None = None) -> None:
        """Make the error with its policy.

        Args:
            retry_after_s: The wait that Ecwid asks for.
            brief: The wait is so short that the plugin waits for it and repeats the call.
            ecwid_code: The code in Ecwid's reply.
        """
        self.retry_after_s = retry_after_s
        self.pause_s = retry_after_s
        if brief:
            self.retries = Retries(1, 1, 1)
        super().__init__(ecwid_code=ecwid_code)


class EcwidUnavailable(Refused):
    """Ecwid asks the plugin to call again later."""

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
    """Ecwid replied that it ran out of time."""

    slug = "upstream-timed-out"
    title = "Ecwid ran out of time"
    status = 504
    detail = "Ecwid replied that it ran out of time."
    retries = Retries(2, 1)
    needs_reconciliation = True
    trips_breaker = True


class EcwidFailed(Refused):
    """Ecwid replied with a failure of its own."""

    slug = "upstream-failed"
    title = "Ecwid failed"
    status = 502
    detail = "Ecwid replied with a failure of its own."
    retries = Retries(2, 1)
    needs_reconciliation = True
    trips_breaker = True


class ServiceRefused(Refused):
    """Ecwid refuses this service because of its token, its Ecwid scopes, its plan or its store."""

    slug = "service-refused"
    title = "Ecwid refuses this service"
    status = 502
    detail = "Ecwid refused the call for a reason that only the operator can remedy."
    executed = "no"
    probed = True

    def __init__(
        self,
        detail: str | None = None,
        *,
        reason: Refusal = "unknown",
        ecwid_code: str | None = None,
        pause_s: float = 0.0,
        suspicions: int = 0,
    ) -> None:
        """Make the error with its policy.

        Args:
            detail: The reason in words, if Ecwid's reply tells it.
            reason: The thing that Ecwid refused.
            ecwid_code: The code in Ecwid's reply.
            pause_s: Seconds during which Ecwid would refuse every other call, too.
            suspicions: The weight of the suspicion that Ecwid refuses every call, if the reply has
                no code. The pause then begins after the neutral question is refused as well.
        """
        self.reason = reason
        self.pause_s = pause_s
        self.suspicions = suspicions
        self.proves_token = not pause_s and not suspicions
        super().__init__(detail, ecwid_code=ecwid_code)


class CodeRefused(Refused):
    """Ecwid does not accept the code with which a merchant connects a store."""

    slug = "code-refused"
    title = "Ecwid does not accept the code"
    status = 400
    detail = (
        "Ecwid does not accept the code for this store. A code is valid once, for a few minutes and"
        " for one redirect_uri, so connect the store again. If Ecwid refuses every code, check"
        " redirect_uri, ECWID_CLIENT_ID and ECWID_CLIENT_SECRET."
    )
    executed = "no"


class ContractBroken(EcwidError):
    """Ecwid's reply violates the contract in the places that `errors` lists."""

    slug = "contract-broken"
    title = "Ecwid's reply does not fit the contract"
    origin = "ecwid"
    status = 502
    detail = "See errors for the places that do not fit."
    retries = Retries(1)
    needs_reconciliation = True

    def __init__(self, errors: Sequence[Violation], *, customer_ids: Sequence[int] = ()) -> None:
        self.errors = errors
        self.customer_ids = customer_ids
        super().__init__()


class HttpFailure(EcwidError):
    """A failure of which Flask or the host named the status, and perhaps the reason."""

    def __init__(
        self, status: int, title: str, detail: str | None = None, *, executed: str = "no"
    ) -> None:
        """Make the error.

        Args:
            status: The status of the response.
            title: The phrase of the status.
            detail: The host's own reason.
            executed: Either no, or unknown if a write may have happened.
        """
        self.status = status
        self.title = title
        self.slug = title.lower().replace(" ", "-")
        self.origin = "request" if status < 500 else "service"
        self.executed = executed
        if detail is None:
            detail = _HTTP_DETAILS.get(status, f"The status of the response is {status}.")
        super().__init__(detail)


_HTTP_DETAILS = {
    404: "Nothing is at this path. The contract at openapi.json lists the paths.",
    405: "The header Allow lists the methods of this path.",
}


class ReceiverFailed(EcwidError):
    """A receiver of the host failed on a webhook event, so Ecwid has to deliver the event again."""

    slug = "receiver-failed"
    title = "The application failed on the event"
    origin = "service"
    status = 500
    detail = "A receiver of the event raised an exception. Ecwid delivers the event again."


class Defect(EcwidError):
    """The plugin itself failed."""

    slug = "internal-error"
    title = "The service failed"
    origin = "service"
    status = 500
    detail = "The service has a defect. Its log has the details under the id of this request."
