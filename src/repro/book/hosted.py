"""What is the default for a notebook where it is opened."""

import os
import sys

from repro import pins
from repro.runs.profiles import load_profile


def default_profile() -> str:
    """``colab`` in a session of Colab that has its base pinned, and else ``cpu``, which has records."""
    session = "google.colab" in sys.modules or any(name.startswith("COLAB_") for name in os.environ)
    return "colab" if session and set(load_profile("colab").bases) <= set(pins.read("model")) else "cpu"
