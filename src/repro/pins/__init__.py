"""Pins: what exactly a name like ``hub:Qwen/Qwen2.5-0.5B`` stands for, written down once and checked ever after.

``repro pin`` asks the Hub, or reads a folder, and writes a lock file: the revision and the SHA-256 of every file that
is used. A run's identity follows from the lock alone, without a network. Importing this package is light.
"""

from repro.pins.fetch import resolve
from repro.pins.lock import Kind, Pin, get, read
from repro.pins.make import pin

__all__ = ["Kind", "Pin", "get", "pin", "read", "resolve"]
