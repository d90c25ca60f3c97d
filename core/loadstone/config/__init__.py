"""Configurations: config.json as a typed record that loses no key."""

from loadstone.config.config import Config
from loadstone.config.fields import derived
from loadstone.config.file import CONFIG_NAME, parse_config_json

__all__ = ["CONFIG_NAME", "Config", "derived", "parse_config_json"]
