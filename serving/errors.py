"""What a server refuses: one sentence, and the status it has over REST and over gRPC."""

from grpc import StatusCode
from grpc_interceptor.exceptions import GrpcException


class Refused(GrpcException):
    """A request that gets no slate. The message names the field, the value and the bound."""

    http_status = 500
    outcome = "error"  # label of `nextpage_requests_total`
    retry_after_s: int | None = None


class InvalidRequest(Refused):
    http_status, status_code, outcome = 400, StatusCode.INVALID_ARGUMENT, "invalid"


class Overloaded(Refused):
    """Refused by admission: more wait than can be answered in time."""

    http_status, status_code, outcome = 429, StatusCode.RESOURCE_EXHAUSTED, "overloaded"

    def __init__(self, sentence: str, retry_after_s: int) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class TooLate(Refused):
    """No answer within the time that there is; said at once where it is foreseen."""

    http_status, status_code, outcome = 504, StatusCode.DEADLINE_EXCEEDED, "late"


class Unavailable(Refused):
    """The server is ending, or what it asks does not answer."""

    http_status, status_code, outcome = 503, StatusCode.UNAVAILABLE, "unavailable"
    retry_after_s = 1


class Unsupported(Refused):
    http_status, status_code, outcome = 501, StatusCode.UNIMPLEMENTED, "unsupported"
