"""What people see and do, in a real browser, and what their programs do with the real client."""
