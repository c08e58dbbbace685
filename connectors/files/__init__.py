"""Files and streams that are already there."""
