"""Single-page apps on an origin of their own, and the server of files that hands them out."""
