"""How this service calls Azure: one transport, deadlines, bulkheads."""
