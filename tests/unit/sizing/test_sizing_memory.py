"""The memory of a model: against the sizes that its publishers list."""

import pytest

from mica.events import Dtype, Profile, WorkloadKind
from mica.sizing import (
    Unsizable,
    Workload,
    count_parameters,
    known_models,
    known_speeds,
    kv_bytes_per_token,
    memory_of,
    plain_name,
    times_of,
    weight_bytes,
    workload_of,
)

SHAPES = {name: shape for shapes in known_models().values() for name, shape in shapes.items()}
TRANSFORMERS = sorted(name for name, shape in SHAPES.items() if shape.layers)


def work(**fields: object) -> Workload:
    found = workload_of(Profile(**fields))
    assert isinstance(found, Workload), found
    return found


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_dimensions_give_the_published_number_of_parameters(name):
    """Within 0.7 % for those with biases, pooling or patches, within 0.01 % for the others."""
    shape = SHAPES[name]
    error = abs(count_parameters(shape) / shape.parameters - 1)
    assert error < (1e-4 if shape.gated else 7e-3)


@pytest.mark.parametrize(
    ("model", "dtype", "listed_gb"),
    [
        ("llama-3.1-8b", Dtype.BF16, 16.06),
        ("llama-3.1-8b", Dtype.FP8, 9.08),
        ("llama-3.1-8b", Dtype.INT4, 5.73),
        ("llama-3.1-70b", Dtype.BF16, 141.11),
        ("llama-3.1-70b", Dtype.INT4, 39.77),
        ("qwen2.5-7b", Dtype.INT4, 5.58),
    ],
)
def test_weights_weigh_what_their_repositories_list(model, dtype, listed_gb):
    """Quantised ones too, whose embeddings stay in 16 bits: within 0.3 %."""
    assert weight_bytes(SHAPES[model], dtype) / 1e9 == pytest.approx(listed_gb, rel=0.003)


def test_a_kv_cache_has_a_key_and_a_value_for_each_layer_and_key_head():
    """128 KiB a token for Llama 3.1 8B in 16 bits, a quarter of Llama 2 7B, which does not group them."""
    assert kv_bytes_per_token(SHAPES["llama-3.1-8b"], Dtype.BF16) == 128 << 10
    assert kv_bytes_per_token(SHAPES["llama-2-7b"], Dtype.FP16) == 512 << 10
    assert kv_bytes_per_token(SHAPES["llama-3.1-8b"], Dtype.FP8) == 64 << 10


def test_the_cache_grows_with_context_and_sequences_and_nothing_else_does():
    """Eight sequences of 8192 tokens are 8 GiB for Llama 3.1 8B; a sequence has whole blocks of 16 tokens."""
    one = memory_of(work(model="llama-3.1-8b", context_tokens=8192))
    eight = memory_of(work(model="llama-3.1-8b", context_tokens=8192, concurrency=8))
    assert (one.kv_cache, eight.kv_cache) == (1 << 30, 8 << 30)
    assert one.weights == eight.weights
    odd, even = (memory_of(work(model="llama-3.1-8b", context_tokens=tokens)).kv_cache for tokens in (8177, 8192))
    assert odd == even


def test_what_does_not_generate_has_no_cache():
    """Encoders, embeddings and vision models keep nothing from one request to the next."""
    for model in ("bert-base-uncased", "bge-large-en-v1.5", "vit-base-patch16-224", "resnet50"):
        assert memory_of(work(model=model, batch=8)).kv_cache == 0
    assert memory_of(work(model="llama-guard-3-1b")).kv_cache > 0


def test_activations_grow_with_the_batch():
    """Twice the images, twice the feature maps."""
    small, large = (memory_of(work(model="resnet50", batch=batch)).activations for batch in (8, 16))
    assert large == 2 * small


def test_a_gang_splits_weights_and_cache_but_not_the_runtime():
    """Each of four devices holds a quarter; no more than one part for each key head."""
    whole, quarter = (memory_of(work(model="llama-3.1-70b"), devices) for devices in (1, 4))
    assert quarter.weights == -(-whole.weights // 4)
    assert quarter.kv_cache == whole.kv_cache // 4
    assert quarter.runtime == whole.runtime
    assert memory_of(work(model="llama-3.1-70b"), 16).kv_cache == whole.kv_cache // 8


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "mistral-7b"),
        ("BAAI/bge-base-en-v1.5", "bge-base-en-v1.5"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("nobody/unheard-of", "unheard-of"),
    ],
)
def test_a_model_is_known_by_what_its_publisher_calls_it(name, plain):
    """Publisher, case and variant do not matter; an unknown name stays as it is."""
    assert plain_name(name) == plain


