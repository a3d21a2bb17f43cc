"""What a server refuses: one sentence, and the status it has over REST and over gRPC."""

from grpc import StatusCode
from grpc_interceptor.exceptions import GrpcException


class Refused(GrpcException):
    """A request that gets no slate. The message names the field, the value and the bound."""

    http_status = 500
    outcome = "error"  # label of `nextpage_requests_total`


class InvalidRequest(Refused):
    http_status, status_code, outcome = 400, StatusCode.INVALID_ARGUMENT, "invalid"


class Overloaded(Refused):
    http_status, status_code, outcome = 503, StatusCode.RESOURCE_EXHAUSTED, "overloaded"


class TooLate(Refused):
    http_status, status_code, outcome = 504, StatusCode.DEADLINE_EXCEEDED, "late"


class Unavailable(Refused):
    http_status, status_code, outcome = 503, StatusCode.UNAVAILABLE, "unavailable"


class Unsupported(Refused):
    http_status, status_code, outcome = 501, StatusCode.UNIMPLEMENTED, "unsupported"
