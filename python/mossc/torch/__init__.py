"""Trainable modules of specs (docs/torch.md). Importing it makes the model known to transformers' Auto classes."""
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .cache import MosscCache
from .config import MosscConfig
from .model import MosscForCausalLM, MosscModel, MosscOutput

AutoConfig.register(MosscConfig.model_type, MosscConfig)
AutoModel.register(MosscConfig, MosscModel)
AutoModelForCausalLM.register(MosscConfig, MosscForCausalLM)

__all__ = ["MosscCache", "MosscConfig", "MosscForCausalLM", "MosscModel", "MosscOutput"]
