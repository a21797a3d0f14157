"""Committed lists of the parts of PH²."""
