"""Speak to people and programs: HTTP, the command line and what crosses rooms.

This room maps the errors of the others to HTTP statuses and exit codes, reads the environment (in
`settings.py` only) and prints (under `cli/` only). It does no arithmetic and keeps no state of its
own. A client needs neither FastAPI nor the database, so nothing is imported here. Start at `app.py`
for the hub, at `client.py` for who calls it.
"""
