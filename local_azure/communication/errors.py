"""Errors in the form of Communication Services, with texts recorded from the live service."""

from http import HTTPStatus


class CommunicationError(Exception):
    """A refused request."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        target: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Refuse with an error code and, if one is wrong, the name of the member."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.target = target
        self.retry_after = retry_after

    def to_json(self) -> dict[str, object]:
        """Return the error body."""
        body = make_error_body(self.code, str(self))
        if self.target is not None:
            body["target"] = self.target
        return {"error": body}


def make_error_body(code: str, message: str) -> dict[str, object]:
    """Return the content of `error`."""
    return {"code": code, "message": message}


def make_fault_body(status: int, code: str) -> dict[str, object]:
    """Return the body of a planted fault."""
    return {"error": make_error_body(code, f"Planted fault, status {status}.")}


def refuse_value(message: str, target: str) -> CommunicationError:
    """Return the 400 for a member with a wrong value."""
    return CommunicationError(HTTPStatus.BAD_REQUEST, "ValidationError", message, target)


def refuse_caller() -> CommunicationError:
    """Return the 401 for an unauthenticated caller, without detail, as the live service does."""
    return CommunicationError(HTTPStatus.UNAUTHORIZED, "Denied", "Denied by the resource provider.")
