"""Keep bytes: blob stores behind one contract, and resumable uploads on their way into them.

Nothing here knows what the bytes mean. Start at `blobs.py`, the contract.
"""
