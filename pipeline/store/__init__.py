"""The store: the SQL schema, its migrations, the one transaction, and what is read from it."""
