"""Trainable modules of specs (docs/torch.md). Importing it makes the model known to transformers' Auto classes."""
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from .cache import MosscCache
from .config import MosscConfig
from .model import MosscForCausalLM, MosscModel, MosscOutput

AutoConfig.register(MosscConfig.model_type, MosscConfig)
AutoModel.register(MosscConfig, MosscModel)
AutoModelForCausalLM.register(MosscConfig, MosscForCausalLM)
AutoTokenizer.register(MosscConfig, fast_tokenizer_class=PreTrainedTokenizerFast)

__all__ = ["MosscCache", "MosscConfig", "MosscForCausalLM", "MosscModel", "MosscOutput"]
