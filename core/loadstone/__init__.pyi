# Written by `make names` from the table of names and the records of arguments.

import os
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, overload

from loadstone.architectures.bert import BertConfig as BertConfig
from loadstone.architectures.camembert import CamembertConfig as CamembertConfig
from loadstone.architectures.cohere2 import Cohere2Config as Cohere2Config
from loadstone.architectures.distilbert import DistilBertConfig as DistilBertConfig
from loadstone.architectures.electra import ElectraConfig as ElectraConfig
from loadstone.architectures.gemma3 import Gemma3TextConfig as Gemma3TextConfig
from loadstone.architectures.glm4 import Glm4Config as Glm4Config
from loadstone.architectures.gpt2 import GPT2Config as GPT2Config
from loadstone.architectures.granite import GraniteConfig as GraniteConfig
from loadstone.architectures.llama import Gemma2Config as Gemma2Config
from loadstone.architectures.llama import GemmaConfig as GemmaConfig
from loadstone.architectures.llama import LlamaConfig as LlamaConfig
from loadstone.architectures.llama import MistralConfig as MistralConfig
from loadstone.architectures.llama import Qwen2Config as Qwen2Config
from loadstone.architectures.llama import Qwen3Config as Qwen3Config
from loadstone.architectures.ministral3 import Ministral3Config as Ministral3Config
from loadstone.architectures.olmo2 import Olmo2Config as Olmo2Config
from loadstone.architectures.olmo3 import Olmo3Config as Olmo3Config
from loadstone.architectures.resnet import ResNetConfig as ResNetConfig
from loadstone.architectures.roberta import RobertaConfig as RobertaConfig
from loadstone.architectures.roberta import XLMRobertaConfig as XLMRobertaConfig
from loadstone.architectures.smollm3 import SmolLM3Config as SmolLM3Config
from loadstone.architectures.vit import ViTConfig as ViTConfig
from loadstone.backend.registered import register as register
from loadstone.config import Config as Config
from loadstone.errors import ArchitectureError as ArchitectureError
from loadstone.errors import ArgumentError as ArgumentError
from loadstone.errors import BackendError as BackendError
from loadstone.errors import ChangedFileError as ChangedFileError
from loadstone.errors import CheckpointError as CheckpointError
from loadstone.errors import ConfigError as ConfigError
from loadstone.errors import LoadstoneError as LoadstoneError
from loadstone.errors import MatchError as MatchError
from loadstone.errors import MissingFrameworkError as MissingFrameworkError
from loadstone.errors import NoConfigError as NoConfigError
from loadstone.errors import NoWeightsError as NoWeightsError
from loadstone.errors import OutOfMemoryError as OutOfMemoryError
from loadstone.errors import PlacementError as PlacementError
from loadstone.errors import PluginError as PluginError
from loadstone.errors import SourceError as SourceError
from loadstone.errors import UntrustedCodeError as UntrustedCodeError
from loadstone.generate.settings import GenerationConfig as GenerationConfig
from loadstone.load.report import LoadReport as LoadReport
from loadstone.model.convert import to_backend as to_backend
from loadstone.save.convert import Conversion as Conversion
from loadstone.save.convert import convert as convert
from loadstone.source import Name
from loadstone_flax.modeling import PreTrainedModel as FlaxModel
from loadstone_tensorflow.modeling import PreTrainedModel as TensorflowModel
from loadstone_torch.modeling import PreTrainedModel as TorchModel

__version__: str
__all__ = [
    "ArchitectureError",
    "ArgumentError",
    "AutoConfig",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForImageClassification",
    "AutoModelForMaskedLM",
    "AutoModelForMultipleChoice",
    "AutoModelForNextSentencePrediction",
    "AutoModelForPreTraining",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "BackendError",
    "BertConfig",
    "CamembertConfig",
    "ChangedFileError",
    "CheckpointError",
    "Cohere2Config",
    "Config",
    "ConfigError",
    "Conversion",
    "DistilBertConfig",
    "ElectraConfig",
    "GPT2Config",
    "Gemma2Config",
    "Gemma3TextConfig",
    "GemmaConfig",
    "GenerationConfig",
    "Glm4Config",
    "GraniteConfig",
    "LlamaConfig",
    "LoadReport",
    "LoadstoneError",
    "MatchError",
    "Ministral3Config",
    "MissingFrameworkError",
    "MistralConfig",
    "NoConfigError",
    "NoWeightsError",
    "Olmo2Config",
    "Olmo3Config",
    "OutOfMemoryError",
    "PlacementError",
    "PluginError",
    "Qwen2Config",
    "Qwen3Config",
    "ResNetConfig",
    "RobertaConfig",
    "SmolLM3Config",
    "SourceError",
    "UntrustedCodeError",
    "ViTConfig",
    "XLMRobertaConfig",
    "convert",
    "plan",
    "register",
    "to_backend",
]

def plan(
    pretrained_model_name_or_path: Name | None,
    *,
    task: str | None = None,
    model_class: type | str | None = None,
    backend: str | None = None,
    bandwidth: Mapping[int | str, int | str] | int | str | None = None,
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
    state_dict: Mapping[str, Any] | None = None,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    from_tf: bool = False,
    from_flax: bool = False,
    gguf_file: str | None = None,
    from_pt: bool = False,
    weights_format: str | None = None,
    device_map: object = None,
    max_memory: Mapping[int | str, int | str] | None = None,
    layers: Collection[int] | None = None,
    key_mapping: Mapping[str, str] | None = None,
    strict: bool | None = None,
    read: str = "auto",
    wait: bool = True,
    ignore_mismatched_sizes: bool = False,
    output_loading_info: bool = False,
    ignore_adapter: bool = False,
    seed: int | None = None,
    rngs: object = None,
    **arguments: Any,
) -> LoadReport: ...

