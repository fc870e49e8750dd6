"""What administrators, operators and users can do to users. An UpstreamError leaves it repeatable."""
