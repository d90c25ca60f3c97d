# Written by `make names` from the table of names and the records of arguments.

import os
from typing import Any, ClassVar, Self

class ConfigLoading:
    model_type: ClassVar[str]
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
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
        **arguments: Any,
    ) -> Self: ...
    @classmethod
    def get_config_dict(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
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
        **arguments: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]: ...
