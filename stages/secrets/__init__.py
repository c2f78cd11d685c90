"""The stage `secrets`: keys, tokens and passwords out of the text. Read `patterns` first, then `entropy`."""

from stages.secrets.stage import Secrets

__all__ = ["Secrets"]
