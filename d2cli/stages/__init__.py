"""The method: arrays in, arrays and frozen dataclasses out; no file, no clock, no printing."""
