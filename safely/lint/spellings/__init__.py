"""The code that lint prints to write instead."""
