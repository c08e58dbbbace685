"""Reproducible measurements and proofs, each a command that prints its numbers and a verdict."""
