# Written by `make names` from the table of names and the records of arguments.

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, overload

from loadstone.architectures.bert import BertConfig as BertConfig
from loadstone.architectures.distilbert import DistilBertConfig as DistilBertConfig
from loadstone.architectures.gpt2 import GPT2Config as GPT2Config
from loadstone.architectures.llama import Gemma2Config as Gemma2Config
from loadstone.architectures.llama import GemmaConfig as GemmaConfig
from loadstone.architectures.llama import LlamaConfig as LlamaConfig
from loadstone.architectures.llama import MistralConfig as MistralConfig
from loadstone.architectures.llama import Qwen2Config as Qwen2Config
from loadstone.architectures.llama import Qwen3Config as Qwen3Config
from loadstone.architectures.resnet import ResNetConfig as ResNetConfig
from loadstone.architectures.roberta import RobertaConfig as RobertaConfig
from loadstone.architectures.roberta import XLMRobertaConfig as XLMRobertaConfig
from loadstone.architectures.vit import ViTConfig as ViTConfig
from loadstone.auto import AutoConfig as AutoConfig
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
    "ChangedFileError",
    "CheckpointError",
    "Config",
    "ConfigError",
    "DistilBertConfig",
    "GPT2Config",
    "Gemma2Config",
    "GemmaConfig",
    "GenerationConfig",
    "LlamaConfig",
    "LoadReport",
    "LoadstoneError",
    "MatchError",
    "MissingFrameworkError",
    "MistralConfig",
    "NoConfigError",
    "NoWeightsError",
    "OutOfMemoryError",
    "PlacementError",
    "PluginError",
    "Qwen2Config",
    "Qwen3Config",
    "ResNetConfig",
    "RobertaConfig",
    "SourceError",
    "UntrustedCodeError",
    "ViTConfig",
    "XLMRobertaConfig",
    "plan",
    "register",
    "to_backend",
]

def plan(
    pretrained_model_name_or_path: Name,
    *,
    task: str | None = None,
    model_class: type | str | None = None,
    backend: str | None = None,
    config: Config | str | os.PathLike[str] | None = None,
    dtype: object = None,
    revision: str | None = None,
    subfolder: str = "",
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    use_safetensors: bool | None = None,
    weights_format: str | None = None,
    device_map: object = None,
    key_mapping: Mapping[str, str] | None = None,
    strict: bool | None = None,
    read: str = "auto",
    ignore_mismatched_sizes: bool = False,
    output_loading_info: bool = False,
    ignore_adapter: bool = False,
    model_type: str | None = None,
    trust_remote_code: bool | list[str] | None = None,
    prefer_remote_code: bool = False,
    code_revision: str | None = None,
    attn_implementation: str | None = None,
    seed: int | None = None,
    rngs: object = None,
    **arguments: Any,
) -> LoadReport: ...

