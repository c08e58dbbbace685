"""The world → `Feedback`: what customers said, from wherever they said it."""
