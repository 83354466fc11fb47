"""Backbones: image -> feature pyramid; and the layers by their registered names."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dgmn2": ["DGMN2"],
        "g_ghost_regnet": ["GGhostRegNet"],
        "hornet": ["HorNet"],
        "pdc_resnet": ["PDCResNet"],
        "plain_networks": ["PlainNetwork"],
        "raft_mlp": ["RaftMLP"],
        "rmnet": ["RMNet"],
        "sda_resnet": ["SDAResNet"],
        "timm_backbone": ["TimmBackbone"],
        "torchvision_backbone": ["TorchvisionBackbone"],
        "registered_convs": [
            "FPLUS",
            "PFPLUS",
            "SparseConv2d",
            "DropConnectConv2d",
            "FrequencyDropoutConv2d",
        ],
        "registered_layers": ["GlobalLocalFilter", "GnConv", "GnFusion", "LayerNorm2d"],
    },
)
