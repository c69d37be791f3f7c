"""`python -m haproxy`."""

from haproxy.cli import main

main(prog_name="python -m haproxy")
