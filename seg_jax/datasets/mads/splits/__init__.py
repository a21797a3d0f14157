"""Committed lists of the parts of MADS."""
