"""Tests of the pages and the examples in a real browser."""
