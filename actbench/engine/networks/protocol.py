Parameter = tuple[Tensor, slice | None]
SeenForward = Callable[[int, Tensor, Tensor, int], None]
SeenBackward = Callable[[int, Tensor, int], None]


class Networks(Protocol):
    """R stacked networks. What the methods mean is told where ``StackedMLP`` has them.

    Attributes:
        sizes: the sizes of its layers.
        scratch: memory that is used again from step to step, by name.
    """

    sizes: Architecture
    scratch: dict[str, Tensor]

    def parameters(self) -> list[Parameter]:
        """Every trained tensor, with the variants it belongs to."""
        ...

    def weights_of(self, layer: int, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors that belong to the weights of a layer."""
        ...

    def all_weights(self, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors that are weights."""
        ...

    def forward(self, x_GBI: Tensor, seen: SeenForward | None = None, *, step: int | None = None, graph: bool = True) -> Tensor:
        """Outputs, [R, C, B]."""
        ...

    def backward(
        self, x_GBI: Tensor, delta_RCB: Tensor, into: list[Tensor], *, add: bool, penalty_R: Tensor | None = None
    ) -> None:
        """Gradients from δ of the outputs."""
        ...

    def observe(self, x_GBI: Tensor, delta_RCB: Tensor, into: list[Tensor], seen: SeenBackward, *, add: bool) -> None:
        """The same, telling δ of every hidden layer."""
        ...


