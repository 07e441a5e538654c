"""The LSTM laid out in time and in depth."""

from .base import Cell, sigmoid, tanh


class Grid(Cell):
    """Grid LSTM in two dimensions: one LSTM along time, then one along depth, sharing their incoming vectors."""

    name, paper = "grid", "Kalchbrenner, Danihelka & Graves 2015, Grid Long Short-Term Memory (2-D, time first)"
    gates, state, up, counter = "i f g o di df dg do", "h c", "dh dc", "c"
    init = {"b.f": 1.0, "b.df": 1.0}

    def step(self, x, U, below, h, c):
        i = sigmoid(x.i + h @ U.i)  # along time, from the past h and what comes from below (x)
        f = sigmoid(x.f + h @ U.f)
        g = tanh(x.g + h @ U.g)
        o = sigmoid(x.o + h @ U.o)
        c = f * c + i * g
        h = tanh(o * c)
        di = sigmoid(x.di + h @ U.di)  # along depth, from the new h and what comes from below
        df = sigmoid(x.df + h @ U.df)
        dg = tanh(x.dg + h @ U.dg)
        do = sigmoid(x.do + h @ U.do)
        dc = df * below.dc + di * dg
        dh = tanh(do * dc)
        return dh, dc, h, c
