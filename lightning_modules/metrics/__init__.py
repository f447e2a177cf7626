"""Metrics of generated images, points and sequences, the protocol of their samples, and the feature extractors."""
