from gorouter_py.control.cli import main

main()
