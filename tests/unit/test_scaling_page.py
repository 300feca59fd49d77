"""The page on scaling: what it shows runs, and gives what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import neuros_mechint as nm
from tests.pages import code_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
SNIPPETS = code_of(PAGE.read_text(encoding="utf-8"))
ELSEWHERE = ("SLURMCluster", "set_default_api_key")
"""What marks a snippet that needs a SLURM cluster or a server."""


@pytest.mark.slow
def test_snippets_run():
    pytest.importorskip("distributed", reason="pip install 'neuros-mechint[distributed]'")
    names = {"__name__": "__main__"}
    here = [text for text in SNIPPETS if not any(mark in text for mark in ELSEWHERE)]
    assert len(here) == len(SNIPPETS) - len(ELSEWHERE)
    for text in here:
        exec(compile(text, str(PAGE), "exec"), names)


@pytest.mark.parametrize("mark", ELSEWHERE)
def test_the_others_are_python(mark):
    [text] = [text for text in SNIPPETS if mark in text]
    compile(text, str(PAGE), "exec")


def test_the_job_that_slurm_gets():
    jobqueue = pytest.importorskip("dask_jobqueue", reason="pip install dask-jobqueue")
    [text] = [text for text in SNIPPETS if "SLURMCluster" in text]
    start, stop = text.index("SLURMCluster("), text.index("\n)\n")
    here = ",\n scheduler_options={'host': '127.0.0.1'})"
    with eval(text[start:stop].removesuffix(",") + here, vars(jobqueue)) as cluster:
        script = cluster.job_script()
    for line in ("#SBATCH -p cpu", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=30G", "#SBATCH -t 02:00:00"):
        assert line in script
    before, worker = script.split("dask_worker", 1)
    assert before.index("activate") < before.index("OMP_NUM_THREADS=1") < before.rindex("python")
    assert "--nthreads 1 " in worker
    assert "--nworkers 8 " in worker


@pytest.mark.slow
def test_the_nnsight_recipe_on_a_model_of_this_machine(tmp_path, monkeypatch):
    """Its own words, with a small model of the same kind, and nnsight's simulation in the place of the server."""
    nnsight = pytest.importorskip("nnsight")
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(20)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(num_hidden_layers=3, vocab_size=20, bos_token_id=0, eos_token_id=0, **sizes)
    here = LlamaForCausalLM(config).eval()
    here.save_pretrained(tmp_path)

    keys = []
    monkeypatch.setattr(type(nnsight.CONFIG), "set_default_api_key", lambda _, key: keys.append(key))
    [text] = [text for text in SNIPPETS if "set_default_api_key" in text]
    in_place = {
        '"meta-llama/Llama-3.1-70B"': f"{str(tmp_path)!r}, tokenizer=tokenizer",
        "remote=True": 'remote="local"',
        "layers.40": "layers.0",
        "layers.60": "layers.2",
    }
    for theirs, ours in in_place.items():
        assert text.count(theirs) == 1
        text = text.replace(theirs, ours)
    prompts = torch.randint(20, (2, 5), generator=torch.Generator().manual_seed(0))
    names = {"nm": nm, "tokenizer": tokenizer, "prompts": prompts}
    exec(compile(text, str(PAGE), "exec"), names)
    assert keys == ["..."]
    expected = nm.adapt(here).run(prompts, edits=[nm.Zero("model.layers.0.self_attn")], capture=["model.layers.2.mlp"])
    site = "model.layers.2.mlp"
    torch.testing.assert_close(names["run"].activations[site], expected.activations[site])
