"""Small MNIST classifiers in which no claim can stand that was not measured."""

__version__ = "0.1.0"
