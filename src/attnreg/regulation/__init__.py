"""The method itself: tensors in, tensors out. Knows no pipeline, no file, no picture."""
