"""The command line, run by test_ranks.py on two processes, with FSDP2 on CPUs where it was asked for."""

import importlib.util
import os
import sys
from pathlib import Path

from repro.cli import main

if os.environ.get("ACCELERATE_USE_FSDP") == "true":
    spec = importlib.util.spec_from_file_location("ranks", Path(__file__).parents[1] / "trainer" / "ranks.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.shard_on_cpus()

sys.exit(main())
