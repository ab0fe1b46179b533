"""Keep the database: every table, every query, every migration, on SQLite and PostgreSQL.

No SQL stands outside this folder. Start at `tables.py`.
"""
