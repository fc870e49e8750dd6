"""One-off measurements: `python -m bench.peers`, `python -m bench.admin_pages`."""
