"""Inspect what is pushed before anything refers to it.

A parser of our own reads headers and configurations and lets values stream by: no tensor is loaded,
no code can run, memory is bounded. Start at `adapter_files.py`.
"""
