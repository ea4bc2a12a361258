"""Multimodal emotion recognition in conversations: corpora, backbones and training on top of the curriculum."""
