"""Classify pictures with SE-ResNeXt101-32x4d on a Triton Inference Server."""
