"""What every space must keep: it counts, lists, draws and mutates genotypes, and knows no torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from polymix import seeds
from polymix.genotype import Genotype, parse_genotype


class SpaceContract:
    """What a space promises. A subclass defines `make`.

    A space has `__len__`, `__iter__`, `__contains__`, `sample(rng)` and `mutate(genotype, rng)`.
    """

    draws = 200

    def make(self) -> Any:
        """A space of some dozens of genotypes."""
        raise TypeError(f"{type(self).__name__} must define make")

    def test_count(self) -> None:
        """It lists as many as it counts, each once, and all of them its own."""
        space = self.make()
        listed = list(space)
        assert len(listed) == len(space) > 0
        assert len(set(listed)) == len(listed)
        assert len({genotype.digest for genotype in listed}) == len(listed)
        assert all(genotype in space for genotype in listed)

    def test_sample(self) -> None:
        """Samples lie inside, repeat with the seed, and reach everything, about equally."""
        space = self.make()
        drawn = [space.sample(seeds.stream(0, "space", i)) for i in range(self.draws)]
        again = [space.sample(seeds.stream(0, "space", i)) for i in range(self.draws)]
        assert drawn == again
        assert all(genotype in space for genotype in drawn)
        rng = seeds.stream(0, "uniform")
        many = [space.sample(rng) for _ in range(60 * len(space))]
        counts = [many.count(genotype) for genotype in space]
        # 60 expected of each, with a standard deviation of less than 8.
        assert min(counts) > 20
        assert max(counts) < 100

    def test_mutate(self) -> None:
        """A mutation is another genotype of the space; the genotype itself only if it is alone."""
        space, rng = self.make(), seeds.stream(0, "mutate")
        genotype = space.sample(rng)
        for _ in range(self.draws):
            other = space.mutate(genotype, rng)
            assert other in space
            assert (other == genotype) == (len(space) == 1)
            genotype = other

    def test_json(self) -> None:
        """Genotypes come back from their JSON as they were."""
        for genotype in self.make():
            text = genotype.to_json()
            back = parse_genotype(text)
            assert back == genotype
            assert hash(back) == hash(genotype)
            assert back.to_json() == text

    def test_frozen(self) -> None:
        """Genotypes cannot be changed."""
        genotype: Genotype = next(iter(self.make()))
        for name in type(genotype).model_fields:
            try:
                setattr(genotype, name, None)
            except ValueError:
                continue
            raise AssertionError(f"{name} could be set")

    def test_no_torch(self) -> None:
        """Neither the space nor its genotypes need torch."""
        space = self.make()
        modules = {type(space).__module__, type(next(iter(space))).__module__}
        code = f"import sys, {', '.join(sorted(modules))}; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
