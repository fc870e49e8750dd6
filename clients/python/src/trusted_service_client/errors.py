"""The package's one exception."""

from __future__ import annotations


class TokenRequestError(Exception):
    """Why there is no token.

    `status` is None where no answer came, `code` the service's word for it. `request_id` stands in the
    service's log, too. After `retry_after` seconds it is worth another try.
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
