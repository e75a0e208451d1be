"""A model run once and noted: what a traced run needs from the tensors and ops themselves."""
