"""The benchmark's parts: what is measured, how, and what is written about it."""
