"""Who investigates: the built-in deterministic ``evidence`` model, or a language model. One seam, a file each."""
