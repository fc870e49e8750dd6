"""Commands that the Makefile runs to install and to test; not part of the service.

`steps`, `debian` and `environment` run on the machine's bare Python: standard library only.
"""
