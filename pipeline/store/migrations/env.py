"""Alembic's entry: runs on the connection (and in the transaction) that the caller opened."""

from alembic import context

from pipeline.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
