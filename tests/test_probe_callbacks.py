"""The callbacks against the real packages, and the example; where a package is not installed the test says so."""

from __future__ import annotations

import runpy
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import actbench
from tests.probed import data, mlp


@pytest.mark.slow
def test_the_example_runs_and_its_folder_can_be_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["probe_your_own.py", str(tmp_path / "mine")])
    runpy.run_path(str(Path(__file__).parent / "examples" / "probe_your_own.py"), run_name="__main__")
    runs = actbench.load(tmp_path / "mine").runs
    assert list(runs["lr"]) == [0.05, 3.0] and list(runs["steps"]) == [100, 100]
    assert "relu()#2" not in capsys.readouterr().out.partition("lr=3.0")[0].partition("act")[0]
    assert runs["dead_fraction"].iloc[0] <= runs["dead_fraction"].iloc[1]


def test_lightning_trains_alike_with_the_callback_and_its_figures_are_there(tmp_path):
    pytest.importorskip("lightning.pytorch", reason="lightning is not installed: pip install lightning")
    import lightning.pytorch as pl

    from actbench.probe.lightning import ProbeCallback

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, index):
            return F.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    x, y = data(32, 6)
    found = []
    for given in (False, True):
        torch.manual_seed(0)
        module = Module()
        callback = ProbeCallback(
            x[:10], y[:10], loss=F.cross_entropy, every=2, out=tmp_path / "mine", alerts={"max(dead_fraction) <= 1": "raise"}
        )
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8, shuffle=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                                 enable_model_summary=False, accumulate_grad_batches=2, callbacks=[callback] if given else [])  # fmt: skip
            trainer.fit(module, loader)
        found.append({name: t.clone() for name, t in module.state_dict().items()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert [m.step for m in callback.probe.measurements] == [0, 2, 4]
    assert list(actbench.load(tmp_path / "mine").layers["layer_name"].unique()) == ["net.1", "net.4"]


def test_hugging_faces_trainer_trains_alike_with_the_callback(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'transformers[torch]'")
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'transformers[torch]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

        from actbench.probe.hugging_face import ProbeCallback

        config = BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, num_labels=3
        )
        words, labels = torch.randint(0, 20, (16, 5), generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3
        rows = [{"input_ids": w, "labels": y} for w, y in zip(words, labels, strict=True)]
        found = []
        for given in (False, True):
            torch.manual_seed(0)
            model = BertForSequenceClassification(config)
            callback = ProbeCallback({"input_ids": words[:6], "labels": labels[:6]}, every=2, out=tmp_path / "mine")
            arguments = TrainingArguments(str(tmp_path / "hf"), max_steps=4, per_device_train_batch_size=4, use_cpu=True, report_to=[],
                                          save_strategy="no", disable_tqdm=True, logging_strategy="no")  # fmt: skip
            Trainer(model, arguments, train_dataset=rows, callbacks=[callback] if given else []).train()
            found.append({name: t.clone() for name, t in model.state_dict().items()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert [m.step for m in callback.probe.measurements] == [0, 2, 4]
    last = callback.probe.measurements[-1]
    assert "bert.encoder.layer.1.intermediate.intermediate_act_fn" in last.names and last.network["delta_norm_ratio"] > 0
