"""Build a Triton model repository from NVIDIA's SE-ResNeXt101-32x4d."""
