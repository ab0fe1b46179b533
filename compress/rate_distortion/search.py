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
from compress.rate_distortion.choice import reach
from compress.rate_distortion.components import Components
from compress.rate_distortion.encoder import Options, Segment, encode, spectrum
from compress.rate_distortion.method import Rd
from compress.rate_distortion.segment import Guess
from compress.water_filling import Spectrum, fill, price_for_bits, price_for_error

_ATTEMPTS = 8
#: How far below what is asked for is close enough, as a logarithm; more with every attempt.
_CLOSE = 0.004
#: The error of a description against that of the best coder, to begin with.
_USUAL_RATIO = 1.05
#: What a slope may be against the usual one.
_FLATTEST, _STEEPEST = 0.15, 2.0
_BOOST = 1.25
#: Steps of gains in an octave: a rounding error of a gain is 0.2 divided by them.
_LEAST_STEPS = 16
_MAX_BOOST = 64.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Hold an adapter as one step describes it.

    Attributes:
        options: the step and the boosts.
        segments: what came out.
        size_bytes: of the compressed part, names and all.
        errors: estimated relative error by module.
        error: estimated relative error over all modules.
    """

    options: Options
    segments: tuple[Segment, ...]
    size_bytes: int
    errors: tuple[float, ...]
    error: float


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
    """

    modules: Sequence[Components]
    method: Rd
    parameters: int
    overhead: Callable[[Sequence[Segment]], int]
    progress: Callable[[int, int], None]
    learned: Guess = field(default_factory=dict)
    margin: float = 1.0

    def run(self) -> Attempt:
        """Find the coarsest description that is fine enough, or the finest that is small enough."""
        boosts = (1.0,) * len(self.modules)
        best = self._for_step(boosts)
        asked = self.method.max_module_error
        limit = None if asked is None else asked / self.margin
        while limit is not None and max(best.errors, default=0.0) > limit:
            finer = tuple(
                boost * max(_BOOST, error / limit) if error > limit else boost
                for boost, error in zip(boosts, best.errors, strict=True)
            )
            if max(finer) > _MAX_BOOST:
                break
            boosts = finer
            best = self._for_step(boosts)
        return best

    def _for_step(self, boosts: tuple[float, ...]) -> Attempt:
        whole = spectrum(self.modules, boosts)
        if not whole.energies.sum():
            return self._attempt(1.0, boosts)
        if self.method.layers is not None:
            return self._attempt(self._step_for_layers(self.method.layers), boosts)
        if self.method.max_error is not None:
            return self._for_error(whole, boosts, self.method.max_error / self.margin)
        bits = (self.method.bits or 0.0) / self.margin
        return self._for_bits(whole, boosts, bits * self.parameters)

    def _for_bits(self, whole: Spectrum, boosts: tuple[float, ...], aim: float) -> Attempt:
        """Take the finest step whose bits are not more than the aim."""
        beside = 8.0 * self.overhead(())
        first = price_for_bits(whole, max(64.0, aim - beside))

        def excess(attempt: Attempt) -> float:
            return math.log(max(1.0, 8 * attempt.size_bytes - beside) / max(1.0, aim - beside))

        return self._close_in(first, boosts, excess, slope=-0.6)

    def _for_error(self, whole: Spectrum, boosts: tuple[float, ...], error: float) -> Attempt:
        """Take the coarsest step whose error is not more than the aim."""
        first = price_for_error(whole, min(0.9999, error / _USUAL_RATIO))

        def excess(attempt: Attempt) -> float:
            return math.log(max(attempt.error, 1e-9) / error)

        return self._close_in(first, boosts, excess, slope=0.4)

    def _close_in(
        self,
        price: float,
        boosts: tuple[float, ...],
        excess: Callable[[Attempt], float],
        *,
        slope: float,
    ) -> Attempt:
        """Follow the logarithm of price until the excess is just below zero (regula falsi).

        Args:
            price: of a bit, where to begin.
            boosts: by module.
            excess: what the result is more than asked for, as a logarithm; the price moves it.
            slope: about how much a logarithm of price moves it.
        """
        at, tried = math.log(price), []
        best = nearest = None
        for done in range(_ATTEMPTS):
            self.progress(done, _ATTEMPTS)
            attempt = self._attempt(_step(math.exp(at)), boosts)
            found = excess(attempt)
            tried.append((at, found))
            if nearest is None or found < nearest[0]:
                nearest = (found, attempt)
            if found <= 0 and (best is None or found > best[0]):
                best = (found, attempt)
            if best is not None and best[0] >= -_CLOSE * (1 + done / 2):
                break
            at = _next_price(tried, slope)
        chosen = best or nearest
        return chosen[1] if chosen else self._attempt(1.0, boosts)

    def _gain_steps(self, step: float) -> int:
        """Choose how finely gains are told: much finer than the error that the step leaves."""
        whole = spectrum(self.modules, (1.0,) * len(self.modules))
        total = float(whole.energies.sum())
        if not total:
            return _LEAST_STEPS
        left = fill(whole, segment.PER_BIT * step**2).remaining / total
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

    def _attempt(self, step: float, boosts: tuple[float, ...]) -> Attempt:
        scales = [module.scale for module in self.modules if module.scale > 0]
        options = Options(
            step=step,
            boosts=boosts,
            unit=Unit(step / (float(np.median(scales)) if scales else 1.0), self._gain_steps(step)),
            keep_modules=not self.method.drop_modules,
        )
        if self.method.layers is not None:
            options = replace(options, max_planes=self.method.layers)
        segments = tuple(encode(self.modules, options, learned=self.learned))
        size = sum(one.size_bytes for one in segments) + self.overhead(segments)
        left = [energy for one in segments for energy in one.left_over]
        norms = [float(module.energies.sum()) for module in self.modules]
        errors = tuple(_relative(a, b) for a, b in zip(left, norms, strict=True))
        return Attempt(options, segments, size, errors, _relative(sum(left), sum(norms)))


def _next_price(tried: Sequence[tuple[float, float]], slope: float) -> float:
    """Give the next logarithm of price from those tried and the excess that each gave.

    It aims a little below zero, within the closest points on either side if there are both.
    """
    aim = -_CLOSE / 2
    above = min((point for point in tried if point[1] > 0), key=lambda p: p[1], default=None)
    below = max((point for point in tried if point[1] <= 0), key=lambda p: p[1], default=None)
    if above is not None and below is not None and above[1] - below[1] > 1e-9:
        share = (aim - below[1]) / (above[1] - below[1])
        return below[0] + min(0.9, max(0.1, share)) * (above[0] - below[0])
    at, found = above or below or tried[-1]
    return at - (found - aim) / _seen_slope(tried, slope)


def _seen_slope(tried: Sequence[tuple[float, float]], slope: float) -> float:
    """Take the slope between the last two tried, within bounds around the usual one."""
    if len(tried) < 2 or abs(tried[-1][0] - tried[-2][0]) < 1e-6:
        return slope
    (at, found), (before_at, before) = tried[-1], tried[-2]
    share = (found - before) / (at - before_at) / slope
    return slope * min(_STEEPEST, max(_FLATTEST, share))


def _step(price: float) -> float:
    return math.sqrt(price / segment.PER_BIT)


def _relative(left: float, whole: float) -> float:
    return math.sqrt(max(0.0, left) / whole) if whole else 0.0
