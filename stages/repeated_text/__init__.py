"""Lines and paragraphs that a text holds twice. Read `stage` first, then `kernels`."""

from stages.repeated_text.stage import RepeatedText

__all__ = ["RepeatedText"]
