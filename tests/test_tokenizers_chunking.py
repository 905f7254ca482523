"""Pieces with context: how far networks see, and that nothing is missing or double."""

import pytest
import torch
from torch import nn

from unitok.tokenizers.chunking import Chain, ChainStream, ConvShape, FadedStream, Reach, chunked, reach


def seen(network, n_in, at, step_in=1):
    """Slow reference: the first and last input that output `at` depends on."""
    x = torch.randn(1, 1, n_in, dtype=torch.float64, requires_grad=True)
    network(x)[0, 0, at].backward()
    (places,) = torch.nonzero(x.grad[0, 0], as_tuple=True)
    return int(places.min()), int(places.max())


def test_reach_of_strided_convolutions_is_what_gradients_show():
    network = nn.Sequential(
        nn.Conv1d(1, 2, 7, dilation=3, padding=9), nn.Conv1d(2, 2, 4, stride=2, padding=1), nn.Conv1d(2, 1, 6, stride=3)
    ).double()
    left, right = reach([ConvShape(7, 1, 3, 9), ConvShape(4, 2, 1, 1), ConvShape(6, 3, 1, 0)])
    first, last = seen(network, 6 * 40, at=20)
    assert (left, right) == (-(-(6 * 20 - first) // 6), -(-(last - 6 * 20) // 6))


def test_reach_of_transposed_convolutions_covers_what_gradients_show():
    network = nn.Sequential(
        nn.Conv1d(1, 2, 3, padding=1), nn.ConvTranspose1d(2, 2, 8, stride=4, padding=2), nn.ConvTranspose1d(2, 1, 5, 3)
    ).double()
    found = reach([ConvShape(3, 1, 1, 1), ConvShape(8, 4, 1, 2, True), ConvShape(5, 3, 1, 0, True)])
    for at in range(12 * 20, 12 * 21):
        first, last = seen(network, 40, at)
        assert 20 - first <= found.left <= 20 - first + 2
        assert last - 20 <= found.right <= last - 20 + 2


@pytest.mark.parametrize("n", [1, 5, 6, 60, 61, 125])
def test_pieces_give_what_one_pass_gives(n):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(2, 3, 7, padding=3), nn.Conv1d(3, 4, 6, stride=6)).double()
    padded = nn.functional.pad(torch.randn(2, n, dtype=torch.float64), (0, -n % 6))
    context = reach([ConvShape(7, 1, 1, 3), ConvShape(6, 6, 1, 0)])
    sizes = []

    def counted(x):
        sizes.append(x.shape[-1])
        return network(x[None])[0]

    assert torch.allclose(chunked(padded, counted, steps=(6, 1), chunk=4, context=context), network(padded[None])[0])
    assert max(sizes) <= 6 * (4 + sum(context))


def test_too_little_context_would_show():
    torch.manual_seed(0)
    network = nn.Conv1d(1, 1, 7, padding=3).double()
    x = torch.randn(1, 50, dtype=torch.float64)
    cut = [chunked(x, lambda p: network(p[None])[0], steps=(1, 1), chunk=10, context=Reach(n, n)) for n in (2, 3)]
    differs = [not torch.allclose(y, network(x[None])[0]) for y in cut]
    assert differs == [True, False]


@pytest.mark.parametrize("n", [1, 9, 40, 41, 83])
def test_recurrent_state_goes_from_piece_to_piece(n):
    torch.manual_seed(0)
    before = nn.Conv1d(1, 3, 5, padding=2).double()
    lstm = nn.LSTM(3, 3, batch_first=True).double()
    after = nn.ConvTranspose1d(3, 1, 8, stride=4, padding=2).double()

    def recur(x, state):
        y, state = lstm(x.t()[None], state)
        return y[0].t(), state

    x = torch.randn(1, n, dtype=torch.float64)
    with torch.no_grad():
        whole = after(recur(before(x[None])[0], None)[0][None])[0]
        chain = Chain(
            lambda p: before(p[None])[0],
            recur,
            lambda p: after(p[None])[0],
            steps=(1, 1, 4),
            contexts=(reach([ConvShape(5, 1, 1, 2)]), reach([ConvShape(8, 4, 1, 2, True)])),
        )
        assert torch.allclose(chain.run(x, 8), whole, atol=1e-12)
        for size in (1, 3, 100):
            stream, given, made = ChainStream(chain), 0, []
            for piece in x.split(size, dim=-1):
                given += piece.shape[-1]
                made.append(stream.push(piece))
                assert sum(p.shape[-1] for p in made) == 4 * max(given - chain.look_ahead, 0)
            made.append(stream.push(x[:, :0], last=True))
            assert torch.allclose(torch.cat([p for p in made if p.shape[-1]], dim=-1), whole, atol=1e-12)


def test_a_network_that_sees_everything_fades_from_piece_to_piece():
    def network(x):  # every sample has the mean of all that is shown: seams between pieces would be jumps
        return x.mean(dim=-1, keepdim=True).expand(1, 10 * x.shape[-1])

    x = torch.arange(12, dtype=torch.float64)[None]
    stream = FadedStream(network, 10, Reach(2, 1), fade=10)
    made = torch.cat([p for i in range(12) if (p := stream.push(x[:, i : i + 1], last=i == 11)).shape[-1]], dim=-1)
    assert made.shape == (1, 120)
    means = [float(x[0, max(t - 2, 0) : t + 2].mean()) for t in range(12)]
    assert made[0, 5].item() == means[0]
    assert made[0, 39].item() == pytest.approx(means[3], abs=0.06)
    assert made.diff().abs().max() < 0.11
    whole = FadedStream(network, 10, Reach(2, 1), fade=10).push(x, last=True)
    assert torch.equal(whole, network(x))
