"""The arrays that compiled code reads and fills."""

from functools import cache

import torch
from llvmlite import ir

from ..generic.layout import X
from ..machine import matmul, processor
from . import kernels

_step = cache(kernels.Step)


@cache
def function(name, layout, n, kind, *wanted):
    """A function, and the names of the arrays that it wants."""
    module, kind_of = ir.Module(), kernels.Backward if wanted else kernels.Forward
    kernel = kind_of(module, name, _step(layout, n), kind, *wanted)
    return processor.Shared(module, kernel.code.function, kind), list(kernel.names)


class Forward:
    """All T steps of B lanes, in `arrays` by name (time, k, lanes); with `keep` all that the backward pass reads."""

    def __init__(self, layout, given, T, B, keep):
        self.layout, self.cut, self.given, self.T, self.B = layout, layout.cut, given, T, B
        self.names = layout.cell.states
        self.like = given[self.names[0]]
        self.n = self.like.shape[-1]
        self.step = _step(layout, self.n)
        double = self.like.dtype == torch.float64
        mixed = torch.is_autocast_enabled("cpu") and not double and processor.in_pairs()
        if B == 1 and not keep:
            self.kind = processor.kind_alone(double)
        else:
            self.kind = processor.kind_for(B, torch.get_num_threads(), double, mixed)
        self.lanes = -(-B // self.kind.lanes) * self.kind.lanes
        self.arrays = {}
        for name, (rows, more) in self.step.arrays.items():
            held = keep or more or "up" in name or (self.kind.alone and "rows" in name)
            self.arrays[name] = self.like.new_empty(T + more if held else 1, rows, self.lanes)
        self._fill()
        self.threads = min(torch.get_num_threads(), self.lanes // self.kind.lanes)
        self.run("forward", {}, [self.own() for _ in range(self.threads)])

    def run(self, name, arrays, own, *wanted):
        """Compiled code for all steps; `own` are the arrays of each thread."""
        code, names = function(name, self.layout, self.n, self.kind, *wanted)
        arrays = self.arrays | arrays
        matrices = {a: self._matrix(a) for a in names if a[0] in ("forward", "backward")}
        addresses, strides = [], []
        for mine in own:
            used = [(arrays | matrices | mine)[a] for a in names]
            addresses.append([a.data_ptr() for a in used])
            strides.append([a.stride(0) if a.dim() == 3 and len(a) > 1 else 0 for a in used])
        code(self.T, self.lanes, addresses, strides, torch.get_num_threads())

    def own(self):
        """What a thread has for itself: the values of a product in pairs."""
        widest = max([self.layout.size, *(bundle.depth for bundle in self.layout.bundles)])
        return {"pairs": self.like.new_empty(-(-widest // 2) * self.kind.lanes)} if self.kind.mixed else {}

    def _matrix(self, name):
        """A matrix by its name, packed."""
        direction, bundle, part, which = name
        matrix = self.given[bundle, part]
        if direction == "forward":
            if self.kind.alone and X in bundle.spans:
                matrix = matrix[slice(*self.step.multiplied(bundle))]
            return self._packed(matrix[:, which[0] - part[0] : which[1] - part[0]].t())
        start, end = bundle.spans[which]
        return self._packed(matrix[start:end])

    def _packed(self, matrix):
        if self.kind.alone:
            matrix = torch.nn.functional.pad(matrix, (0, 0, 0, -len(matrix) % self.kind.tall))
        if self.kind.mixed:
            even = torch.nn.functional.pad(matrix, (0, 1)) if matrix.shape[1] % 2 else matrix
            matrix = even.bfloat16().contiguous().view(torch.int32)
        return torch.cat(matmul.packed(matrix, self.kind.tall))

    def results(self):
        """What goes up, (T, B, n) each, then the last states, (B, n) each."""
        last = (self.over_time(self.step.state[name], self.n)[-1] for name in self.names)
        return *(self._up(node) for node in self.cut.up.values()), *(a.t().clone() for a in last)

    def _up(self, node):
        place = self.step.nodes[node][0]
        return self.over_time(place, self.n)[int(place.kind == kernels.NEXT) :].transpose(1, 2)

    def over_time(self, place, width):
        """The values of a place at all steps, (time, width, B)."""
        return self.arrays[place.array][:, place.start : place.start + width, : self.B]

    def padded(self, a):
        """(T, B, n) -> (T, n, lanes)."""
        new = self.like.new_empty(a.shape[0], a.shape[2], self.lanes)
        new[..., : self.B].copy_(a.transpose(1, 2))
        new[..., self.B :] = 0
        return new

    def _fill(self):
        """Inputs and first states; lanes that are there to fill a block are 0."""
        for bundle in self.layout.bundles:
            if X in bundle.spans:
                start, end = bundle.spans[X]
                array = self.arrays["value", bundle]
                array[: self.T, start:end, : self.B].copy_(self.given["x"].transpose(1, 2))
                array[: self.T, start:end, self.B :] = 0
                array[:, -1].fill_(1.0)
                if self.kind.alone:
                    self._multiply_inputs(bundle)
        for name, place in self.step.state.items():
            first = self.arrays[place.array][0, place.start : place.start + self.n]
            first[:, : self.B].copy_(self.given[name].t())
            first[:, self.B :] = 0
        for name in self.cut.named:
            if name not in self.step.state:
                a = self.given[name]
                if a.dim() == 1 and name.startswith("below."):  # nothing is below
                    a = a.expand(1, self.B, -1)
                self.arrays["given", name] = self.padded(a) if a.dim() == 3 else a.contiguous()

    def _multiply_inputs(self, bundle):
        """Puts the products of the input into the rows, at all steps at once."""
        start, end = bundle.spans[X]
        for a, b in bundle.parts:
            matrix, rows = self.given[bundle, (a, b)], self.arrays["value", "rows"]
            torch.addmm(matrix[-1], self.given["x"][:, 0], matrix[start:end], out=rows[:, a:b, 0])


class Backward:
    """The `gradients` by name from `slopes`: those of what went up (T, B, n), then those of the last states (B, n)."""

    def __init__(self, done, slopes, wanted):
        self.done, self.layout, self.cut, self.like = done, done.layout, done.cut, done.like
        arrays, self.matrices = {}, [name for name in wanted if isinstance(name, tuple)]
        for name, slope in zip(self.cut.up, slopes, strict=False):
            arrays["above", name] = done.padded(slope)
        for name, slope in zip(done.names, slopes[len(self.cut.up) :], strict=True):
            arrays["carry", name] = self.like.new_zeros(2, done.n, done.lanes)
            arrays["carry", name][done.T % 2, :, : done.B].copy_(slope.t())
        named = [name for name in (*self.cut.named, "x") if name in wanted and name not in done.names]
        for name in named:
            given = done.given[name]
            steps, rows = given.shape[::2] if given.dim() == 3 else (1, len(given))
            arrays["change", name] = self.like.new_zeros(steps, rows, done.lanes)
        own = [self._own() for _ in range(done.threads)]
        done.run("backward", arrays, own, frozenset(wanted))
        self.gradients = {name: arrays["carry", name][0, :, : done.B].t() for name in done.names}
        for name in named:
            change = arrays["change", name][..., : done.B]
            summed = done.given[name].dim() == 1
            self.gradients[name] = change.sum((0, 2)) if summed else change.transpose(1, 2)
        for name in self.matrices:
            K, R = done.given[name].shape
            self.gradients[name] = sum(mine["weights", *name] for mine in own)[:K, :R]

    def _own(self):
        """What a thread has for itself."""
        kind, new, width = self.done.kind, self.like.new_empty, self.done.kind.width
        own = {("slope", node): new(1, self.done.step.width(node), kind.lanes) for node in self.cut.nodes.values()}
        own["rows"] = new(kind.chunk, self.layout.size, kind.lanes)
        for bundle, part in self.matrices:
            K, R = self.done.given[bundle, part].shape
            own["weights", bundle, part] = self.like.new_zeros(kernels.whole(K, width), kernels.whole(R, width))
        deepest = max((bundle.depth for bundle in self.layout.bundles), default=0)
        for side, rows in (("left", deepest), ("right", self.layout.size)):
            own[f"{side} panels"] = new(kernels.whole(rows, width) * kind.chunk * kind.lanes)
        return own | self.done.own()
