"""medfusion: clinical multimodal decision support that adds up."""

__version__ = "0.1.0"
