"""Entra ID: the only place that knows MSAL and JWTs.

`metadata` where its endpoints and signing keys are, `claims` whether a token of its is genuine,
`credential` how this app proves itself, `sign_in` the authorization code flow.
"""
