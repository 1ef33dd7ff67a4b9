"""Figures of claim 4, the fixes."""
