"""Labels in other people's formats, streamed into a BEIR folder: one format a file."""

from trimtab_training.data.importers.run import FORMATS, import_labels
from trimtab_training.data.importers.settings import ClickSettings, ImportSettings

__all__ = ["FORMATS", "ClickSettings", "ImportSettings", "import_labels"]
