"""FAISS index files: opened without harm, taken apart, and their vectors read back.

The one reader of both packages. :mod:`reading` reads a file, :mod:`index_file` finds its parts and
what it calls its rows, :mod:`trial` tries both in a process of its own, :mod:`opening` is the door.
:mod:`stored` gives the vectors back, :mod:`id_lines` tells which row a line of an ids file names.
"""

from trimtab.faiss_files.id_lines import cut_number, read_id_lines
from trimtab.faiss_files.index_file import IndexFile, check_numbers
from trimtab.faiss_files.opening import open_index
from trimtab.faiss_files.reading import import_faiss
from trimtab.faiss_files.stored import Matrix, StoredVectors

__all__ = [
    "IndexFile",
    "Matrix",
    "StoredVectors",
    "check_numbers",
    "cut_number",
    "import_faiss",
    "open_index",
    "read_id_lines",
]
