"""TorchScript archives as modules, as far as the types of their modules are known."""
