"""One step of each cell, transcribed from its paper in plain Python: lists of numbers and `math`, nothing else.

An oracle takes the weights by full name as nested lists ("W.i" is m x n, used as x W; vectors are lists), the input x,
what the layer below hands up beside its output, the state, and the cell's own settings. It returns what goes up (the
output first) and the new state. Absent from `below` means zero: the first layer.
"""

import math


def times(x, matrix):
    return [sum(x[i] * matrix[i][j] for i in range(len(x))) for j in range(len(matrix[0]))]


def add(*vectors):
    return [sum(numbers) for numbers in zip(*vectors, strict=True)]


def mul(*vectors):
    return [math.prod(numbers) for numbers in zip(*vectors, strict=True)]


def one_minus(a):
    return [1.0 - number for number in a]


def sigmoid(a):
    return [1.0 / (1.0 + math.exp(-number)) for number in a]


def tanh(a):
    return [math.tanh(number) for number in a]


def relu(a):
    return [max(number, 0.0) for number in a]


def A(w, gate, x, h):
    """W x + R h + b of one gate."""
    return add(times(x, w[f"W.{gate}"]), times(h, w[f"U.{gate}"]), w[f"b.{gate}"])


def rnn(w, x, below, state, activation="tanh"):
    """Elman 1990: h_t = f(W x_t + R h_{t-1} + b)."""
    a = A(w, "h", x, state["h"])
    h = {"tanh": tanh, "relu": relu}[activation](a)
    return {"h": h}, {"h": h}


def lstm(w, x, below, state):
    """Gers, Schmidhuber & Cummins 2000, with tanh for both squashing functions."""
    h, c = state["h"], state["c"]
    i, f, o = (sigmoid(A(w, gate, x, h)) for gate in "ifo")
    c = add(mul(f, c), mul(i, tanh(A(w, "g", x, h))))
    h = mul(o, tanh(c))
    return {"h": h}, {"h": h, "c": c}


def gru(w, x, below, state):
    """Cho et al. 2014 version 1, as torch.nn.GRU documents it: n = tanh(W x + b + r (R h + b_R))."""
    h = state["h"]
    r, z = sigmoid(A(w, "r", x, h)), sigmoid(A(w, "z", x, h))
    n = tanh(add(times(x, w["W.n"]), w["b.n"], mul(r, add(times(h, w["U.n"]), w["v.n"]))))
    h = add(mul(one_minus(z), n), mul(z, h))
    return {"h": h}, {"h": h}


def gru_cho(w, x, below, state):
    """Cho et al. 2014 version 3, equations 5 to 8: h~ = tanh(W x + R (r h)), h = z h' + (1 - z) h~."""
    h = state["h"]
    r, z = sigmoid(A(w, "r", x, h)), sigmoid(A(w, "z", x, h))
    n = tanh(A(w, "n", x, mul(r, h)))
    h = add(mul(z, h), mul(one_minus(z), n))
    return {"h": h}, {"h": h}


def peephole(w, x, below, state):
    """Gers & Schmidhuber 2000: the input and forget gates see c_{t-1}, the output gate sees c_t."""
    h, past = state["h"], state["c"]
    i = sigmoid(add(A(w, "i", x, h), mul(w["v.i"], past)))
    f = sigmoid(add(A(w, "f", x, h), mul(w["v.f"], past)))
    c = add(mul(i, tanh(A(w, "g", x, h))), mul(f, past))
    o = sigmoid(add(A(w, "o", x, h), mul(w["v.o"], c)))
    h = mul(o, tanh(c))
    return {"h": h}, {"h": h, "c": c}


def lstm_1997(w, x, below, state):
    """Hochreiter & Schmidhuber 1997, appendix A.1, equations 3 to 9, with blocks of one cell; gates see all outputs.

    The paper's g(x) = 4 s(x) - 2 and h(x) = 2 s(x) - 1 are tanh in another scale, so that its cell is the one with tanh
    twice where the weights into g, and the internal state s, are twice those given here.
    """
    y, s = state["h"], [2.0 * number for number in state["c"]]
    net_in, net_out = A(w, "i", x, y), A(w, "o", x, y)
    net_c = [2.0 * number for number in A(w, "g", x, y)]
    g = [4.0 / (1.0 + math.exp(-number)) - 2.0 for number in net_c]
    s = add(s, mul(sigmoid(net_in), g))
    h = [2.0 / (1.0 + math.exp(-number)) - 1.0 for number in s]
    y = mul(sigmoid(net_out), h)
    return {"h": y}, {"h": y, "c": [number / 2.0 for number in s]}


