"""The commands: parse, call, print.

Nothing heavy is imported before a command runs: ``d2 --help`` loads neither NumPy nor pyarrow.
"""
