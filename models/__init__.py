"""Text → `Prediction`: sentiment, topics, urgency and language from machine-learning models."""

import os

# Some builds of onnxruntime report what they run to their maker. It reads this when it is first imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