def greff(variant):
    """Greff et al. 2015: the vanilla LSTM of section 2 (the block input z stands in our g) in one of its variants."""

    def step(w, x, below, state, peepholes=None):
        y, past = state["h"], state["c"]
        none, every = [0.0] * len(y), [1.0] * len(y)
        with_peepholes = variant != "np" if peepholes is None else peepholes

        def gate(name, memory):
            a = add(A(w, name, x, y), mul(w[f"v.{name}"], memory) if with_peepholes else none)
            if variant == "fgr":  # R_ii i_{t-1} + R_fi f_{t-1} + R_oi o_{t-1}, and so for the other two
                a = add(a, *(times(state[source], w[f"U.{source}_{name}"]) for source in "ifo"))
            return sigmoid(a)

        z = A(w, "g", x, y)
        z = z if variant == "niaf" else tanh(z)
        i = every if variant == "nig" else gate("i", past)
        if variant == "nfg":
            f = every
        elif variant == "cifg":
            f = one_minus(i)
        else:
            f = gate("f", past)
        c = add(mul(z, i), mul(past, f))
        o = every if variant == "nog" else gate("o", c)
        y = mul(c if variant == "noaf" else tanh(c), o)
        return {"h": y}, {"h": y, "c": c} | ({"i": i, "f": f, "o": o} if variant == "fgr" else {})

    return step


def cifg(w, x, below, state, peepholes=0):
    """Greff et al. 2015, CIFG: f_t = 1 - i_t; the paper's has peepholes."""
    return greff("cifg")(w, x, below, state, peepholes)


def mut1(w, x, below, state):
    """Jozefowicz, Zaremba & Sutskever 2015, MUT1; x_t itself enters (projected where the widths differ)."""
    h, x_n = state["h"], times(x, w["W.raw"]) if "W.raw" in w else x
    z = sigmoid(add(times(x, w["W.z"]), w["b.z"]))
    r = sigmoid(A(w, "r", x, h))
    new = tanh(add(times(mul(r, h), w["U.h"]), tanh(x_n), w["v.h"]))
    h = add(mul(new, z), mul(h, one_minus(z)))
    return {"h": h}, {"h": h}


def mut2(w, x, below, state):
    """Jozefowicz, Zaremba & Sutskever 2015, MUT2; x_t itself enters (projected where the widths differ)."""
    h, x_n = state["h"], times(x, w["W.raw"]) if "W.raw" in w else x
    z = sigmoid(A(w, "z", x, h))
    r = sigmoid(add(x_n, times(h, w["U.r"]), w["v.r"]))
    new = tanh(add(times(mul(r, h), w["U.h"]), times(x, w["W.h"]), w["b.h"]))
    h = add(mul(new, z), mul(h, one_minus(z)))
    return {"h": h}, {"h": h}


def mut3(w, x, below, state):
    """Jozefowicz, Zaremba & Sutskever 2015, MUT3."""
    h = state["h"]
    z = sigmoid(add(times(x, w["W.z"]), times(tanh(h), w["U.z"]), w["b.z"]))
    r = sigmoid(A(w, "r", x, h))
    new = tanh(add(times(mul(r, h), w["U.h"]), times(x, w["W.h"]), w["b.h"]))
    h = add(mul(new, z), mul(h, one_minus(z)))
    return {"h": h}, {"h": h}


