"""Query-side tuning: the encoder of queries is trained, every document vector stays as it is."""

from trimtab_training.fit.tuning.settings import TuningSettings
from trimtab_training.fit.tuning.tune import TunedEncoder, cross_validate_tuning, tune_encoder

__all__ = ["TunedEncoder", "TuningSettings", "cross_validate_tuning", "tune_encoder"]
