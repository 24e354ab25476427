"""Alembic's entry: runs the steps on the connection that ``storage.schema`` hands over."""

from alembic import context

from gateway_server.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can change few things of a table in place
)
with context.begin_transaction():
    context.run_migrations()