class AutoConfig:
    @staticmethod
    def from_pretrained(
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
        **arguments: Any,
    ) -> Config: ...
    @staticmethod
    def for_model(
        model_type: str,
        **fields: Any,
    ) -> Config: ...

class AutoModel:
    task: ClassVar[str]
    backend: ClassVar[str | None]
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["torch"] | None = None,
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> TorchModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["torch"] | None = None,
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[TorchModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["flax"],
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> FlaxModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["flax"],
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[FlaxModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["tensorflow"],
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> TensorflowModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["tensorflow"],
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[TensorflowModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: str | None = None,
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> Any: ...
    @overload
    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        backend: Literal["torch"] | None = None,
        dtype: object = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        trust_remote_code: bool | list[str] | None = None,
        **options: Any,
    ) -> TorchModel: ...
    @overload
    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        backend: Literal["flax"],
        dtype: object = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        trust_remote_code: bool | list[str] | None = None,
        **options: Any,
    ) -> FlaxModel: ...
    @overload
    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        backend: Literal["tensorflow"],
        dtype: object = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        trust_remote_code: bool | list[str] | None = None,
        **options: Any,
    ) -> TensorflowModel: ...
    @overload
    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        backend: str | None = None,
        dtype: object = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        trust_remote_code: bool | list[str] | None = None,
        **options: Any,
    ) -> Any: ...
    @classmethod
    def register(
        cls,
        config_class: type[Config],
        model_class: type,
        exist_ok: bool = False,
        *,
        backend: str | None = None,
    ) -> None: ...

class AutoModelForCausalLM(AutoModel): ...
class AutoModelForImageClassification(AutoModel): ...
class AutoModelForMaskedLM(AutoModel): ...
class AutoModelForMultipleChoice(AutoModel): ...
class AutoModelForNextSentencePrediction(AutoModel): ...
class AutoModelForPreTraining(AutoModel): ...
class AutoModelForQuestionAnswering(AutoModel): ...
class AutoModelForSequenceClassification(AutoModel): ...
class AutoModelForTokenClassification(AutoModel): ...

class BertModel(TorchModel):
    config: BertConfig

class BertPreTrainedModel(TorchModel):
    config: BertConfig

class BertForPreTraining(TorchModel):
    config: BertConfig

class BertForMaskedLM(TorchModel):
    config: BertConfig

class BertForNextSentencePrediction(TorchModel):
    config: BertConfig

class BertForSequenceClassification(TorchModel):
    config: BertConfig

class BertForTokenClassification(TorchModel):
    config: BertConfig

class BertForQuestionAnswering(TorchModel):
    config: BertConfig

class BertForMultipleChoice(TorchModel):
    config: BertConfig

class CamembertModel(TorchModel):
    config: CamembertConfig

class CamembertPreTrainedModel(TorchModel):
    config: CamembertConfig

class CamembertForMaskedLM(TorchModel):
    config: CamembertConfig

class CamembertForSequenceClassification(TorchModel):
    config: CamembertConfig

class CamembertForTokenClassification(TorchModel):
    config: CamembertConfig

class CamembertForQuestionAnswering(TorchModel):
    config: CamembertConfig

class CamembertForMultipleChoice(TorchModel):
    config: CamembertConfig

class Cohere2Model(TorchModel):
    config: Cohere2Config

class Cohere2PreTrainedModel(TorchModel):
    config: Cohere2Config

class Cohere2ForCausalLM(TorchModel):
    config: Cohere2Config

class DistilBertModel(TorchModel):
    config: DistilBertConfig

class DistilBertPreTrainedModel(TorchModel):
    config: DistilBertConfig

class DistilBertForMaskedLM(TorchModel):
    config: DistilBertConfig

class DistilBertForSequenceClassification(TorchModel):
    config: DistilBertConfig

class DistilBertForTokenClassification(TorchModel):
    config: DistilBertConfig

class DistilBertForQuestionAnswering(TorchModel):
    config: DistilBertConfig

class DistilBertForMultipleChoice(TorchModel):
    config: DistilBertConfig

class ElectraModel(TorchModel):
    config: ElectraConfig

class ElectraPreTrainedModel(TorchModel):
    config: ElectraConfig

class ElectraForPreTraining(TorchModel):
    config: ElectraConfig

class ElectraForMaskedLM(TorchModel):
    config: ElectraConfig

class ElectraForSequenceClassification(TorchModel):
    config: ElectraConfig

class ElectraForTokenClassification(TorchModel):
    config: ElectraConfig

class ElectraForQuestionAnswering(TorchModel):
    config: ElectraConfig

class ElectraForMultipleChoice(TorchModel):
    config: ElectraConfig

class Gemma3TextModel(TorchModel):
    config: Gemma3TextConfig

class Gemma3TextPreTrainedModel(TorchModel):
    config: Gemma3TextConfig

class Gemma3ForCausalLM(TorchModel):
    config: Gemma3TextConfig