def depth_gated(w, x, below, state):
    """Yao et al. 2015, above the first layer: c = d c_below + f c' + i g, d = s(W_d x + w_c c' + w_l c_below + b_d)."""
    h, past = state["h"], state["c"]
    lower = below.get("c", [0.0] * len(h))
    i = sigmoid(add(A(w, "i", x, h), mul(w["v.i"], past)))
    f = sigmoid(add(A(w, "f", x, h), mul(w["v.f"], past)))
    d = sigmoid(add(times(x, w["W.d"]), w["b.d"], mul(w["v.d"], past), mul(w["v.below"], lower)))
    c = add(mul(d, lower), mul(f, past), mul(i, tanh(A(w, "g", x, h))))
    o = sigmoid(add(A(w, "o", x, h), mul(w["v.o"], c)))
    h = mul(o, tanh(c))
    return {"h": h, "c": c}, {"h": h, "c": c}


def depth_gated_first_layer(w, x, below, state):
    """Yao et al. 2015: the first layer has no depth gate; its memory goes up."""
    _, state = peephole(w, x, below, state)
    return state, state


def grid(w, x, below, state):
    """Kalchbrenner, Danihelka & Graves 2015, equations 1 to 4 (h = tanh(o m)) and section 3.2, depth after time.

    H is first [h_d; h'_t], then with the new h_t: [h_d; h_t]. x is h_d, the hidden vector that comes from below.
    """

    def transform(h, m, prefix):
        i, f, o = (sigmoid(A(w, prefix + gate, x, h)) for gate in "ifo")
        m = add(mul(f, m), mul(i, tanh(A(w, prefix + "g", x, h))))
        return tanh(mul(o, m)), m

    h, c = transform(state["h"], state["c"], "")
    dh, dc = transform(h, below.get("dc", [0.0] * len(h)), "d")
    return {"dh": dh, "dc": dc}, {"h": h, "c": c}


def mogrifier(w, x, below, state, rounds=5, rank=32):
    """Melis, Kocisky & Blunsom 2020, equations 1 and 2, low rank Q and R, with biases; then a plain LSTM."""
    h = state["h"]
    for k in range(1, rounds + 1):
        source, target = (h, x) if k % 2 == 1 else (x, h)
        gate = sigmoid(add(times(times(source, w[f"U.left{k}"]), w[f"U.right{k}"]), w[f"v.round{k}"]))
        target = [2.0 * a * b for a, b in zip(gate, target, strict=True)]
        x, h = (target, h) if k % 2 == 1 else (x, target)
    plain = {}
    for gate in "ifgo":
        plain |= {f"W.{gate}": w[f"U.x{gate}"], f"U.{gate}": w[f"U.{gate}"], f"b.{gate}": w[f"v.{gate}"]}
    return lstm(plain, x, below, {"h": h, "c": state["c"]})


def slstm(w, x, below, state, heads=4):
    """Beck et al. 2024, equations 8 to 17, with the logistic forget gate; R has one block per head.

    m_t = max(log f_t + m_{t-1}, log i_t), i' = exp(log i - m_t), f' = exp(log f + m_{t-1} - m_t).
    """
    size = len(state["h"]) // heads

    def a(gate):
        recurrent = []
        for head, block in enumerate(w[f"U.{gate}"]):
            recurrent += times(state["h"][head * size : (head + 1) * size], block)
        return add(times(x, w[f"W.{gate}"]), recurrent, w[f"b.{gate}"])

    log_i, log_f = a("i"), [-math.log1p(math.exp(-number)) for number in a("f")]
    z, o = tanh(a("z")), sigmoid(a("o"))
    h, c, n, m = [], [], [], []
    for j in range(len(z)):
        m.append(max(log_f[j] + state["m"][j], log_i[j]))
        i, f = math.exp(log_i[j] - m[j]), math.exp(log_f[j] + state["m"][j] - m[j])
        c.append(f * state["c"][j] + i * z[j])
        n.append(f * state["n"][j] + i)
        h.append(o[j] * c[j] / n[j])
    return {"h": h}, {"h": h, "c": c, "n": n, "m": m}


