"""The stream: intake, Kafka, Faust workers, the store, metrics; the only package that knows the other three."""