class Gemma3TextForSequenceClassification(TorchModel):
    config: Gemma3TextConfig

class Glm4Model(TorchModel):
    config: Glm4Config

class Glm4PreTrainedModel(TorchModel):
    config: Glm4Config

class Glm4ForCausalLM(TorchModel):
    config: Glm4Config

class Glm4ForSequenceClassification(TorchModel):
    config: Glm4Config

class Glm4ForTokenClassification(TorchModel):
    config: Glm4Config

class GPT2Model(TorchModel):
    config: GPT2Config

class GPT2PreTrainedModel(TorchModel):
    config: GPT2Config

class GPT2LMHeadModel(TorchModel):
    config: GPT2Config

class GPT2ForSequenceClassification(TorchModel):
    config: GPT2Config

class GPT2ForTokenClassification(TorchModel):
    config: GPT2Config

class GPT2ForQuestionAnswering(TorchModel):
    config: GPT2Config

class GraniteModel(TorchModel):
    config: GraniteConfig

class GranitePreTrainedModel(TorchModel):
    config: GraniteConfig

class GraniteForCausalLM(TorchModel):
    config: GraniteConfig

class LlamaModel(TorchModel):
    config: LlamaConfig

class LlamaPreTrainedModel(TorchModel):
    config: LlamaConfig

class LlamaForCausalLM(TorchModel):
    config: LlamaConfig

class LlamaForSequenceClassification(TorchModel):
    config: LlamaConfig

class LlamaForTokenClassification(TorchModel):
    config: LlamaConfig

class LlamaForQuestionAnswering(TorchModel):
    config: LlamaConfig

class MistralModel(TorchModel):
    config: MistralConfig

class MistralPreTrainedModel(TorchModel):
    config: MistralConfig

class MistralForCausalLM(TorchModel):
    config: MistralConfig

class MistralForSequenceClassification(TorchModel):
    config: MistralConfig

class MistralForTokenClassification(TorchModel):
    config: MistralConfig

class MistralForQuestionAnswering(TorchModel):
    config: MistralConfig

class GemmaModel(TorchModel):
    config: GemmaConfig

class GemmaPreTrainedModel(TorchModel):
    config: GemmaConfig

class GemmaForCausalLM(TorchModel):
    config: GemmaConfig

class GemmaForSequenceClassification(TorchModel):
    config: GemmaConfig

class GemmaForTokenClassification(TorchModel):
    config: GemmaConfig

class Gemma2Model(TorchModel):
    config: Gemma2Config

class Gemma2PreTrainedModel(TorchModel):
    config: Gemma2Config

class Gemma2ForCausalLM(TorchModel):
    config: Gemma2Config

class Gemma2ForSequenceClassification(TorchModel):
    config: Gemma2Config

class Gemma2ForTokenClassification(TorchModel):
    config: Gemma2Config

class Qwen2Model(TorchModel):
    config: Qwen2Config

class Qwen2PreTrainedModel(TorchModel):
    config: Qwen2Config

class Qwen2ForCausalLM(TorchModel):
    config: Qwen2Config

class Qwen2ForSequenceClassification(TorchModel):
    config: Qwen2Config

class Qwen2ForTokenClassification(TorchModel):
    config: Qwen2Config

class Qwen2ForQuestionAnswering(TorchModel):
    config: Qwen2Config

class Qwen3Model(TorchModel):
    config: Qwen3Config

class Qwen3PreTrainedModel(TorchModel):
    config: Qwen3Config

class Qwen3ForCausalLM(TorchModel):
    config: Qwen3Config

class Qwen3ForSequenceClassification(TorchModel):
    config: Qwen3Config

class Qwen3ForTokenClassification(TorchModel):
    config: Qwen3Config

class Qwen3ForQuestionAnswering(TorchModel):
    config: Qwen3Config

class Ministral3Model(TorchModel):
    config: Ministral3Config

class Ministral3PreTrainedModel(TorchModel):
    config: Ministral3Config

class Ministral3ForCausalLM(TorchModel):
    config: Ministral3Config

class Ministral3ForSequenceClassification(TorchModel):
    config: Ministral3Config

class Ministral3ForTokenClassification(TorchModel):
    config: Ministral3Config

class Ministral3ForQuestionAnswering(TorchModel):
    config: Ministral3Config

class Olmo2Model(TorchModel):
    config: Olmo2Config

class Olmo2PreTrainedModel(TorchModel):
    config: Olmo2Config

class Olmo2ForCausalLM(TorchModel):
    config: Olmo2Config

class Olmo2ForSequenceClassification(TorchModel):
    config: Olmo2Config

class Olmo3Model(TorchModel):
    config: Olmo3Config

class Olmo3PreTrainedModel(TorchModel):
    config: Olmo3Config

class Olmo3ForCausalLM(TorchModel):
    config: Olmo3Config

class Olmo3ForSequenceClassification(TorchModel):
    config: Olmo3Config

class ResNetModel(TorchModel):
    config: ResNetConfig

class ResNetPreTrainedModel(TorchModel):
    config: ResNetConfig

class ResNetForImageClassification(TorchModel):
    config: ResNetConfig

class RobertaModel(TorchModel):
    config: RobertaConfig

class RobertaPreTrainedModel(TorchModel):
    config: RobertaConfig

class RobertaForMaskedLM(TorchModel):
    config: RobertaConfig

