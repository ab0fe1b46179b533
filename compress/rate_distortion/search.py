"""Find the step that meets what is asked for: a size, an error, or a number of layers.

How size and error depend on the step follows the water-filling of the adapter's own spectrum up to
a factor that hardly changes. So each attempt corrects that factor, and a few are enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from compress.layers import Unit
from compress.rate_distortion import segment, side
from compress.rate_distortion.attempts import Attempt, Goal, Tried
from compress.rate_distortion.choice import reach
from compress.rate_distortion.components import Components
from compress.rate_distortion.encoder import Options, Segment, encode, spectrum
from compress.rate_distortion.method import Rd
from compress.rate_distortion.segment import Guess
from compress.water_filling import Spectrum, fill, price_for_bits, price_for_error

_ATTEMPTS = 8
#: The error of a description against that of the best coder, to begin with.
_USUAL_RATIO = 1.05
#: Logarithms of prices further from the first one only ask for what no float can say.
_FURTHEST = 20.0
#: How often modules whose error is beyond their limit get a step of their own.
_ROUNDS = 8
#: What such a step aims at, of the limit, and the finest it may be, of the coarsest.
_WITHIN, _FINEST = 0.985, 1e-6
#: Steps of gains in an octave: a rounding error of a gain is 0.2 divided by them.
_LEAST_STEPS = 16


@dataclass(frozen=True, slots=True)
class Search:
    """Hold what an attempt needs.

    Attributes:
        modules: what is described.
        method: what is asked for.
        parameters: elements that bits are counted for.
        overhead: gives the bytes that a file takes beside its segments.
        progress: called after every attempt with those done and those expected.
        learned: what attempts learned about classes so far.
        margin: how many times finer or smaller than asked for to aim.
        whole: the spectrum of all modules.
    """

    modules: Sequence[Components]
    method: Rd
    parameters: int
    overhead: Callable[[Sequence[Segment]], int]
    progress: Callable[[int, int], None]
    learned: Guess = field(default_factory=dict)
    margin: float = 1.0
    whole: Spectrum = field(init=False)

    def __post_init__(self) -> None:
        """Gather the spectrum once; every attempt asks for it."""
        object.__setattr__(self, "whole", spectrum(self.modules, (1.0,) * len(self.modules)))

    def run(self) -> Attempt:
        """Find the smallest description that is fine enough, or the finest that is small enough.

        A module whose own error is limited gets a step of its own where the common one is too
        coarse for it; then the common one is sought again.
        """
        own = (math.inf,) * len(self.modules)
        best = self._for_step(own)
        limit = (self.method.max_module_error or math.inf) / self.margin
        for _ in range(_ROUNDS):
            finer = tuple(
                self._own_step(number, best, limit) if error > limit else step
                for number, (error, step) in enumerate(zip(best.errors, own, strict=True))
            )
            if finer == own:
                break
            own = finer
            best = self._for_step(own)
        return best

    def _own_step(self, number: int, attempt: Attempt, limit: float) -> float:
        """Give the step with which a module keeps its limit: as its spectrum says, then finer."""
        used = attempt.options.steps[number]
        if used < attempt.options.step:
            return max(used * _WITHIN * limit / attempt.errors[number], _FINEST * used)
        alone = spectrum([self.modules[number]], [1.0])
        said = _step(price_for_error(alone, min(0.999, _WITHIN * limit / _USUAL_RATIO)))
        return min(said, _WITHIN * used)

    def _for_step(self, own: tuple[float, ...]) -> Attempt:
        if not self.whole.energies.sum():
            return self._attempt(1.0, own)
        if self.method.layers is not None:
            return self._attempt(self._step_for_layers(self.method.layers), own)
        if self.method.max_error is not None:
            return self._for_error(own, self.method.max_error / self.margin)
        if self.method.bits is not None:
            return self._for_bits(own, self.method.bits / self.margin * self.parameters)
        # where no module errs more, neither do all together
        return self._for_error(own, (self.method.max_module_error or 1.0) / self.margin)

    def _for_bits(self, own: tuple[float, ...], aim: float) -> Attempt:
        """Take the description with the least error whose bits are not more than the aim."""
        beside = 8.0 * self.overhead(())
        first = price_for_bits(self.whole, max(64.0, aim - beside))

        def excess(attempt: Attempt) -> float:
            return math.log(max(1.0, 8 * attempt.size_bytes - beside) / max(1.0, aim - beside))

        goal = Goal(excess, lambda attempt: attempt.error, slope=-0.6)
        return self._close_in(first, own, goal)

    def _for_error(self, own: tuple[float, ...], error: float) -> Attempt:
        """Take the smallest description whose error is not more than the aim."""
        first = price_for_error(self.whole, min(0.9999, error / _USUAL_RATIO))

        def excess(attempt: Attempt) -> float:
            return math.log(max(attempt.error, 1e-9) / error)

        goal = Goal(excess, lambda attempt: attempt.size_bytes, slope=0.4)
        return self._close_in(first, own, goal)

    def _close_in(self, price: float, own: tuple[float, ...], goal: Goal) -> Attempt:
        """Follow the logarithm of price until the excess is just below zero.

        Where the excess jumps from one side of zero to the other, because components come or go
        together, the finer step is taken with as many of them as there is room for.

        Args:
            price: of a bit, where to begin.
            own: by module, the coarsest step that its own limit allows.
            goal: what is wanted.
        """
        tried = Tried(goal)
        at = math.log(price)
        for done in range(_ATTEMPTS):
            self.progress(done, _ATTEMPTS)
            tried.add(at, self._attempt(_step(math.exp(at)), own))
            if tried.close_enough(done) or tried.jumps:
                break
            at = _within(tried.next_price(), math.log(price))
        if tried.jumps:
            self._fill_up(tried, own)
        return tried.best

    def _fill_up(self, tried: Tried, own: tuple[float, ...]) -> None:
        """Try how many components may come where they come together, then the step for so many."""
        fewest, most = sorted(_components(attempt) for attempt in tried.around())
        step = tried.finer().options.step
        while most - fewest > 1 and not tried.close_enough(_ATTEMPTS):
            middle = (fewest + most) // 2
            attempt = self._attempt(step, own, most_components=middle)
            excess = tried.consider(attempt)
            enough = excess <= 0 if tried.goal.slope > 0 else excess > 0
            fewest, most = (fewest, middle) if enough else (middle, most)
        if not fewest:
            return
        refined, at = Tried(tried.goal), math.log(segment.PER_BIT * step**2)
        for done in range(_ATTEMPTS // 2):
            attempt = self._attempt(_step(math.exp(at)), own, most_components=fewest)
            tried.consider(attempt)
            refined.add(at, attempt)
            if refined.close_enough(done):
                break
            at = _within(refined.next_price(), math.log(segment.PER_BIT * step**2))

    def _gain_steps(self, step: float) -> int:
        """Choose how finely gains are told: much finer than the error that the step leaves."""
        total = float(self.whole.energies.sum())
        if not total:
            return _LEAST_STEPS
        left = fill(self.whole, segment.PER_BIT * step**2).remaining / total
        wanted = math.ceil(math.log2(2 / max(math.sqrt(left), 1e-6)))
        return min(max(1 << max(0, wanted), _LEAST_STEPS), side.MAX_GAIN_STEPS)

    def _step_for_layers(self, layers: int) -> float:
        """Give the step with which the strongest vector just fills so many layers."""
        strongest = max(
            float(module.sigmas[0]) * module.scale / math.sqrt(min(module.sizes))
            for module in self.modules
            if len(module.sigmas)
        )
        return strongest / reach(layers)

    def _attempt(
        self, step: float, own: tuple[float, ...], *, most_components: int | None = None
    ) -> Attempt:
        scales = [module.scale for module in self.modules if module.scale > 0]
        options = Options(
            step=step,
            own_steps=own,
            unit=Unit(step / (float(np.median(scales)) if scales else 1.0), self._gain_steps(step)),
            keep_modules=not self.method.drop_modules,
            most_components=most_components,
        )
        if self.method.layers is not None:
            options = replace(options, max_planes=self.method.layers)
        segments = tuple(encode(self.modules, options, learned=self.learned))
        size = sum(one.size_bytes for one in segments) + self.overhead(segments)
        left = [energy for one in segments for energy in one.left_over]
        norms = [float(module.energies.sum()) for module in self.modules]
        errors = tuple(_relative(a, b) for a, b in zip(left, norms, strict=True))
        return Attempt(options, segments, size, errors, _relative(sum(left), sum(norms)))


def _components(attempt: Attempt) -> int:
    """Count what is described for its own sake."""
    return sum(segment.worthwhile for segment in attempt.segments)


def _within(at: float, first: float) -> float:
    return min(max(at, first - _FURTHEST), first + _FURTHEST)


def _step(price: float) -> float:
    return math.sqrt(price / segment.PER_BIT)


def _relative(left: float, whole: float) -> float:
    return math.sqrt(max(0.0, left) / whole) if whole else 0.0
