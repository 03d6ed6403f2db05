"""Training from a spec and text (docs/torch.md): `python -m mossc.train SPEC --data TEXT -o RUN`."""
