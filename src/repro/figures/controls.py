"""Figures of the open questions."""
