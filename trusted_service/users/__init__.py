"""What administrators, operators and users can do to users. What raises UpstreamError may be repeated."""
