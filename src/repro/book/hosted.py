"""What is the default for a notebook where it is opened."""

import os
import sys


def default_profile() -> str:
    """``colab`` in a session of Colab, which has a GPU to offer, and ``cpu`` elsewhere."""
    return "colab" if "google.colab" in sys.modules or any(name.startswith("COLAB_") for name in os.environ) else "cpu"
