"""What the Makefile runs to install and to test; none of it is part of the service.

`steps`, `debian` and `environment` run on the machine's bare Python: standard library only.
"""
