"""The sections of `mini_quality.py`."""
