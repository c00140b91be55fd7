"""An embedded Triton Inference Server, for the model repositories that `seresnext-export` builds."""
