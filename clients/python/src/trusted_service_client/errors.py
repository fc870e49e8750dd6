"""The package's one exception."""

from __future__ import annotations


class TokenRequestError(Exception):
    """The reason why there is no token.

    `status` is None if there was no response. `code` is the service's error code, and `request_id` identifies
    the request in its log. `retry_after` is the number of seconds to wait before another try.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
