"""Figures of the book: runs in, a Matplotlib figure out; and their captions, generated from the same runs.

A module per claim, and `style` for what all of them share.
"""

from repro.book.figures import collapse, controls, covariance, fixes, law, style

__all__ = ["collapse", "controls", "covariance", "fixes", "law", "style"]
