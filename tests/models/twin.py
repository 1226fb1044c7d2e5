"""A whole network against a peer's: the same weights, images and cotangent through both, in float64.

The peers' constructors fix their widths, so `thin` narrows a peer that stands on torch's meta device, where it takes
no memory: its wiring stays the peer's own.
"""

import numpy as np

from minires.engine import Tensor

TOLERANCE = 1e-9  # of the largest entry


def thin(torch, peer, factor, classes, channels=3):
    """The peer with every layer's channels divided by `factor`, but for its images' and its classes, in float64.

    `peer` is made with classes of that number, one that no layer has as its width.
    """
    t = torch.nn

    def less(count):
        assert count in (channels, classes) or count % factor == 0, f"{count} channels cannot be divided by {factor}"
        return count if count in (channels, classes) else count // factor

    for parent in list(peer.modules()):
        for name, layer in list(parent.named_children()):
            bias = getattr(layer, "bias", None) is not None
            if isinstance(layer, t.Conv2d):
                geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
                made = t.Conv2d(less(layer.in_channels), less(layer.out_channels), *geometry, bias)
            elif isinstance(layer, t.Linear):
                made = t.Linear(less(layer.in_features), less(layer.out_features), bias)
            elif isinstance(layer, t.BatchNorm2d):
                made = t.BatchNorm2d(less(layer.num_features), layer.eps, layer.momentum)
            else:
                continue
            setattr(parent, name, made)
    return peer.double()


def randomize(torch, peer, seed=3):
    """Gains, biases and running statistics away from 1 and 0, where a wrong formula could hide. No dropout."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor):
        return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)

    with torch.no_grad():
        for p in peer.parameters():
            spread = 0.3 if p.ndim == 1 else p[0].numel() ** -0.5  # a signal that neither dies nor explodes
            p.copy_(normal(p) * spread)
        for module in peer.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight += 1.0
                module.running_mean.copy_(normal(module.running_mean) * 0.3)
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    return peer


def same(key):
    return key


def load(ours, theirs, rename=same):
    """Puts the peer's weights into our model; `rename` gives our key for theirs. Unrenamed, their order is ours."""
    state = {rename(key): value.numpy() for key, value in theirs.state_dict().items()}
    if rename is same:
        assert list(ours.state_dict()) == list(state)
    ours.to(np.float64).load_state_dict(state)


def assert_same_network(torch, ours, theirs, x, rename=same, seed=5):
    """Output, gradients of images and of every parameter, and running statistics, in training and in evaluation.

    ours, theirs    with the same weights, in float64
    """
    parameters, buffers = dict(ours.named_parameters()), dict(ours.named_buffers())
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        image, peers_image = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        ours.zero_grad()
        theirs.zero_grad()
        y, peer = ours(image), theirs(peers_image)
        close(y.data, peer.detach().numpy(), "the output")
        gy = np.random.default_rng(seed).standard_normal(y.shape)
        y.backward(gy)
        peer.backward(torch.tensor(gy))
        close(image.grad, peers_image.grad.numpy(), "the gradient of the images")
        grads = {rename(key): p.grad.numpy() for key, p in theirs.named_parameters()}
        least = 1e-3 * max(np.abs(g).max() for g in grads.values())  # a bias in front of batch norm has a gradient of 0
        assert set(grads) == set(parameters)
        for key, grad in grads.items():
            close(parameters[key].grad, grad, f"the gradient of {key}", least)
        for key, buffer in theirs.named_buffers():
            close(buffers[rename(key)].data, buffer.numpy(), key)


def close(a, b, what, least=0.0):
    assert a.shape == b.shape, what
    error = np.max(np.abs(a - b))
    assert error <= TOLERANCE * max(np.max(np.abs(b)), least), f"{what} is off by {error:.2e}"
