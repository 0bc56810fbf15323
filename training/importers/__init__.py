"""Labels in other people's formats, streamed into a BEIR folder: one format a file."""

from training.importers.run import FORMATS, import_labels
from training.importers.settings import ImportSettings

__all__ = ["FORMATS", "ImportSettings", "import_labels"]
