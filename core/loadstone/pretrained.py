"""The name under which authors of backends import what every model class has."""

from loadstone.model.pretrained import Pretrained, check_mask

__all__ = ["Pretrained", "check_mask"]
