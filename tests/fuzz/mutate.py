"""Mutated inputs from a corpus and a dictionary: the same seed and number give the same octets, for ever.

No coverage guidance: the parsers are small and the corpus reaches every branch; what is sought is the odd
combination. The octets of run i of a seed can be had alone, so a finding is named by (target, seed, i).
"""

import random
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
INPUT_MAX = 8192
ODD = [0, 1, 9, 10, 11, 12, 13, 31, 32, 33, 34, 35, 44, 45, 47, 48, 57, 58, 59, 61, 64, 92, 127, 128, 160, 255]


def corpus(target: str) -> list[bytes]:
    """The seeds of a target, in the order of their names."""
    return [path.read_bytes() for path in sorted((HERE / "corpus" / target).iterdir())]


def dictionary() -> list[bytes]:
    """The tokens of http.dict."""
    tokens = []
    for line in (HERE / "http.dict").read_text().splitlines():
        if match := re.fullmatch(r'"(.*)"', line):
            tokens.append(match[1].encode("ascii").decode("unicode_escape").encode("latin-1"))
    return tokens


class Mutator:
    """Makes inputs for one target."""

    def __init__(self, target: str, seed: int) -> None:
        self.target = target
        self.seed = seed
        self.seeds = corpus(target)
        self.tokens = dictionary()

    def input(self, number: int) -> tuple[bytes, random.Random]:
        """The octets of run number, and the generator to draw the rest of that run from (cuts, sizes)."""
        rng = random.Random(f"{self.target}/{self.seed}/{number}")
        data = rng.choice(self.seeds)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
            data = self._once(data, rng)
        return data[:INPUT_MAX], rng

    def _once(self, data: bytes, rng: random.Random) -> bytes:
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 64)))
        match rng.randrange(9):
            case 0:  # one octet becomes an odd one
                return data[:at] + bytes([rng.choice(ODD)]) + data[at + 1 :]
            case 1:  # one bit
                return (
                    data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if at < len(data) else data
                )
            case 2:
                return data[:at] + rng.choice(self.tokens) + data[at:]
            case 3:
                return data[:at] + rng.choice(self.tokens) + data[end:]
            case 4:
                return data[:at] + data[end:]
            case 5:
                return data[:end] + data[at:end] * rng.choice((1, 2, 40)) + data[end:]
            case 6:  # the head of one, the tail of another
                other = rng.choice(self.seeds)
                return data[:at] + other[rng.randint(0, len(other)) :]
            case 7:  # a token where a line begins
                starts = [match.end() for match in re.finditer(rb"\n", data)] or [0]
                line = rng.choice(starts)
                return data[:line] + rng.choice(self.tokens) + data[line:]
            case _:  # lines change places
                lines = data.split(b"\r\n")
                one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[one], lines[two] = lines[two], lines[one]
                return b"\r\n".join(lines)
