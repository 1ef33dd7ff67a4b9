"""Figures of claim 2, the law."""
