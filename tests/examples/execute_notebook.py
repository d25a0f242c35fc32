"""Execute a notebook with this very interpreter as its kernel: ``python execute_notebook.py SOURCE TARGET``."""

from __future__ import annotations

import sys

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient


class ThisInterpreter(AsyncKernelManager):
    kernel_spec = KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])


if __name__ == "__main__":
    source, target = sys.argv[1:]
    notebook = nbformat.read(source, as_version=4)
    NotebookClient(notebook, km=ThisInterpreter(), timeout=120, record_timing=False).execute()
    nbformat.write(notebook, target)
