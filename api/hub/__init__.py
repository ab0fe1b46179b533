"""Be a hub on the inside: who asks, what they may, how bytes stream and how errors are answered.

The routes stand in `api/routes`, the application in `api/app.py`. Start at `state.py`.
"""
