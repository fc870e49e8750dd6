"""Routes: each view reads the request, calls a service and renders the response."""
