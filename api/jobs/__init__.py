"""Do long work as jobs: which kinds there are, and how one runs in a process of its own.

Start at `kinds.py`, the table; `run.py` is what a job's process does, and `supervisor.py` takes
jobs from the queue and gives them to an executor.
"""
