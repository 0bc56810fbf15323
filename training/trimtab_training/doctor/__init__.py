"""Is a dataset fit to train on and honest to test on? Checks, and the advice that follows."""

from trimtab_training.doctor.examine import Diagnosis, examine
from trimtab_training.doctor.finding import Finding

__all__ = ["Diagnosis", "Finding", "examine"]
