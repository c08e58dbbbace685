"""Samples → `Alert`: rules, detectors and the ways to reach the people on call."""
