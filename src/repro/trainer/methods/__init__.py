"""Methods of entropy control, one class each. A new one is a file beside these and a line here, which registers it."""

from repro.trainer.methods import clip_cov as clip_cov
from repro.trainer.methods import kl_cov as kl_cov
from repro.trainer.methods.base import METHODS as METHODS
from repro.trainer.methods.base import EntropyControl as EntropyControl
