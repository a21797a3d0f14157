"""Committed list of the parts of Leeds Sports Pose."""
