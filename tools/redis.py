"""Installs a Redis server for the tests of rate limits that several instances share.

Debian's package redis-server would start one now and at every boot. The same program comes with redis-tools
under another name, and acts as a server when called redis-server.
"""

from tools.debian import require_program
from tools.steps import run_step

PROGRAM, PACKAGE = "redis-check-rdb", "redis-tools"

if __name__ == "__main__":
    run_step(lambda: require_program(PROGRAM, package=PACKAGE, needed_by="The tests of shared rate limits"))
