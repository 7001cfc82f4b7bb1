"""Models of other kinds than the package's own, each in about ten lines: what the base classes must have room for."""

import numpy as np
import pandas as pd
import torch

from scpln._catalogue import Entry, Option, Result
from scpln.data import read_labels
from scpln.model import ScplnModel
from scpln.model.base import Annotation, Objective
from scpln.module.covariances import COVARIANCES


class ToyClassifier(ScplnModel):
    """No latent state: softmax regression of a column of obs on logarithms of counts."""

    _objective = Objective("cross_entropy_loss", "nats per cell", higher_is_better=False)

    def __init__(self, adata=None, penalty=1e-3, registry=None):
        super().__init__(adata, registry)
        self.labels = list(self.registry["field_registries"]["labels"]["state_registry"]["categorical_mapping"])
        self.module = torch.nn.Linear(len(self.genes), len(self.labels))
        self.penalty = penalty
        self.init_params_ = self._get_init_params(locals())

    def _logits(self, data):
        return self.module(torch.from_numpy(np.log1p(np.asarray(data.counts.todense(), np.float32))))

    def train(self, max_epochs=100, seed=0, progress=True):
        cells, (codes, _) = self._read(None), read_labels(self.adata, self.registry)
        optimizer, history = torch.optim.Adam(self.module.parameters(), 0.05), []
        for _ in range(max_epochs):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(self._logits(cells.data), torch.from_numpy(codes))
            (loss + self.penalty * self.module.weight.square().sum()).backward()
            optimizer.step()
            history.append(loss.item())
        result = {"converged": True, "reason": f"{max_epochs} epochs", "cross_entropy_loss": history[-1]}
        self._finish_training(cells, result, {"cross_entropy_loss": history})

    def predict(self, adata=None, indices=None):
        self._require_trained()
        with torch.no_grad():
            return np.array(self.labels)[self._logits(self._read(adata, indices).data).argmax(1)]

    def _annotation(self, adata, diagnostics):
        return Annotation(obs={"label": pd.Categorical(self.predict(adata), self.labels)})

    def _evaluation(self, adata, indices, n_samples, seed):
        codes, names = read_labels(adata, self.registry)
        accuracy = (self.predict(adata) == np.array(names)[codes]).mean()
        return super()._evaluation(adata, indices, n_samples, seed).plus({"accuracy": accuracy})


class ToyGeneSpace(ScplnModel):
    """No loadings, in gene space, and another objective: logarithms of counts as normal with any covariance."""

    _objective = Objective("log_likelihood", "nats per cell")

    def __init__(self, adata=None, covariance="diagonal", registry=None):
        super().__init__(adata, registry)
        p = len(self.genes)
        self.covariance, self.module = COVARIANCES[covariance](p), torch.nn.Module()
        self.module.register_buffer("mean", torch.zeros(p, dtype=torch.float64))
        self.module.register_buffer("sigma", torch.eye(p, dtype=torch.float64))
        self.init_params_ = self._get_init_params(locals())

    def _logs(self, adata=None, positions=None):
        return np.log1p(np.asarray(self._read(adata, positions).data.counts.todense(), float))

    def train(self, max_epochs=1, seed=0, progress=True):
        cells, logs = self._read(None), self._logs()
        self.module.mean.copy_(torch.from_numpy(logs.mean(0)))
        self.covariance.update(np.cov(logs.T, bias=True))
        self.module.sigma.copy_(torch.from_numpy(self.covariance.dense))
        value = self.covariance.log_likelihood(np.cov(logs.T, bias=True))
        result = {"converged": True, "reason": "closed form", "log_likelihood": value}
        self._finish_training(cells, result, {"log_likelihood": [value]})

    def _annotation(self, adata, diagnostics):
        names = self.genes
        return Annotation(
            var=pd.DataFrame({"mean": self.module.mean.numpy()}, index=names),
            varp={"covariance": pd.DataFrame(self.module.sigma.numpy(), index=names, columns=names)},
        )


ROWS = [
    Entry(
        "toyclassifier",
        f"{ToyClassifier.__module__}.ToyClassifier",
        "softmax regression",
        options=(
            Option("labels_key", "obs column of labels", "column"),
            Option("penalty", "of weights", "number", default=1e-3),
        ),
        has_latent=False,
        results=(Result(('obs["KEY_label"]',), "most probable label of each cell"),),
    ),
    Entry(
        "toygenespace",
        f"{ToyGeneSpace.__module__}.ToyGeneSpace",
        "normal logarithms",
        has_latent=False,
        results=(Result(('var["KEY_mean"]',), "mean of each gene"),),
    ),
]
"""What makes them known to the command line: a row each."""
