"""Single-page apps on another origin than the service, and the file server for them."""
