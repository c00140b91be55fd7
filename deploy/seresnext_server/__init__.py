"""A real Triton Inference Server from PyPI, for the repository that `seresnext-export` builds."""