class RobertaForSequenceClassification(TorchModel):
    config: RobertaConfig

class RobertaForTokenClassification(TorchModel):
    config: RobertaConfig

class RobertaForQuestionAnswering(TorchModel):
    config: RobertaConfig

class RobertaForMultipleChoice(TorchModel):
    config: RobertaConfig

class XLMRobertaModel(TorchModel):
    config: XLMRobertaConfig

class XLMRobertaPreTrainedModel(TorchModel):
    config: XLMRobertaConfig

class XLMRobertaForMaskedLM(TorchModel):
    config: XLMRobertaConfig

class XLMRobertaForSequenceClassification(TorchModel):
    config: XLMRobertaConfig

class XLMRobertaForTokenClassification(TorchModel):
    config: XLMRobertaConfig

class XLMRobertaForQuestionAnswering(TorchModel):
    config: XLMRobertaConfig

class XLMRobertaForMultipleChoice(TorchModel):
    config: XLMRobertaConfig

class SmolLM3Model(TorchModel):
    config: SmolLM3Config

class SmolLM3PreTrainedModel(TorchModel):
    config: SmolLM3Config

class SmolLM3ForCausalLM(TorchModel):
    config: SmolLM3Config

class SmolLM3ForSequenceClassification(TorchModel):
    config: SmolLM3Config

class SmolLM3ForTokenClassification(TorchModel):
    config: SmolLM3Config

class SmolLM3ForQuestionAnswering(TorchModel):
    config: SmolLM3Config

class ViTModel(TorchModel):
    config: ViTConfig

class ViTPreTrainedModel(TorchModel):
    config: ViTConfig

class ViTForImageClassification(TorchModel):
    config: ViTConfig

class FlaxAutoModel:
    task: ClassVar[str]
    backend: ClassVar[str | None]
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["flax"] | None = None,
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> FlaxModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["flax"] | None = None,
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[FlaxModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: str | None = None,
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
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
        backend: Literal["flax"] | None = None,
        dtype: object = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        trust_remote_code: bool | list[str] | None = None,
        **options: Any,
    ) -> FlaxModel: ...
    @classmethod
    def register(
        cls,
        config_class: type[Config],
        model_class: type,
        exist_ok: bool = False,
        *,
        backend: str | None = None,
    ) -> None: ...

class FlaxAutoModelForCausalLM(FlaxAutoModel): ...
class FlaxAutoModelForImageClassification(FlaxAutoModel): ...
class FlaxAutoModelForMaskedLM(FlaxAutoModel): ...
class FlaxAutoModelForMultipleChoice(FlaxAutoModel): ...
class FlaxAutoModelForNextSentencePrediction(FlaxAutoModel): ...
class FlaxAutoModelForPreTraining(FlaxAutoModel): ...
class FlaxAutoModelForQuestionAnswering(FlaxAutoModel): ...
class FlaxAutoModelForSequenceClassification(FlaxAutoModel): ...
class FlaxAutoModelForTokenClassification(FlaxAutoModel): ...

class FlaxBertModel(FlaxModel):
    config: BertConfig

class FlaxBertPreTrainedModel(FlaxModel):
    config: BertConfig

class FlaxBertForPreTraining(FlaxModel):
    config: BertConfig

class FlaxBertForMaskedLM(FlaxModel):
    config: BertConfig

class FlaxBertForNextSentencePrediction(FlaxModel):
    config: BertConfig

class FlaxBertForSequenceClassification(FlaxModel):
    config: BertConfig

class FlaxBertForTokenClassification(FlaxModel):
    config: BertConfig

class FlaxBertForQuestionAnswering(FlaxModel):
    config: BertConfig

class FlaxBertForMultipleChoice(FlaxModel):
    config: BertConfig

class FlaxCamembertModel(FlaxModel):
    config: CamembertConfig

class FlaxCamembertPreTrainedModel(FlaxModel):
    config: CamembertConfig

class FlaxCamembertForMaskedLM(FlaxModel):
    config: CamembertConfig

class FlaxCamembertForSequenceClassification(FlaxModel):
    config: CamembertConfig

class FlaxCamembertForTokenClassification(FlaxModel):
    config: CamembertConfig

class FlaxCamembertForQuestionAnswering(FlaxModel):
    config: CamembertConfig

class FlaxCamembertForMultipleChoice(FlaxModel):
    config: CamembertConfig

class FlaxCohere2Model(FlaxModel):
    config: Cohere2Config

class FlaxCohere2PreTrainedModel(FlaxModel):
    config: Cohere2Config

class FlaxCohere2ForCausalLM(FlaxModel):
    config: Cohere2Config

class FlaxDistilBertModel(FlaxModel):
    config: DistilBertConfig

class FlaxDistilBertPreTrainedModel(FlaxModel):
    config: DistilBertConfig

class FlaxDistilBertForMaskedLM(FlaxModel):
    config: DistilBertConfig

class FlaxDistilBertForSequenceClassification(FlaxModel):
    config: DistilBertConfig

class FlaxDistilBertForTokenClassification(FlaxModel):
    config: DistilBertConfig

class FlaxDistilBertForQuestionAnswering(FlaxModel):
    config: DistilBertConfig

class FlaxDistilBertForMultipleChoice(FlaxModel):
    config: DistilBertConfig

class FlaxElectraModel(FlaxModel):
    config: ElectraConfig

