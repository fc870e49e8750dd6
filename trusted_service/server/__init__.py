"""gunicorn's worker: which connections get a thread, and for how long. The application does not know it."""
