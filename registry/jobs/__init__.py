"""Keep long work as durable jobs: what is asked, who works on it, how far it is, what came of it.

The rows are the only truth: whatever runs a job holds a lease on one attempt of it, and a lease
that was lost can change nothing any more. This package runs nothing itself; `api/executors` does.
Start at `states.py`, then `queue.py` (those who ask) and `leases.py` (those who work).
"""