class FlaxElectraPreTrainedModel(FlaxModel):
    config: ElectraConfig

class FlaxElectraForPreTraining(FlaxModel):
    config: ElectraConfig

class FlaxElectraForMaskedLM(FlaxModel):
    config: ElectraConfig

class FlaxElectraForSequenceClassification(FlaxModel):
    config: ElectraConfig

class FlaxElectraForTokenClassification(FlaxModel):
    config: ElectraConfig

class FlaxElectraForQuestionAnswering(FlaxModel):
    config: ElectraConfig

class FlaxElectraForMultipleChoice(FlaxModel):
    config: ElectraConfig

class FlaxGemma3TextModel(FlaxModel):
    config: Gemma3TextConfig

class FlaxGemma3TextPreTrainedModel(FlaxModel):
    config: Gemma3TextConfig

class FlaxGemma3ForCausalLM(FlaxModel):
    config: Gemma3TextConfig

class FlaxGemma3TextForSequenceClassification(FlaxModel):
    config: Gemma3TextConfig

class FlaxGlm4Model(FlaxModel):
    config: Glm4Config

class FlaxGlm4PreTrainedModel(FlaxModel):
    config: Glm4Config

class FlaxGlm4ForCausalLM(FlaxModel):
    config: Glm4Config

class FlaxGlm4ForSequenceClassification(FlaxModel):
    config: Glm4Config

class FlaxGlm4ForTokenClassification(FlaxModel):
    config: Glm4Config

class FlaxGPT2Model(FlaxModel):
    config: GPT2Config

class FlaxGPT2PreTrainedModel(FlaxModel):
    config: GPT2Config

class FlaxGPT2LMHeadModel(FlaxModel):
    config: GPT2Config

class FlaxGPT2ForSequenceClassification(FlaxModel):
    config: GPT2Config

class FlaxGPT2ForTokenClassification(FlaxModel):
    config: GPT2Config

class FlaxGPT2ForQuestionAnswering(FlaxModel):
    config: GPT2Config

class FlaxGraniteModel(FlaxModel):
    config: GraniteConfig

class FlaxGranitePreTrainedModel(FlaxModel):
    config: GraniteConfig

class FlaxGraniteForCausalLM(FlaxModel):
    config: GraniteConfig

class FlaxLlamaModel(FlaxModel):
    config: LlamaConfig

class FlaxLlamaPreTrainedModel(FlaxModel):
    config: LlamaConfig

class FlaxLlamaForCausalLM(FlaxModel):
    config: LlamaConfig

class FlaxLlamaForSequenceClassification(FlaxModel):
    config: LlamaConfig

class FlaxLlamaForTokenClassification(FlaxModel):
    config: LlamaConfig

class FlaxLlamaForQuestionAnswering(FlaxModel):
    config: LlamaConfig

class FlaxMistralModel(FlaxModel):
    config: MistralConfig

class FlaxMistralPreTrainedModel(FlaxModel):
    config: MistralConfig

class FlaxMistralForCausalLM(FlaxModel):
    config: MistralConfig

class FlaxMistralForSequenceClassification(FlaxModel):
    config: MistralConfig

class FlaxMistralForTokenClassification(FlaxModel):
    config: MistralConfig

class FlaxMistralForQuestionAnswering(FlaxModel):
    config: MistralConfig

class FlaxGemmaModel(FlaxModel):
    config: GemmaConfig

class FlaxGemmaPreTrainedModel(FlaxModel):
    config: GemmaConfig

class FlaxGemmaForCausalLM(FlaxModel):
    config: GemmaConfig

class FlaxGemmaForSequenceClassification(FlaxModel):
    config: GemmaConfig

class FlaxGemmaForTokenClassification(FlaxModel):
    config: GemmaConfig

class FlaxGemma2Model(FlaxModel):
    config: Gemma2Config

class FlaxGemma2PreTrainedModel(FlaxModel):
    config: Gemma2Config

class FlaxGemma2ForCausalLM(FlaxModel):
    config: Gemma2Config

class FlaxGemma2ForSequenceClassification(FlaxModel):
    config: Gemma2Config

class FlaxGemma2ForTokenClassification(FlaxModel):
    config: Gemma2Config

class FlaxQwen2Model(FlaxModel):
    config: Qwen2Config

class FlaxQwen2PreTrainedModel(FlaxModel):
    config: Qwen2Config

class FlaxQwen2ForCausalLM(FlaxModel):
    config: Qwen2Config

class FlaxQwen2ForSequenceClassification(FlaxModel):
    config: Qwen2Config

class FlaxQwen2ForTokenClassification(FlaxModel):
    config: Qwen2Config

class FlaxQwen2ForQuestionAnswering(FlaxModel):
    config: Qwen2Config

class FlaxQwen3Model(FlaxModel):
    config: Qwen3Config

class FlaxQwen3PreTrainedModel(FlaxModel):
    config: Qwen3Config

class FlaxQwen3ForCausalLM(FlaxModel):
    config: Qwen3Config

class FlaxQwen3ForSequenceClassification(FlaxModel):
    config: Qwen3Config

class FlaxQwen3ForTokenClassification(FlaxModel):
    config: Qwen3Config

class FlaxQwen3ForQuestionAnswering(FlaxModel):
    config: Qwen3Config

class FlaxMinistral3Model(FlaxModel):
    config: Ministral3Config

class FlaxMinistral3PreTrainedModel(FlaxModel):
    config: Ministral3Config

