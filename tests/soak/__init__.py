"""A soak test: many users, an administrator, faults and kills for minutes, then a check of every promise.

`python -m tests.soak --minutes 10 --users 50 --seed 1`; exit status 1 if a promise was broken.
"""
