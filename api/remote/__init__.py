"""Talk to a hub from the outside: connections, retries, resumed transfers, stored tokens.

The client with its typed answers is `api/client.py`. Start at `transport.py`.
"""