def test_everything_that_was_left_open_is_said():
    """Of a model with nothing but a name: dtype, context, prompt, output, sequences, cache."""
    said = "; ".join(work(model="llama-3.1-8b").said)
    for each in ("bf16 assumed", "context of 4096", "output assumed", "prompt of 3072", "1 sequence at once", "KV cache in bf16"):
        assert each in said
    full = work(
        model="llama-3.1-8b", dtype=Dtype.FP8, kv_dtype=Dtype.FP8, context_tokens=9000, prompt_tokens=8000, output_tokens=1000
    )
    assert not [each for each in full.said if "assumed" in each]


def test_a_model_of_which_only_the_parameters_are_known_gets_no_fewer_keys_than_it_could_have():
    """The most there can be is assumed, and said; the cache is no smaller than that of real models as large."""
    guessed = work(parameters=7_000_000_000, kind=WorkloadKind.LLM)
    real = work(model="llama-2-7b")
    assert "the most there can be" in "; ".join(guessed.said)
    assert memory_of(guessed).kv_cache >= 0.9 * memory_of(real).kv_cache


def test_dimensions_alone_are_enough():
    """Layers, width and heads give the parameters, which is said."""
    found = work(layers=32, hidden=4096, heads=32)
    assert found.shape.parameters == pytest.approx(7e9, rel=0.1)
    assert "parameters" in "; ".join(found.said)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"parameters": 10**9}, "profile.kind"),
        ({"parameters": 10**9, "kind": WorkloadKind.OTHER}, "profile.kind"),
        ({"layers": 3, "kind": WorkloadKind.LLM}, "profile.hidden"),
        ({"model": "llama-3.1-8b", "context_tokens": 100, "prompt_tokens": 90, "output_tokens": 20}, "profile.context_tokens"),
    ],
)
def test_what_is_missing_or_impossible_is_named(fields, field):
    """The field, what was given, and what is allowed."""
    found = workload_of(Profile(**fields))
    assert isinstance(found, Unsizable)
    assert found.field == field
    assert found.allowed


def test_nothing_is_known_of_a_model_that_nobody_describes():
    """No shape is made up from a name."""
    assert workload_of(Profile(model="unheard-of")) is None
    assert workload_of(Profile()) is None


def test_estimates_grow_with_the_work_and_shrink_with_the_device():
    """A longer prompt takes longer to its first token, more sequences make each slower and all together faster."""
    speeds = known_speeds()
    h100, a100 = speeds["H100-SXM-80GB"], speeds["A100-SXM-80GB"]
    one, eight = (times_of(work(model="llama-3.1-8b", concurrency=n), h100) for n in (1, 8))
    longer = times_of(work(model="llama-3.1-8b", prompt_tokens=8000, output_tokens=1024), h100)
    assert one.tpot_ms < eight.tpot_ms
    assert one.rate_hz < eight.rate_hz
    assert longer.ttft_ms > one.ttft_ms
    assert times_of(work(model="llama-3.1-8b"), a100).tpot_ms > one.tpot_ms
    assert times_of(work(model="llama-3.1-8b", dtype=Dtype.INT4), h100).tpot_ms < one.tpot_ms / 2


def test_the_smallest_time_between_tokens_is_that_of_reading_the_weights_once():
    """16 GB from memory of 3.35 TB/s take 4.8 ms at least; the estimate is above, and below three times that."""
    tpot_ms = times_of(work(model="llama-3.1-8b"), known_speeds()["H100-SXM-80GB"]).tpot_ms
    assert 4.8 < tpot_ms < 3 * 4.8


def test_a_mixture_reads_the_experts_that_its_tokens_use():
    """One sequence uses two of eight; many use all of them."""
    speed = known_speeds()["H100-SXM-80GB"]
    one, many = (times_of(work(model="mixtral-8x7b", concurrency=n, context_tokens=64), speed).tpot_ms for n in (1, 8))
    assert many > 3 * one


def test_a_speed_is_known_by_the_catalogues_key_and_by_the_drivers_name():
    """What a node file says and what NVML answers."""
    speeds = known_speeds()
    assert speeds["A100-SXM-80GB"] == speeds["NVIDIA A100-SXM4-80GB"]
    assert speeds["A100-SXM-80GB"].bandwidth_part == pytest.approx(7 / 8)
    assert speeds["L4"].bandwidth_part == 1.0
    assert "pocl" not in speeds
