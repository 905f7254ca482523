"""`unitok bench`: how fast unitok is here, beside what the machine can do and beside others of equal size."""