class FlaxMinistral3ForCausalLM(FlaxModel):
    config: Ministral3Config

class FlaxMinistral3ForSequenceClassification(FlaxModel):
    config: Ministral3Config

class FlaxMinistral3ForTokenClassification(FlaxModel):
    config: Ministral3Config

class FlaxMinistral3ForQuestionAnswering(FlaxModel):
    config: Ministral3Config

class FlaxOlmo2Model(FlaxModel):
    config: Olmo2Config

class FlaxOlmo2PreTrainedModel(FlaxModel):
    config: Olmo2Config

class FlaxOlmo2ForCausalLM(FlaxModel):
    config: Olmo2Config

class FlaxOlmo2ForSequenceClassification(FlaxModel):
    config: Olmo2Config

class FlaxOlmo3Model(FlaxModel):
    config: Olmo3Config

class FlaxOlmo3PreTrainedModel(FlaxModel):
    config: Olmo3Config

class FlaxOlmo3ForCausalLM(FlaxModel):
    config: Olmo3Config

class FlaxOlmo3ForSequenceClassification(FlaxModel):
    config: Olmo3Config

class FlaxResNetModel(FlaxModel):
    config: ResNetConfig

class FlaxResNetPreTrainedModel(FlaxModel):
    config: ResNetConfig

class FlaxResNetForImageClassification(FlaxModel):
    config: ResNetConfig

class FlaxRobertaModel(FlaxModel):
    config: RobertaConfig

class FlaxRobertaPreTrainedModel(FlaxModel):
    config: RobertaConfig

class FlaxRobertaForMaskedLM(FlaxModel):
    config: RobertaConfig

class FlaxRobertaForSequenceClassification(FlaxModel):
    config: RobertaConfig

class FlaxRobertaForTokenClassification(FlaxModel):
    config: RobertaConfig

class FlaxRobertaForQuestionAnswering(FlaxModel):
    config: RobertaConfig

class FlaxRobertaForMultipleChoice(FlaxModel):
    config: RobertaConfig

class FlaxXLMRobertaModel(FlaxModel):
    config: XLMRobertaConfig

class FlaxXLMRobertaPreTrainedModel(FlaxModel):
    config: XLMRobertaConfig

class FlaxXLMRobertaForMaskedLM(FlaxModel):
    config: XLMRobertaConfig

class FlaxXLMRobertaForSequenceClassification(FlaxModel):
    config: XLMRobertaConfig

class FlaxXLMRobertaForTokenClassification(FlaxModel):
    config: XLMRobertaConfig

class FlaxXLMRobertaForQuestionAnswering(FlaxModel):
    config: XLMRobertaConfig

class FlaxXLMRobertaForMultipleChoice(FlaxModel):
    config: XLMRobertaConfig

class FlaxSmolLM3Model(FlaxModel):
    config: SmolLM3Config

class FlaxSmolLM3PreTrainedModel(FlaxModel):
    config: SmolLM3Config

class FlaxSmolLM3ForCausalLM(FlaxModel):
    config: SmolLM3Config

class FlaxSmolLM3ForSequenceClassification(FlaxModel):
    config: SmolLM3Config

class FlaxSmolLM3ForTokenClassification(FlaxModel):
    config: SmolLM3Config

class FlaxSmolLM3ForQuestionAnswering(FlaxModel):
    config: SmolLM3Config

class FlaxViTModel(FlaxModel):
    config: ViTConfig

class FlaxViTPreTrainedModel(FlaxModel):
    config: ViTConfig

class FlaxViTForImageClassification(FlaxModel):
    config: ViTConfig

class TFAutoModel:
    task: ClassVar[str]
    backend: ClassVar[str | None]
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["tensorflow"] | None = None,
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> TensorflowModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: Literal["tensorflow"] | None = None,
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[TensorflowModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name | None,
        *,
        backend: str | None = None,
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
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        gguf_file: str | None = None,
        from_pt: bool = False,
        weights_format: str | None = None,
        device_map: object = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        layers: Collection[int] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        wait: bool = True,
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
        backend: Literal["tensorflow"] | None = None,
        dtype: object = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        trust_remote_code: bool | list[str] | None = None,
        **options: Any,
    ) -> TensorflowModel: ...
    @classmethod
    def register(
        cls,
        config_class: type[Config],
        model_class: type,
        exist_ok: bool = False,
        *,
        backend: str | None = None,
    ) -> None: ...

class TFAutoModelForCausalLM(TFAutoModel): ...
class TFAutoModelForImageClassification(TFAutoModel): ...
class TFAutoModelForMaskedLM(TFAutoModel): ...
class TFAutoModelForMultipleChoice(TFAutoModel): ...
class TFAutoModelForNextSentencePrediction(TFAutoModel): ...
class TFAutoModelForPreTraining(TFAutoModel): ...
class TFAutoModelForQuestionAnswering(TFAutoModel): ...
class TFAutoModelForSequenceClassification(TFAutoModel): ...
class TFAutoModelForTokenClassification(TFAutoModel): ...

class TFBertModel(TensorflowModel):
    config: BertConfig

class TFBertPreTrainedModel(TensorflowModel):
    config: BertConfig

class TFBertForPreTraining(TensorflowModel):
    config: BertConfig

class TFBertForMaskedLM(TensorflowModel):
    config: BertConfig

