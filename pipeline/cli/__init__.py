"""The commands behind `ovoz`: one module a command, nothing heavy imported before it is needed."""
