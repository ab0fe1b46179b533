"""Speak to people: commands, what they print, and their exit codes.

Data goes to stdout, everything else to stderr. Modules are imported when their command runs, so
that `adapters --help` answers at once. Start at `main.py`; one module holds one group of commands.
"""
