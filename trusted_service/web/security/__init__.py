"""Who may call which route, and what protects browsers."""
