"""Who gets in, and who gets a token. Methods raise UpstreamError when an upstream fails."""
