"""Run the steps on the connection that `database.migrate` hands over, in its transaction."""

from alembic import context

from registry.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
