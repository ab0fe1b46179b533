"""Run jobs: each in a process of its own, here or on other machines.

Start at `contract.py`, which every executor keeps; `local.py` is the one that needs nothing else.
"""
