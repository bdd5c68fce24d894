"""Headgate: one asynchronous server in front of every model a team has.

Importing the package loads nothing else: the command line, the server and each engine import
what they need when they need it.
"""

__version__ = "0.1.0"
