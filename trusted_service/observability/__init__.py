"""Logs, telemetry and health."""
