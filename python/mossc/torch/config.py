"""What a model is made from: the spec, resolved by the C library."""
from __future__ import annotations

from transformers import PretrainedConfig

import mossc

class MosscConfig(PretrainedConfig):
    """The spec with every value written out (`spec`, as `mossc.Spec.resolved` gives it), and what training adds to it.

    fake_quantise: compute with weights as the spec stores them (quant.py); False: with the trained float32 numbers.
    balance_loss, z_loss: what the routers' losses count beside the text's, in training.
    """

    model_type = "mossc"
    keys_to_ignore_at_inference = ["cache"]

    def __init__(
        self, spec: dict | None = None, fake_quantise: bool = True, balance_loss: float = 0.01, z_loss: float = 0.0, **kwargs
    ):
        self.spec = spec
        self.fake_quantise, self.balance_loss, self.z_loss = fake_quantise, balance_loss, z_loss
        if spec is not None:
            self.vocab_size, self.hidden_size, self.num_hidden_layers = spec["vocab_size"], spec["d_model"], len(spec["stack"])
        kwargs["tie_word_embeddings"] = False  # a tied head is no tensor of its own
        super().__init__(**kwargs)

    @classmethod
    def from_spec(cls, spec: mossc.Spec | str | dict, **kwargs) -> MosscConfig:
        """spec: a mossc.Spec, or what it is made from (a path, a dict, YAML text)."""
        spec = spec if isinstance(spec, mossc.Spec) else mossc.Spec(spec)
        return cls(spec=spec.resolved, **kwargs)

    def as_spec(self) -> mossc.Spec:
        return mossc.Spec(self.spec)

    def tensors(self) -> list[mossc.TensorInfo]:
        """Those of a checkpoint, in the order of the language's table of weights."""
        return self.as_spec().tensors
