"""Do whole jobs across rooms: push, pull, compress and publish, compare.

Start at `push.py`.
"""
