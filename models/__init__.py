"""Text → `Prediction`: sentiment, topics, urgency and language from machine-learning models."""
