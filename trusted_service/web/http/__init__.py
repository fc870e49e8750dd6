"""Requests and responses: bodies, errors, logging, pagination."""
