"""Answer HTTP: one module for each kind of thing that a hub holds.

A route translates: names out of the path, one call to the registry, a body out of what it returns.
Rights are declared in a route's signature (`api.hub.deps`), errors are left to
`api.hub.problem_responses`.
Start at `revisions.py`.
"""
