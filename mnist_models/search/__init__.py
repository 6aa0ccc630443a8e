"""Choosing hyper-parameters and architectures on the validation slice."""