class TFBertForNextSentencePrediction(TensorflowModel):
    config: BertConfig

class TFBertForSequenceClassification(TensorflowModel):
    config: BertConfig

class TFBertForTokenClassification(TensorflowModel):
    config: BertConfig

class TFBertForQuestionAnswering(TensorflowModel):
    config: BertConfig

class TFBertForMultipleChoice(TensorflowModel):
    config: BertConfig

class TFCamembertModel(TensorflowModel):
    config: CamembertConfig

class TFCamembertPreTrainedModel(TensorflowModel):
    config: CamembertConfig

class TFCamembertForMaskedLM(TensorflowModel):
    config: CamembertConfig

class TFCamembertForSequenceClassification(TensorflowModel):
    config: CamembertConfig

class TFCamembertForTokenClassification(TensorflowModel):
    config: CamembertConfig

class TFCamembertForQuestionAnswering(TensorflowModel):
    config: CamembertConfig

class TFCamembertForMultipleChoice(TensorflowModel):
    config: CamembertConfig

class TFCohere2Model(TensorflowModel):
    config: Cohere2Config

class TFCohere2PreTrainedModel(TensorflowModel):
    config: Cohere2Config

class TFCohere2ForCausalLM(TensorflowModel):
    config: Cohere2Config

class TFDistilBertModel(TensorflowModel):
    config: DistilBertConfig

class TFDistilBertPreTrainedModel(TensorflowModel):
    config: DistilBertConfig

class TFDistilBertForMaskedLM(TensorflowModel):
    config: DistilBertConfig

class TFDistilBertForSequenceClassification(TensorflowModel):
    config: DistilBertConfig

class TFDistilBertForTokenClassification(TensorflowModel):
    config: DistilBertConfig

class TFDistilBertForQuestionAnswering(TensorflowModel):
    config: DistilBertConfig

class TFDistilBertForMultipleChoice(TensorflowModel):
    config: DistilBertConfig

class TFElectraModel(TensorflowModel):
    config: ElectraConfig

class TFElectraPreTrainedModel(TensorflowModel):
    config: ElectraConfig

class TFElectraForPreTraining(TensorflowModel):
    config: ElectraConfig

class TFElectraForMaskedLM(TensorflowModel):
    config: ElectraConfig

class TFElectraForSequenceClassification(TensorflowModel):
    config: ElectraConfig

class TFElectraForTokenClassification(TensorflowModel):
    config: ElectraConfig

class TFElectraForQuestionAnswering(TensorflowModel):
    config: ElectraConfig

class TFElectraForMultipleChoice(TensorflowModel):
    config: ElectraConfig

class TFGemma3TextModel(TensorflowModel):
    config: Gemma3TextConfig

class TFGemma3TextPreTrainedModel(TensorflowModel):
    config: Gemma3TextConfig

class TFGemma3ForCausalLM(TensorflowModel):
    config: Gemma3TextConfig

class TFGemma3TextForSequenceClassification(TensorflowModel):
    config: Gemma3TextConfig

class TFGlm4Model(TensorflowModel):
    config: Glm4Config

class TFGlm4PreTrainedModel(TensorflowModel):
    config: Glm4Config

class TFGlm4ForCausalLM(TensorflowModel):
    config: Glm4Config

class TFGlm4ForSequenceClassification(TensorflowModel):
    config: Glm4Config

class TFGlm4ForTokenClassification(TensorflowModel):
    config: Glm4Config

class TFGPT2Model(TensorflowModel):
    config: GPT2Config

class TFGPT2PreTrainedModel(TensorflowModel):
    config: GPT2Config

class TFGPT2LMHeadModel(TensorflowModel):
    config: GPT2Config

class TFGPT2ForSequenceClassification(TensorflowModel):
    config: GPT2Config

class TFGPT2ForTokenClassification(TensorflowModel):
    config: GPT2Config

class TFGPT2ForQuestionAnswering(TensorflowModel):
    config: GPT2Config

class TFGraniteModel(TensorflowModel):
    config: GraniteConfig

class TFGranitePreTrainedModel(TensorflowModel):
    config: GraniteConfig

class TFGraniteForCausalLM(TensorflowModel):
    config: GraniteConfig

class TFLlamaModel(TensorflowModel):
    config: LlamaConfig

class TFLlamaPreTrainedModel(TensorflowModel):
    config: LlamaConfig

class TFLlamaForCausalLM(TensorflowModel):
    config: LlamaConfig

class TFLlamaForSequenceClassification(TensorflowModel):
    config: LlamaConfig

class TFLlamaForTokenClassification(TensorflowModel):
    config: LlamaConfig

class TFLlamaForQuestionAnswering(TensorflowModel):
    config: LlamaConfig

class TFMistralModel(TensorflowModel):
    config: MistralConfig

class TFMistralPreTrainedModel(TensorflowModel):
    config: MistralConfig

class TFMistralForCausalLM(TensorflowModel):
    config: MistralConfig

class TFMistralForSequenceClassification(TensorflowModel):
    config: MistralConfig

class TFMistralForTokenClassification(TensorflowModel):
    config: MistralConfig

class TFMistralForQuestionAnswering(TensorflowModel):
    config: MistralConfig

class TFGemmaModel(TensorflowModel):
    config: GemmaConfig

class TFGemmaPreTrainedModel(TensorflowModel):
    config: GemmaConfig

