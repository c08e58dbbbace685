"""The demo: one day of feedback, compressed into a minute or two, through the whole pipeline."""
