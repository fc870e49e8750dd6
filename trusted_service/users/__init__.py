"""Actions of administrators, operators and users on users. After an UpstreamError, they may be repeated."""