class TFGemmaForCausalLM(TensorflowModel):
    config: GemmaConfig

class TFGemmaForSequenceClassification(TensorflowModel):
    config: GemmaConfig

class TFGemmaForTokenClassification(TensorflowModel):
    config: GemmaConfig

class TFGemma2Model(TensorflowModel):
    config: Gemma2Config

class TFGemma2PreTrainedModel(TensorflowModel):
    config: Gemma2Config

class TFGemma2ForCausalLM(TensorflowModel):
    config: Gemma2Config

class TFGemma2ForSequenceClassification(TensorflowModel):
    config: Gemma2Config

class TFGemma2ForTokenClassification(TensorflowModel):
    config: Gemma2Config

class TFQwen2Model(TensorflowModel):
    config: Qwen2Config

class TFQwen2PreTrainedModel(TensorflowModel):
    config: Qwen2Config

class TFQwen2ForCausalLM(TensorflowModel):
    config: Qwen2Config

class TFQwen2ForSequenceClassification(TensorflowModel):
    config: Qwen2Config

class TFQwen2ForTokenClassification(TensorflowModel):
    config: Qwen2Config

class TFQwen2ForQuestionAnswering(TensorflowModel):
    config: Qwen2Config

class TFQwen3Model(TensorflowModel):
    config: Qwen3Config

class TFQwen3PreTrainedModel(TensorflowModel):
    config: Qwen3Config

class TFQwen3ForCausalLM(TensorflowModel):
    config: Qwen3Config

class TFQwen3ForSequenceClassification(TensorflowModel):
    config: Qwen3Config

class TFQwen3ForTokenClassification(TensorflowModel):
    config: Qwen3Config

class TFQwen3ForQuestionAnswering(TensorflowModel):
    config: Qwen3Config

class TFMinistral3Model(TensorflowModel):
    config: Ministral3Config

class TFMinistral3PreTrainedModel(TensorflowModel):
    config: Ministral3Config

class TFMinistral3ForCausalLM(TensorflowModel):
    config: Ministral3Config

class TFMinistral3ForSequenceClassification(TensorflowModel):
    config: Ministral3Config

class TFMinistral3ForTokenClassification(TensorflowModel):
    config: Ministral3Config

class TFMinistral3ForQuestionAnswering(TensorflowModel):
    config: Ministral3Config

class TFOlmo2Model(TensorflowModel):
    config: Olmo2Config

class TFOlmo2PreTrainedModel(TensorflowModel):
    config: Olmo2Config

class TFOlmo2ForCausalLM(TensorflowModel):
    config: Olmo2Config

class TFOlmo2ForSequenceClassification(TensorflowModel):
    config: Olmo2Config

class TFOlmo3Model(TensorflowModel):
    config: Olmo3Config

class TFOlmo3PreTrainedModel(TensorflowModel):
    config: Olmo3Config

class TFOlmo3ForCausalLM(TensorflowModel):
    config: Olmo3Config

class TFOlmo3ForSequenceClassification(TensorflowModel):
    config: Olmo3Config

class TFResNetModel(TensorflowModel):
    config: ResNetConfig

class TFResNetPreTrainedModel(TensorflowModel):
    config: ResNetConfig

class TFResNetForImageClassification(TensorflowModel):
    config: ResNetConfig

class TFRobertaModel(TensorflowModel):
    config: RobertaConfig

class TFRobertaPreTrainedModel(TensorflowModel):
    config: RobertaConfig

class TFRobertaForMaskedLM(TensorflowModel):
    config: RobertaConfig

class TFRobertaForSequenceClassification(TensorflowModel):
    config: RobertaConfig

class TFRobertaForTokenClassification(TensorflowModel):
    config: RobertaConfig

class TFRobertaForQuestionAnswering(TensorflowModel):
    config: RobertaConfig

class TFRobertaForMultipleChoice(TensorflowModel):
    config: RobertaConfig

class TFXLMRobertaModel(TensorflowModel):
    config: XLMRobertaConfig

class TFXLMRobertaPreTrainedModel(TensorflowModel):
    config: XLMRobertaConfig

class TFXLMRobertaForMaskedLM(TensorflowModel):
    config: XLMRobertaConfig

class TFXLMRobertaForSequenceClassification(TensorflowModel):
    config: XLMRobertaConfig

class TFXLMRobertaForTokenClassification(TensorflowModel):
    config: XLMRobertaConfig

class TFXLMRobertaForQuestionAnswering(TensorflowModel):
    config: XLMRobertaConfig

class TFXLMRobertaForMultipleChoice(TensorflowModel):
    config: XLMRobertaConfig

class TFSmolLM3Model(TensorflowModel):
    config: SmolLM3Config

class TFSmolLM3PreTrainedModel(TensorflowModel):
    config: SmolLM3Config

class TFSmolLM3ForCausalLM(TensorflowModel):
    config: SmolLM3Config

class TFSmolLM3ForSequenceClassification(TensorflowModel):
    config: SmolLM3Config

class TFSmolLM3ForTokenClassification(TensorflowModel):
    config: SmolLM3Config

class TFSmolLM3ForQuestionAnswering(TensorflowModel):
    config: SmolLM3Config

class TFViTModel(TensorflowModel):
    config: ViTConfig

class TFViTPreTrainedModel(TensorflowModel):
    config: ViTConfig

class TFViTForImageClassification(TensorflowModel):
    config: ViTConfig