class AutoModel:
    task: ClassVar[str]
    backend: ClassVar[str | None]
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["torch"] | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> TorchModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["torch"] | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[TorchModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["flax"],
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> FlaxModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["flax"],
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[FlaxModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["tensorflow"],
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> TensorflowModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["tensorflow"],
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[TensorflowModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: str | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
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
class BertModel(TorchModel): ...
class BertForPreTraining(TorchModel): ...
class BertForMaskedLM(TorchModel): ...
class BertForNextSentencePrediction(TorchModel): ...
class BertForSequenceClassification(TorchModel): ...
class BertForTokenClassification(TorchModel): ...
class BertForQuestionAnswering(TorchModel): ...
class BertForMultipleChoice(TorchModel): ...
class DistilBertModel(TorchModel): ...
class DistilBertForMaskedLM(TorchModel): ...
class DistilBertForSequenceClassification(TorchModel): ...
class DistilBertForTokenClassification(TorchModel): ...
class DistilBertForQuestionAnswering(TorchModel): ...
class DistilBertForMultipleChoice(TorchModel): ...
class GPT2Model(TorchModel): ...
class GPT2LMHeadModel(TorchModel): ...
class GPT2ForSequenceClassification(TorchModel): ...
class GPT2ForTokenClassification(TorchModel): ...
class GPT2ForQuestionAnswering(TorchModel): ...
class LlamaModel(TorchModel): ...
class LlamaForCausalLM(TorchModel): ...
class LlamaForSequenceClassification(TorchModel): ...
class LlamaForTokenClassification(TorchModel): ...
class LlamaForQuestionAnswering(TorchModel): ...
class MistralModel(TorchModel): ...
class MistralForCausalLM(TorchModel): ...
class MistralForSequenceClassification(TorchModel): ...
class MistralForTokenClassification(TorchModel): ...
class MistralForQuestionAnswering(TorchModel): ...
class GemmaModel(TorchModel): ...
class GemmaForCausalLM(TorchModel): ...
class GemmaForSequenceClassification(TorchModel): ...
class GemmaForTokenClassification(TorchModel): ...
class Gemma2Model(TorchModel): ...
class Gemma2ForCausalLM(TorchModel): ...
class Gemma2ForSequenceClassification(TorchModel): ...
class Gemma2ForTokenClassification(TorchModel): ...
class Qwen2Model(TorchModel): ...
class Qwen2ForCausalLM(TorchModel): ...
class Qwen2ForSequenceClassification(TorchModel): ...
class Qwen2ForTokenClassification(TorchModel): ...
class Qwen2ForQuestionAnswering(TorchModel): ...
class Qwen3Model(TorchModel): ...
class Qwen3ForCausalLM(TorchModel): ...
class Qwen3ForSequenceClassification(TorchModel): ...
class Qwen3ForTokenClassification(TorchModel): ...
class Qwen3ForQuestionAnswering(TorchModel): ...
class ResNetModel(TorchModel): ...
class ResNetForImageClassification(TorchModel): ...
class RobertaModel(TorchModel): ...
class RobertaForMaskedLM(TorchModel): ...
class RobertaForSequenceClassification(TorchModel): ...
class RobertaForTokenClassification(TorchModel): ...
class RobertaForQuestionAnswering(TorchModel): ...
class RobertaForMultipleChoice(TorchModel): ...
class XLMRobertaModel(TorchModel): ...
class XLMRobertaForMaskedLM(TorchModel): ...
class XLMRobertaForSequenceClassification(TorchModel): ...
class XLMRobertaForTokenClassification(TorchModel): ...
class XLMRobertaForQuestionAnswering(TorchModel): ...
class XLMRobertaForMultipleChoice(TorchModel): ...
class ViTModel(TorchModel): ...
class ViTForImageClassification(TorchModel): ...

class FlaxAutoModel:
    task: ClassVar[str]
    backend: ClassVar[str | None]
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["flax"] | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> FlaxModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["flax"] | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[FlaxModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: str | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
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
class FlaxBertModel(FlaxModel): ...
class FlaxBertForPreTraining(FlaxModel): ...
class FlaxBertForMaskedLM(FlaxModel): ...
class FlaxBertForNextSentencePrediction(FlaxModel): ...
class FlaxBertForSequenceClassification(FlaxModel): ...
class FlaxBertForTokenClassification(FlaxModel): ...
class FlaxBertForQuestionAnswering(FlaxModel): ...
class FlaxBertForMultipleChoice(FlaxModel): ...
class FlaxDistilBertModel(FlaxModel): ...
class FlaxDistilBertForMaskedLM(FlaxModel): ...
class FlaxDistilBertForSequenceClassification(FlaxModel): ...
class FlaxDistilBertForTokenClassification(FlaxModel): ...
class FlaxDistilBertForQuestionAnswering(FlaxModel): ...
class FlaxDistilBertForMultipleChoice(FlaxModel): ...
class FlaxGPT2Model(FlaxModel): ...
class FlaxGPT2LMHeadModel(FlaxModel): ...
class FlaxGPT2ForSequenceClassification(FlaxModel): ...
class FlaxGPT2ForTokenClassification(FlaxModel): ...
class FlaxGPT2ForQuestionAnswering(FlaxModel): ...
class FlaxLlamaModel(FlaxModel): ...
class FlaxLlamaForCausalLM(FlaxModel): ...
class FlaxLlamaForSequenceClassification(FlaxModel): ...
class FlaxLlamaForTokenClassification(FlaxModel): ...
class FlaxLlamaForQuestionAnswering(FlaxModel): ...
class FlaxMistralModel(FlaxModel): ...
class FlaxMistralForCausalLM(FlaxModel): ...
class FlaxMistralForSequenceClassification(FlaxModel): ...
class FlaxMistralForTokenClassification(FlaxModel): ...
class FlaxMistralForQuestionAnswering(FlaxModel): ...
class FlaxGemmaModel(FlaxModel): ...
class FlaxGemmaForCausalLM(FlaxModel): ...
class FlaxGemmaForSequenceClassification(FlaxModel): ...
class FlaxGemmaForTokenClassification(FlaxModel): ...
class FlaxGemma2Model(FlaxModel): ...
class FlaxGemma2ForCausalLM(FlaxModel): ...
class FlaxGemma2ForSequenceClassification(FlaxModel): ...
class FlaxGemma2ForTokenClassification(FlaxModel): ...
class FlaxQwen2Model(FlaxModel): ...
class FlaxQwen2ForCausalLM(FlaxModel): ...
class FlaxQwen2ForSequenceClassification(FlaxModel): ...
class FlaxQwen2ForTokenClassification(FlaxModel): ...
class FlaxQwen2ForQuestionAnswering(FlaxModel): ...
class FlaxQwen3Model(FlaxModel): ...
class FlaxQwen3ForCausalLM(FlaxModel): ...
class FlaxQwen3ForSequenceClassification(FlaxModel): ...
class FlaxQwen3ForTokenClassification(FlaxModel): ...
class FlaxQwen3ForQuestionAnswering(FlaxModel): ...
class FlaxResNetModel(FlaxModel): ...
class FlaxResNetForImageClassification(FlaxModel): ...
class FlaxRobertaModel(FlaxModel): ...
class FlaxRobertaForMaskedLM(FlaxModel): ...
class FlaxRobertaForSequenceClassification(FlaxModel): ...
class FlaxRobertaForTokenClassification(FlaxModel): ...
class FlaxRobertaForQuestionAnswering(FlaxModel): ...
class FlaxRobertaForMultipleChoice(FlaxModel): ...
class FlaxXLMRobertaModel(FlaxModel): ...
class FlaxXLMRobertaForMaskedLM(FlaxModel): ...
class FlaxXLMRobertaForSequenceClassification(FlaxModel): ...
class FlaxXLMRobertaForTokenClassification(FlaxModel): ...
class FlaxXLMRobertaForQuestionAnswering(FlaxModel): ...
class FlaxXLMRobertaForMultipleChoice(FlaxModel): ...
class FlaxViTModel(FlaxModel): ...
class FlaxViTForImageClassification(FlaxModel): ...

class TFAutoModel:
    task: ClassVar[str]
    backend: ClassVar[str | None]
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["tensorflow"] | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[False] = False,
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> TensorflowModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: Literal["tensorflow"] | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: Literal[True],
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
        seed: int | None = None,
        rngs: object = None,
        **arguments: Any,
    ) -> tuple[TensorflowModel, dict[str, Any]]: ...
    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Name,
        *,
        backend: str | None = None,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: object = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        use_safetensors: bool | None = None,
        weights_format: str | None = None,
        device_map: object = None,
        key_mapping: Mapping[str, str] | None = None,
        strict: bool | None = None,
        read: str = "auto",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        ignore_adapter: bool = False,
        model_type: str | None = None,
        trust_remote_code: bool | list[str] | None = None,
        prefer_remote_code: bool = False,
        code_revision: str | None = None,
        attn_implementation: str | None = None,
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
class TFBertModel(TensorflowModel): ...
class TFBertForPreTraining(TensorflowModel): ...
class TFBertForMaskedLM(TensorflowModel): ...
class TFBertForNextSentencePrediction(TensorflowModel): ...
class TFBertForSequenceClassification(TensorflowModel): ...
class TFBertForTokenClassification(TensorflowModel): ...
class TFBertForQuestionAnswering(TensorflowModel): ...
class TFBertForMultipleChoice(TensorflowModel): ...
class TFDistilBertModel(TensorflowModel): ...
class TFDistilBertForMaskedLM(TensorflowModel): ...
class TFDistilBertForSequenceClassification(TensorflowModel): ...
class TFDistilBertForTokenClassification(TensorflowModel): ...
class TFDistilBertForQuestionAnswering(TensorflowModel): ...
class TFDistilBertForMultipleChoice(TensorflowModel): ...
class TFGPT2Model(TensorflowModel): ...
class TFGPT2LMHeadModel(TensorflowModel): ...
class TFGPT2ForSequenceClassification(TensorflowModel): ...
class TFGPT2ForTokenClassification(TensorflowModel): ...
class TFGPT2ForQuestionAnswering(TensorflowModel): ...
class TFLlamaModel(TensorflowModel): ...
class TFLlamaForCausalLM(TensorflowModel): ...
class TFLlamaForSequenceClassification(TensorflowModel): ...
class TFLlamaForTokenClassification(TensorflowModel): ...
class TFLlamaForQuestionAnswering(TensorflowModel): ...
class TFMistralModel(TensorflowModel): ...
class TFMistralForCausalLM(TensorflowModel): ...
class TFMistralForSequenceClassification(TensorflowModel): ...
class TFMistralForTokenClassification(TensorflowModel): ...
class TFMistralForQuestionAnswering(TensorflowModel): ...
class TFGemmaModel(TensorflowModel): ...
class TFGemmaForCausalLM(TensorflowModel): ...
class TFGemmaForSequenceClassification(TensorflowModel): ...
class TFGemmaForTokenClassification(TensorflowModel): ...
class TFGemma2Model(TensorflowModel): ...
class TFGemma2ForCausalLM(TensorflowModel): ...
class TFGemma2ForSequenceClassification(TensorflowModel): ...
class TFGemma2ForTokenClassification(TensorflowModel): ...
class TFQwen2Model(TensorflowModel): ...
class TFQwen2ForCausalLM(TensorflowModel): ...
class TFQwen2ForSequenceClassification(TensorflowModel): ...
class TFQwen2ForTokenClassification(TensorflowModel): ...
class TFQwen2ForQuestionAnswering(TensorflowModel): ...
class TFQwen3Model(TensorflowModel): ...
class TFQwen3ForCausalLM(TensorflowModel): ...
class TFQwen3ForSequenceClassification(TensorflowModel): ...
class TFQwen3ForTokenClassification(TensorflowModel): ...
class TFQwen3ForQuestionAnswering(TensorflowModel): ...
class TFResNetModel(TensorflowModel): ...
class TFResNetForImageClassification(TensorflowModel): ...
class TFRobertaModel(TensorflowModel): ...
class TFRobertaForMaskedLM(TensorflowModel): ...
class TFRobertaForSequenceClassification(TensorflowModel): ...
class TFRobertaForTokenClassification(TensorflowModel): ...
class TFRobertaForQuestionAnswering(TensorflowModel): ...
class TFRobertaForMultipleChoice(TensorflowModel): ...
class TFXLMRobertaModel(TensorflowModel): ...
class TFXLMRobertaForMaskedLM(TensorflowModel): ...
class TFXLMRobertaForSequenceClassification(TensorflowModel): ...
class TFXLMRobertaForTokenClassification(TensorflowModel): ...
class TFXLMRobertaForQuestionAnswering(TensorflowModel): ...
class TFXLMRobertaForMultipleChoice(TensorflowModel): ...
class TFViTModel(TensorflowModel): ...
class TFViTForImageClassification(TensorflowModel): ...
