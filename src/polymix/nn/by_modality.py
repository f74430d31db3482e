"""Modules by modality, whatever the modalities are called."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView

from torch import nn

_OWN = frozenset(dir(nn.ModuleDict()))


def key_of(name: str) -> str:
    """What a module is called in a state dict: its modality's name, or one that is free."""
    return f"{name}!" if name in _OWN else name  # no modality's name holds a "!"


class ByModality(nn.ModuleDict):
    """An `nn.ModuleDict` in which a modality may be called `type` or `values` too."""

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a modality's module."""
        super().add_module(key_of(name), module)

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(key_of(key))

    def __contains__(self, key: str) -> bool:
        return super().__contains__(key_of(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> KeysView[str]:
        """The modalities' names."""
        return {name.removesuffix("!"): None for name in self._modules}.keys()

    def items(self) -> ItemsView[str, nn.Module]:
        """The modalities' names and modules."""
        return {name: self[name] for name in self.keys()}.items()
