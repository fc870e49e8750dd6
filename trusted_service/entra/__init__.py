"""Entra ID: the only package that knows MSAL and JWTs."""