def clockwork(w, x, below, state, modules=8):
    """Koutnik et al. 2014: unit j acts when t mod T_j = 0 and reads the units of its own and of longer periods.

    The clock t starts at 0 and is kept modulo the longest period.
    """
    h, t = state["h"], state["t"]
    size = len(h) // modules
    period = [2 ** (unit // size) for unit in range(len(h))]
    new = list(h)
    for j in range(len(h)):
        if t[j] % period[j] == 0:
            a = w["b.h"][j] + sum(x[i] * w["W.h"][i][j] for i in range(len(x)))
            a += sum(h[k] * w["U.h"][k][j] for k in range(len(h)) if period[k] >= period[j])
            new[j] = math.tanh(a)
    return {"h": new}, {"h": new, "t": [(now + 1) % max(period) for now in t]}


def sru(w, x, below, state, scale=3**0.5):
    """Lei et al. 2018, equations 1 to 4: both gates see c_{t-1}.

    The highway carries alpha x (projected where the widths differ), section 3.2: alpha = sqrt(1 + 2 exp(b)) at b = 0.
    """
    past = state["c"]
    u = times(x, w["W.u"])
    f = sigmoid(add(times(x, w["W.f"]), mul(w["v.f"], past), w["b.f"]))
    r = sigmoid(add(times(x, w["W.r"]), mul(w["v.r"], past), w["b.r"]))
    c = add(mul(f, past), mul(one_minus(f), u))
    highway = times(x, w["W.raw"]) if "W.raw" in w else x
    h = add(mul(r, c), [scale * number for number in mul(one_minus(r), highway)])
    return {"h": h}, {"c": c}


def mlstm_krause(w, x, below, state):
    """Krause et al. 2016, equations 9 to 12: m = (W_mx x) (W_mh h'); the gates of an LSTM see m in place of h'."""
    m = mul(times(x, w["W.m"]), times(state["h"], w["U.m"]))
    return lstm(w, x, below, {"h": m, "c": state["c"]})


def rhn(w, x, below, state, depth=5):
    """Zilly et al. 2017, equations 6 to 9 with c = 1 - t: the input enters in the first layer alone."""
    s = state["h"]
    for layer in range(1, depth + 1):
        a, t = times(s, w[f"U.a{layer}"]), times(s, w[f"U.t{layer}"])
        if layer == 1:
            a, t = add(a, times(x, w["W.a"]), w["b.a"]), add(t, times(x, w["W.t"]), w["b.t"])
        else:
            a, t = add(a, w[f"v.a{layer}"]), add(t, w[f"v.t{layer}"])
        a, t = tanh(a), sigmoid(t)
        s = add(mul(a, t), mul(s, one_minus(t)))
    return {"h": s}, {"h": s}


def indrnn(w, x, below, state):
    """Li et al. 2018, equation 4: h = relu(W x + u h' + b), with abs(u) at most 1."""
    u = [min(max(number, -1.0), 1.0) for number in w["v.u"]]
    h = relu(add(times(x, w["W.h"]), mul(u, state["h"]), w["b.h"]))
    return {"h": h}, {"h": h}


def janet(w, x, below, state, beta=1.0):
    """van der Westhuizen & Lasenby 2018, equations 6 to 9: c = s(s_t) c' + (1 - s(s_t - beta)) tanh(..), h = c."""
    s, c = A(w, "s", x, state["h"]), tanh(A(w, "g", x, state["h"]))
    write = one_minus(sigmoid([number - beta for number in s]))
    h = add(mul(sigmoid(s), state["h"]), mul(write, c))
    return {"h": h}, {"h": h}


def mgu(w, x, below, state):
    """Zhou et al. 2016, equations 10 to 12: h = (1 - f) h' + f h~, h~ = tanh(W_h [f h', x] + b_h)."""
    h = state["h"]
    f = sigmoid(A(w, "f", x, h))
    new = tanh(A(w, "g", x, mul(f, h)))
    h = add(mul(one_minus(f), h), mul(f, new))
    return {"h": h}, {"h": h}


def ugrnn(w, x, below, state):
    """Collins et al. 2017, section 1.1: h = g h' + (1 - g) c."""
    h = state["h"]
    g, c = sigmoid(A(w, "g", x, h)), tanh(A(w, "c", x, h))
    h = add(mul(g, h), mul(one_minus(g), c))
    return {"h": h}, {"h": h}


def qrnn(w, x, below, state):
    """Bradbury et al. 2017, equations 2 and 4: the window's older half has made its part at the step before."""
    z, f, o = (add(times(x, w[f"W.{k}"]), w[f"b.{k}"], state[f"{k}_past"]) for k in "zfo")
    z, f, o = tanh(z), sigmoid(f), sigmoid(o)
    c = add(mul(f, state["c"]), mul(one_minus(f), z))
    return {"h": mul(o, c)}, {"c": c} | {f"{k}_past": times(x, w[f"W.{k}_past"]) for k in "zfo"}


def positive(a):
    """Feng et al. 2024, appendix B: g(a) = a + 0.5 where a >= 0, else the logistic function."""
    return [number + 0.5 if number >= 0 else 1.0 / (1.0 + math.exp(-number)) for number in a]


def mingru(w, x, below, state):
    """Feng et al. 2024, section 3.1.3: h = (1 - z) h' + z h~."""
    z, n = (add(times(x, w[f"W.{gate}"]), w[f"b.{gate}"]) for gate in "zn")
    h = add(mul(one_minus(sigmoid(z)), state["h"]), mul(sigmoid(z), positive(n)))
    return {"h": h}, {"h": h}


def minlstm(w, x, below, state):
    """Feng et al. 2024, section 3.2.4: f' = f / (f + i), i' = i / (f + i), h = f' h' + i' h~."""
    f, i, n = (add(times(x, w[f"W.{gate}"]), w[f"b.{gate}"]) for gate in "fin")
    f, i, n = sigmoid(f), sigmoid(i), positive(n)
    h = [(a * past + b * new) / (a + b) for a, b, past, new in zip(f, i, state["h"], n, strict=True)]
    return {"h": h}, {"h": h}


def rg_lru(w, x, below, state, blocks=4):
    """De et al. 2024, equations 1 to 4 and 6: log a = -c softplus(L) r with c = 8; block-diagonal gates.

    Their code bounds the slope of the root near a = 1; here 1e-12 is added under it.
    """
    raw = times(x, w["W.raw"]) if "W.raw" in w else x
    size = len(raw) // blocks

    def gate(name):
        made = []
        for k, block in enumerate(w[f"U.{name}"]):
            made += times(raw[k * size : (k + 1) * size], block)
        return sigmoid(add(made, w[f"v.{name}"]))

    r, i = gate("r"), gate("i")
    a = [math.exp(-8.0 * math.log1p(math.exp(decay)) * number) for decay, number in zip(w["v.decay"], r, strict=True)]
    h = [k * past + math.sqrt(1.0 - k * k + 1e-12) * g * u for k, past, g, u in zip(a, state["h"], i, raw, strict=True)]
    return {"h": h}, {"h": h}


ORACLES = {
    "mlstm-krause": mlstm_krause,
    "rhn": rhn,
    "indrnn": indrnn,
    "janet": janet,
    "mgu": mgu,
    "ugrnn": ugrnn,
    "qrnn": qrnn,
    "mingru": mingru,
    "minlstm": minlstm,
    "rg-lru": rg_lru,
    "rnn": rnn,
    "lstm": lstm,
    "lstm-1997": lstm_1997,
    "gru": gru,
    "gru-cho": gru_cho,
    "peephole": peephole,
    "cifg": cifg,
    "nig": greff("nig"),
    "nfg": greff("nfg"),
    "nog": greff("nog"),
    "niaf": greff("niaf"),
    "noaf": greff("noaf"),
    "np": greff("np"),
    "fgr": greff("fgr"),
    "mut1": mut1,
    "mut2": mut2,
    "mut3": mut3,
    "depth-gated": depth_gated,
    "grid": grid,
    "mogrifier": mogrifier,
    "slstm": slstm,
    "clockwork": clockwork,
    "sru": sru,
}
FIRST_LAYER = {"depth-gated": depth_gated_first_layer}  # cells that differ in the first layer
INITIAL = {"slstm": {"m": -math.inf}}  # states that do not start at zero: max(.., m_0) must be the other


def oracle(name, layer):
    """The oracle of a cell in layer 0, 1, ..; AssertionError where nobody has written it."""
    assert name in ORACLES, f"the cell {name} has no oracle in tests/oracles.py: transcribe its paper there"
    return FIRST_LAYER.get(name, ORACLES[name]) if layer == 0 else ORACLES[name]
