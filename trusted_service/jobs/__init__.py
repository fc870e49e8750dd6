"""Bulk actions: one action for many users."""
