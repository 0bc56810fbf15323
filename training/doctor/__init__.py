"""Is a dataset fit to train on and honest to test on? Checks, and the advice that follows."""

from training.doctor.examine import Diagnosis, examine
from training.doctor.finding import Finding

__all__ = ["Diagnosis", "Finding", "examine"]
