"""Committed list of the parts of the nuclei."""
