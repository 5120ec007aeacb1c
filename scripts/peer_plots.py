"""What matplotlib and plotly take for the maps of `arrakis-graph/examples/speed.rs`: milliseconds and bytes.

`python scripts/peer_plots.py` with numpy, matplotlib and plotly installed.
"""

import io
import time

import numpy as np


def maps(side=12, length=128):
    """Patterns of random scores, sharper from head to head: float32 `[layer, head, query, key]`."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((side, side, length, length), dtype=np.float32)
    scores *= np.arange(1, side + 1, dtype=np.float32).reshape(1, side, 1, 1)
    scores[..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def matplotlib_png(values, inches, dpi):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def draw():
        figure, axes = plt.subplots(*values.shape[:2], figsize=(inches, inches), dpi=dpi)
        for layer, row in enumerate(axes):
            for head, axis in enumerate(row):
                image = axis.imshow(values[layer, head], vmin=0, vmax=1, cmap="viridis")
                axis.set_xticks([])
                axis.set_yticks([])
                if layer == 0:
                    axis.set_title(f"head {head}", fontsize=7)
                if head == 0:
                    axis.set_ylabel(f"layer {layer}", fontsize=7)
        figure.colorbar(image, ax=axes)
        out = io.BytesIO()
        figure.savefig(out, format="png")
        plt.close(figure)
        return len(out.getvalue())

    draw()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        size = draw()
        times.append((time.perf_counter() - start) * 1e3)
    print(f"matplotlib {matplotlib.__version__}, {inches} in at {dpi} dpi: {np.median(times):.0f} ms, {size} bytes")


def plotly_page(values):
    import plotly
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    start = time.perf_counter()
    layers, heads = values.shape[:2]
    figure = make_subplots(rows=layers, cols=heads)
    for layer in range(layers):
        for head in range(heads):
            figure.add_trace(go.Heatmap(z=values[layer, head], coloraxis="coloraxis"), row=layer + 1, col=head + 1)
    page = figure.to_html(include_plotlyjs=True)
    taken = (time.perf_counter() - start) * 1e3
    print(f"plotly {plotly.__version__}: {taken:.0f} ms, {len(page.encode())} bytes")


if __name__ == "__main__":
    values = maps()
    matplotlib_png(values, 7.5, 192)
    matplotlib_png(values, 20, 100)
    plotly_page(values)
