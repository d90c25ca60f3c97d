# Written by `make names` from the table of names and the records of arguments.

import os
from collections.abc import Mapping
from typing import Any, Literal, Self, overload

from loadstone.config import Config
from loadstone.source import Name

class Loading:
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> Self: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[Self, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> Any: ...
    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        dtype: object = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        trust_remote_code: bool | list[str] | None = None,
        **options: Any,
    ) -> Self: ...
