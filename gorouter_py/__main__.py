"""`python -m gorouter_py` is `gorouter-py`."""

from gorouter_py.control.cli import main

main(prog_name="gorouter-py")
