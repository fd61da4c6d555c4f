"""Training of the base, of stage 1 and of stage 2: the only code that imports diffusers and accelerate."""
