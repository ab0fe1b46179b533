"""Bring the catalog's tables from any earlier layout to this one; run by `database.migrate`."""
