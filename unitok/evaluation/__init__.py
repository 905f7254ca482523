"""Measuring what models make: error rates, an independent recogniser."""
