class Trainer:
    """A pack in training: the networks and their optimizer's state.

    Attributes:
        evaluated: the steps after which the networks are to be measured.
        last: how many steps there will be.
    """

    def __init__(self, pack: Pack, data: DeviceData, recorder: Recorder | None = None) -> None:
        self.pack, self.data = pack, data
        spec, device = pack.shared, data.device
        self.networks = make_networks(pack, data)
        self.parameters = [p for p, _ in self.networks.parameters()]
        self.loss = Loss(spec.loss, reconstructs=spec.model == "autoencoder")
        self.evaluator = Evaluator(pack, data, self.networks, self.loss)
        self.finite_R = torch.ones(len(pack), dtype=torch.bool, device=device)
        self.steps_R = torch.zeros(len(pack), dtype=torch.int64, device=device)
        self.step = 0
        self.evaluated = set(evaluation_steps(spec, data.shape.train))
        self.last = spec.epochs * steps_per_epoch(spec, data.shape.train)
        self.plain_sgd = uses_plain_sgd(spec)
        self.lr = self._per_network("lr")
        settings = ("momentum", "weight_decay", "weight_l1", "activation_l1", "grad_clip")
        told = {name: self._per_network(name) if getattr(spec, name) else None for name in settings}
        self.momentum, self.weight_decay = told["momentum"], told["weight_decay"]
        self.weight_l1, self.activation_l1, self.grad_clip = told["weight_l1"], told["activation_l1"], told["grad_clip"]
        if not self.plain_sgd:
            self.update = OPTIMIZERS[spec.optimizer].step
            self.gradients = [torch.empty_like(p) for p in self.parameters]
            self.states: list[dict[str, Tensor]] = [{} for _ in self.parameters]
        self.recorded: RecordedSteps | None = None
        if recorder is not None and can_be_recorded(spec):
            factors = [lr_factor(spec.lr_schedule, step, self.last) for step in range(self.last)]
            rates = torch.tensor(factors, dtype=data.dtype, device=device)
            self.recorded = RecordedSteps(recorder, self._take, rates, lambda: list(self.networks.scratch.values()))

    def _per_network(self, setting: str) -> Tensor:
        values = [getattr(spec, setting) for spec in self.pack.specs]
        return torch.tensor(values, device=self.data.device, dtype=self.data.dtype).view(-1, 1, 1)

    def parameter_counts(self) -> np.ndarray:
        """How many trained numbers each network has, [R]."""
        counts = np.zeros((len(self.pack.seeds), len(self.pack.variants)), np.int64)
        for p, part in self.networks.parameters():
            counts[:, part or slice(None)] += p[0].numel() if part is None else p[0, 0].numel()
        return counts.reshape(-1)

    def train_on(self, index_SB: Tensor) -> None:
        """One step of every network on its seed's batch, given by its examples' places."""
        if self.recorded is None:
            self.train_step(*self.data.batch(index_SB))
        else:
            self.recorded.step(index_SB)
            self.step += 1

    def _take(self, index_SB: Tensor, factor: Any, t: Any) -> None:
        self._train_step(*self.data.batch(index_SB), factor, t)

    def train_step(self, x_SBI: Tensor, y_SB: Tensor) -> None:
        """One step of every network on its seed's batch, given by its values."""
        self._train_step(x_SBI, y_SB, lr_factor(self.pack.shared.lr_schedule, self.step, self.last), self.step + 1)
        self.step += 1

    def _train_step(self, x_SBI: Tensor, y_SB: Tensor, factor: Any, t: Any) -> None:
        """With the rate times ``factor``, as the t-th step. No decision in here depends on a tensor's value, and nothing
        comes from the CPU but what Python draws for dropout and corruption."""
        spec, share = self.pack.shared, 1 / y_SB.shape[1]
        read_SBI = x_SBI
        if spec.corruption:
            read_SBI = self.data.corrupted(x_SBI, self.pack.seeds, self.step, spec.corruption)
        out = self.networks.forward(read_SBI, step=self.step)
        delta = self.loss.delta(out, x_SBI, y_SB)
        total_R = delta.sum((1, 2))
        self.finite_R &= total_R - total_R == 0  # the softmax of anything not finite is NaN
        self.steps_R += self.finite_R
        lr = self.lr * factor
        penalty = self.activation_l1
        if self.plain_sgd:
            delta.mul_(lr * -share)
            penalty = None if penalty is None else penalty * lr * -share
            self.networks.backward(read_SBI, delta, self.parameters, add=True, penalty_R=penalty)
            return
        delta.mul_(share)
        penalty = None if penalty is None else penalty * share
        self.networks.backward(read_SBI, delta, self.gradients, add=False, penalty_R=penalty)
        if self.weight_l1 is not None:
            weights, gradients = (self.networks.all_weights(tensors) for tensors in (self.parameters, self.gradients))
            for w, gradient in zip(weights, gradients, strict=True):
                gradient.addcmul_(torch.sign(w), self.weight_l1)
        owned = self.networks.parameters()
        if self.grad_clip is not None:
            self._clip([part for _, part in owned])
        for (p, part), gradient, state in zip(owned, self.gradients, self.states, strict=True):
            rate, momentum, decay = (self._shaped(t, part, p.ndim) for t in (lr, self.momentum, self.weight_decay))
            self.update(p, gradient, state, t, rate, momentum, decay, bool(spec.nesterov))

    def _clip(self, parts: list[slice | None]) -> None:
        """Scales each network's gradients so that their common L2 norm is at most its ``grad_clip``."""
        seeds = len(self.pack.seeds)
        square_SK = torch.zeros(seeds, len(self.pack.variants), dtype=self.data.dtype, device=self.data.device)
        for gradient, part in zip(self.gradients, parts, strict=True):
            whole = gradient.view(seeds, -1, *gradient.shape[1:]) if part is None else gradient
            square_SK[:, part or slice(None)] += whole.square().sum(tuple(range(2, whole.ndim)))
        assert self.grad_clip is not None
        factor_R11 = (self.grad_clip / (square_SK.sqrt().view(-1, 1, 1) + CLIP_EPS)).clamp_max(1)
        for gradient, part in zip(self.gradients, parts, strict=True):
            gradient.mul_(self._shaped(factor_R11, part, gradient.ndim))

    def _shaped(self, setting_R11: Tensor | None, part: slice | None, dimensions: int) -> Any:
        """A per-network setting in the shape of a parameter: [R, 1, 1], or [S, k, 1, …] of a slice of variants."""
        if setting_R11 is None or part is None:
            return setting_R11
        setting_SK = setting_R11.view(len(self.pack.seeds), -1)[:, part]
        return setting_SK.reshape(*setting_SK.shape, *[1] * (dimensions - 2))

    def evaluate_initialisation(self) -> Evaluation:
        """Like ``evaluate(0)``, but measures once what several networks have in common: they differ in how they will train."""
        few, places = self.pack.at_initialisation()
        if len(few) == len(self.pack):
            return self.evaluate(0)
        trainer = Trainer(few, self.data)
        measured = trainer.evaluate(0)
        index = torch.tensor(places, device=self.data.device)
        self.evaluator.born_dead = [born[index] for born in trainer.evaluator.born_dead if born is not None]
        self.finite_R = trainer.finite_R[index]
        network = {name: values[places] for name, values in measured.network.items()}
        return Evaluation(0, 0, network, {name: values[places] for name, values in measured.layers.items()})

    def evaluate(self, epoch: float) -> Evaluation:
        """Measures every network, in evaluation mode."""
        measured, finite_R = self.evaluator.evaluate(epoch, self.step)
        self.finite_R &= finite_R
        return measured
