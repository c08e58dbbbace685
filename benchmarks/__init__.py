"""Reproducible measurements and proofs, each a command that prints its numbers and a verdict."""

import models as models  # before anybody imports onnxruntime, which it keeps from telling on us
